"""Events: validated, stored, and broadcast to subscribers."""
