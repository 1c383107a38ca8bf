"""Programs of the benchmark that run as processes of their own: an upstream, and proxies written for it."""
