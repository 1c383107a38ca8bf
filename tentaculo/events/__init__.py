"""Events: validated at the door, stored, and broadcast to whoever listens."""
