"""What the history of a service says about its next hours."""
