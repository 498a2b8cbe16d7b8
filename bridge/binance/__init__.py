"""The exchange's edge: connectors that deliver frames, and REST. Knows nothing of the sinks."""
