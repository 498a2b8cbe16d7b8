"""The published events and the streams they come from."""
