"""Client connections: accept, read one request, hand it on, write refusals."""
