"""Bytes and sockets: HTTP/1.1 syntax, request targets, response bytes, TCP options."""
