"""The commands: from argv to what they print."""
