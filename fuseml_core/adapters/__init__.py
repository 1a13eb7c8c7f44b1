"""Adapters: what implements the ports of the core."""
