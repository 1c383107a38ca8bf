"""The demonstration: nine small real services with the ports, paths and faults of a fleet."""
