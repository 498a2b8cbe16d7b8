"""Builds everything and runs it: the only part that knows all others."""
