"""What is published, and the streams it comes from."""
