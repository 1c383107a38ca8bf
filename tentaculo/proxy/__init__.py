"""Forwarding: from a raw request target to an upstream and back, byte for byte."""
