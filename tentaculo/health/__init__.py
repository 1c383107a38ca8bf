"""Health: what each service's state is, since when and why."""
