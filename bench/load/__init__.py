"""What asks: wrk, and programs of our own for what wrk does not do. Each program prints one JSON object."""
