"""The gateway's own paths: the seed's JSON shapes, the status page, and what guards them."""
