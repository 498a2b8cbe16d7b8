"""The destinations of records, Kafka and Redis.

Each sink has a buffer, a policy for a full buffer, and one task that drains it. The sinks and the
exchange side never import each other.
"""
