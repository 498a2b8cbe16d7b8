"""The exchange's edge: legs that deliver frames, and REST. Knows nothing of the sinks."""
