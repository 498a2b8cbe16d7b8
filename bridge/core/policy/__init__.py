"""When a connection is silent, too old or too soon."""
