"""The control process: API and engine on a private Unix socket. `python -m fuseml_core.control`."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import cast

from fuseml_core.domain.errors import FusemlError
from fuseml_core.gateway.asgi import ASGIApp
from fuseml_core.launcher.directories import prepare_directories
from fuseml_core.launcher.process import configure_logging, read_descriptors, serve, take_place
from fuseml_core.launcher.sockets import listen_unix
from fuseml_core.settings import from_environment


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the API until a signal comes or the launcher is gone; workloads are left as they are."""
    descriptors = read_descriptors("fuseml_core.control", arguments)
    settings = from_environment()
    prepare_directories(settings)
    configure_logging(settings)
    take_place("control", settings)  # held until the process has ended
    # A collection finds nothing while modules are loaded, and goes through all of them again and again.
    gc.disable()
    from fuseml_core.api.app import create_app

    try:
        app = cast("ASGIApp", create_app(settings))
    except FusemlError as error:  # such as a database that cannot be used: for people, who read it in the log
        raise SystemExit(str(error)) from None
    gc.freeze()
    gc.enable()

    listener = listen_unix(settings.control_socket)
    try:
        serve("control", app, [listener], descriptors, settings)
    finally:
        settings.control_socket.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
