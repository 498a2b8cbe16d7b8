"""What waits for Kafka, in memory and on disk."""
