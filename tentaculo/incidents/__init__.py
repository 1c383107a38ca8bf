"""What failed since when, and who is notified."""
