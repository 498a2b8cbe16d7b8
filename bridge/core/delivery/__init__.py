"""Records that were lost, restored from disk or announced as missing."""
