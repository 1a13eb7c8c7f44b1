"""Garbage collection: mark what can be reached, sweep what cannot and is old, without ever racing a push."""
