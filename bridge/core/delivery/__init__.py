"""What was given up, brought back or announced."""
