"""Several workers on one port: the supervisor that keeps them running, and the messages that they exchange.

supervisor: reserves the ports → starts the workers → replaces those that end → stops them all
worker: a whole gateway; the first one probes, alerts and writes history, and sends the results to the others over their channels

The supervisor is a process of its own and imports neither aiohttp nor SQLAlchemy. A single gateway loads none of this.
"""
