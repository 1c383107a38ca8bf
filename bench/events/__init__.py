"""The events of the gateway beside brokers and databases: fan-out to many listeners."""
