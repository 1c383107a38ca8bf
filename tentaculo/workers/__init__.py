"""Several workers on one port: the supervisor that keeps them running, and what they tell each other.

supervisor: reserve the ports → start the workers → replace those that end → stop them all
worker: a whole gateway; the first one probes, alerts and writes history, and the others hear of it over their lines

The supervisor is a process of its own and imports neither aiohttp nor SQLAlchemy. A single gateway loads none of this.
"""
