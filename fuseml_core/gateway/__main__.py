"""The data process. `python -m fuseml_core.gateway`."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from fuseml_core.gateway.app import create_app
from fuseml_core.launcher.directories import prepare_directories
from fuseml_core.launcher.process import configure_logging, read_descriptors, serve, take_place
from fuseml_core.launcher.sockets import listen_tcp, listen_unix
from fuseml_core.settings import from_environment


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve on the launcher's sockets (or on own ones) until a signal comes or the launcher is gone."""
    descriptors = read_descriptors("fuseml_core.gateway", arguments)
    settings = from_environment()
    prepare_directories(settings)
    configure_logging(settings)
    take_place("data", settings)  # held until the process has ended
    tcp = socket.socket(fileno=descriptors.tcp) if descriptors.tcp >= 0 else listen_tcp(settings.port)
    unix = socket.socket(fileno=descriptors.unix) if descriptors.unix >= 0 else listen_unix(settings.data_socket)
    serve("data", create_app(settings), [tcp, unix], descriptors, settings)


if __name__ == "__main__":
    main()
