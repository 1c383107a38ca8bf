"""The proxies: how each is configured and started. Every file makes its peer's configuration for a `Site`."""
