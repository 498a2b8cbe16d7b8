"""Where records go. Each sink has its buffer, its policy when behind, and one task that drains it.

The sinks and the exchange's side never import each other.
"""
