"""Several processes that serve as one: a parent that owns the ports, and children that accept connections on them."""
