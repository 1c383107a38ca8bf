"""Which callers are accepted: tokens and origins."""
