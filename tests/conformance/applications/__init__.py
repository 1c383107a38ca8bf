"""Applications of others behind the gateway, used by their own clients: what each does directly it does here too."""
