"""Tentáculo Link: the front door of a self-hosted fleet of HTTP services."""

__version__ = "8.0.0"
