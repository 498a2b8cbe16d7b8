"""The Redis sink: the fast path."""
