"""Builds everything and runs it: the only part that imports all others."""
