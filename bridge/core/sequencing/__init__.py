"""Each stream once and in order."""
