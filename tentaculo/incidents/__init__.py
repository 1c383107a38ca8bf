"""Incidents: when they open and end, and the alerts about them."""
