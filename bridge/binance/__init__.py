"""The exchange's edge: connections that deliver frames, and REST. It imports nothing of the
sinks.
"""
