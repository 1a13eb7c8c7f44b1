"""Serving for FuseML by the Python server of Seldon Core.

The server runs in an environment with `seldon-core`; the model runs in its own, in a process behind it. Between them
lies a Unix socket.
"""
