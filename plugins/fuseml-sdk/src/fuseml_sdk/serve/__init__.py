"""The serve runtime: one plugin behind a socket, speaking HTTP/1.1 and JSON, with the standard library alone.

Its only peer is the host, over a socket that only the same user can open. Start-up time is what counts most here,
so nothing is imported that the calls do not need.
"""
