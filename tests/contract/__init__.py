"""One suite per port or schema, over every adapter and example."""
