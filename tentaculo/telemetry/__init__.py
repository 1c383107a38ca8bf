"""What is logged and counted of requests."""
