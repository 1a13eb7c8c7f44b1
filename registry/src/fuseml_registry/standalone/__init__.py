"""A registry with a server of its own."""
