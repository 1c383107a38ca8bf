"""Configuration: frozen values from TOML and the environment, every fault at once."""
