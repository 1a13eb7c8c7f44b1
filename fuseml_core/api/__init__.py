"""The HTTP API of the control process."""
