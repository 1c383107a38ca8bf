"""One endpoint of a service: connections, response parsing, circuit breaker, and the choice among endpoints."""
