"""Pass the events of each stream once and in order."""
