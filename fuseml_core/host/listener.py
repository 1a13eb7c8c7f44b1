"""The listening sockets that plugin processes are handed."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

_BACKLOG = 128


class Listener:
    """A Unix socket with a short random name, for this user only.

    Args:
        directory: Private directory (0700); its path must leave room for 16 characters of a socket address.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / f"p-{secrets.token_hex(4)}.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.bind(str(self.path))
            self.path.chmod(0o600)
            self.socket.listen(_BACKLOG)
        except OSError:
            self.socket.close()
            raise

    def close(self) -> None:
        """Close it and remove its name."""
        self.socket.close()
        self.path.unlink(missing_ok=True)


def remove_stale(directory: Path) -> None:
    """Remove sockets that a killed host left behind: those on which nobody listens."""
    for path in directory.glob("p-*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue
