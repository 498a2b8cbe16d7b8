"""Rules for connections: silence, maximum age and rate limits."""
