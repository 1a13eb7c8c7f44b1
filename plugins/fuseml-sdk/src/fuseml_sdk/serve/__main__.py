"""`python -m fuseml_sdk.serve module:attribute`: serve a plugin on file descriptor 3."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import stat
import sys
from pathlib import Path

from fuseml_sdk.errors import PluginError
from fuseml_sdk.serve import configuration, lifeline

#: The listening socket, bound by the host.
LISTENER = 3
#: The read end of the lifeline pipe.
LIFELINE = 4

USAGE = """usage: python -m fuseml_sdk.serve MODULE:ATTRIBUTE [--socket PATH | --asgi HOST:PORT ...]

Serves the plugin object on the listening socket that is file descriptor 3, until SIGTERM or until the pipe that is
file descriptor 4 ends. With --socket it listens on a socket of its own, for trying things out:

    python -m fuseml_sdk.serve my_plugin:plugin --socket /tmp/p.sock &
    curl --unix-socket /tmp/p.sock http://plugin/v1/describe

With --asgi it listens on TCP, by uvicorn (pip install 'fuseml-sdk[asgi]'); its options: --asgi 127.0.0.1:0 --help

The configuration is JSON {"config", "state_dir", "drain_seconds"} on standard input, or in the file of mode 0600 that
FUSEML_PLUGIN_CONFIG names.
"""


def main(arguments: list[str]) -> int:
    """Serve until told to stop. Returns the exit code."""
    if "--asgi" in arguments:
        from fuseml_sdk.serve import tcp

        return tcp.main(arguments)
    if len(arguments) not in (1, 3) or arguments[0] in ("-h", "--help") or (
            len(arguments) == 3 and arguments[1] != "--socket"):
        sys.stderr.write(USAGE)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    faulthandler.enable()
    os.dup2(2, 1)  # Whatever the plugin prints belongs to the log, at once and by whatever means.
    sys.stdout = sys.stderr
    try:
        listener = _listener(Path(arguments[2]) if len(arguments) == 3 else None)
        settings = configuration.read()
        Path(settings.state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chdir(settings.state_dir)
    except (OSError, PluginError) as error:
        sys.stderr.write(f"fuseml_sdk.serve: {error}\n")
        return 2
    return _serve(arguments[0], settings, listener)


def _serve(address: str, settings: configuration.Configuration, listener: socket.socket) -> int:
    from fuseml_sdk.serve.application import Application
    from fuseml_sdk.serve.server import Server
    from fuseml_sdk.serve.tracing import VARIABLE, traced

    application = Application(address, settings)
    server = Server(listener, traced(application.respond, os.environ.get(VARIABLE, "")))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    # The handler runs in this thread alone, but the signal may come to another, or just before this one waits.
    signal.set_wakeup_fd(server.wake_descriptor, warn_on_full_buffer=False)
    server.run()
    done = server.drain(settings.drain_seconds)
    if done:
        application.close()
    else:
        sys.stderr.write(f"fuseml_sdk.serve: calls were still running after {settings.drain_seconds:g} s\n")
    sys.stderr.flush()
    # Threads of the plugin must not keep a drained process alive.
    os._exit(0 if done else 1)


def _listener(path: Path | None) -> socket.socket:
    if path is not None:
        path.unlink(missing_ok=True)
        own = socket.socket(socket.AF_UNIX)
        own.bind(str(path))
        path.chmod(0o600)
        own.listen(64)
        return own
    try:
        passed = socket.socket(fileno=LISTENER)
        passed.getsockname()
        pipe = stat.S_ISFIFO(os.fstat(LIFELINE).st_mode)
    except OSError:
        pipe = False
    if not pipe:
        raise OSError("file descriptors 3 and 4 are not the listening socket and the lifeline pipe of a host; "
                      "use --socket PATH to listen on a socket of your own")
    passed.set_inheritable(False)
    lifeline.watch(LIFELINE)
    return passed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
