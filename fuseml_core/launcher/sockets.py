"""The listening sockets of the data process. The launcher owns them, so a restart of the process refuses nobody."""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path

from fuseml_core.domain.errors import Conflict

BACKLOG = 1024
POLL = 0.1


def listen_tcp(port: int, patience: float = 0.0) -> socket.socket:
    """Listen on 127.0.0.1.

    Args:
        port: TCP port; 0 chooses a free one.
        patience: Seconds to wait for a port that is taken; sockets of a server that was killed take a moment.

    Raises:
        Conflict: Another program has the port.
    """
    until = time.monotonic() + patience
    while True:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            if error.errno == errno.EACCES or time.monotonic() >= until:
                raise _not_usable(port, error) from None
            time.sleep(POLL)
            continue
        return listener


def listen_unix(path: Path) -> socket.socket:
    """Listen on a Unix socket that only its owner may use; a left-over file of that name is removed."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def _not_usable(port: int, error: OSError) -> Conflict:
    why = "is taken by another program" if error.errno == errno.EADDRINUSE else "may not be used by this user"
    return Conflict(f"Port {port} on 127.0.0.1 {why}",
                    hint="Set FUSEML_PORT to another port, or to 0 to have a free one chosen; "
                         f"`ss -ltnp 'sport = :{port}'` shows who has it.", details={"port": port})
