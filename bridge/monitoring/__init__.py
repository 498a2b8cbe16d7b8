"""Health, metrics, status and logs of a running bridge."""
