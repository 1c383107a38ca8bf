"""The database: tables, named queries, and a recorder that never makes its caller wait."""
