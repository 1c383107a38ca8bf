"""Which callers are accepted: tokens, origins, trusted proxies."""
