"""`python -m fuseml_sdk.serve MODULE:ATTRIBUTE --asgi HOST:PORT`: serve a plugin on TCP, by uvicorn."""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import ipaddress
import os
import socket
import sys
from pathlib import Path
from types import FrameType

from fuseml_sdk.errors import InvalidInput, PluginError
from fuseml_sdk.serve import configuration, wire

#: Seconds that a connection may be idle; longer than callers keep theirs.
_KEEP_ALIVE = 75


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code."""
    given = _parser().parse_args(arguments)
    if importlib.util.find_spec("uvicorn") is None:
        sys.stderr.write("fuseml_sdk.serve: --asgi needs uvicorn; install it with: pip install 'fuseml-sdk[asgi]'\n")
        return 2
    faulthandler.enable()
    os.dup2(2, 1)  # Whatever the plugin prints belongs to the log, at once and by whatever means.
    sys.stdout = sys.stderr
    try:
        token = Path(given.token_file).absolute() if given.token_file else None
        certificate, key = (str(Path(name).absolute()) if name else None for name in (given.certificate, given.key))
        listener = _listener(given.asgi, token)
        settings = configuration.read()
        Path(settings.state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chdir(settings.state_dir)
    except (OSError, PluginError) as error:
        sys.stderr.write(f"fuseml_sdk.serve: {error}\n")
        return 2
    _serve(given.plugin, settings, listener, token=token, certificate=certificate, key=key)
    sys.stderr.flush()
    # Threads of the plugin must not keep a drained process alive.
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fuseml_sdk.serve", description="Serve a plugin on TCP, by uvicorn.",
        epilog=f"The configuration is read as without --asgi: from standard input or the file that "
        f"{configuration.FILE_VARIABLE} names.")
    parser.add_argument("plugin", metavar="MODULE:ATTRIBUTE", help="the plugin object")
    parser.add_argument("--asgi", metavar="HOST:PORT", required=True,
                        help="where to listen; port 0 takes a free one, which is written to standard error")
    parser.add_argument("--token-file", metavar="FILE", help="bearer token that callers must send; needed wherever "
                        "others than this machine can call. Read for every request, so that it can be changed")
    parser.add_argument("--certificate", metavar="FILE", help="PEM, to serve HTTPS")
    parser.add_argument("--key", metavar="FILE", help="PEM, the key of the certificate")
    return parser


def _listener(place: str, token: Path | None) -> socket.socket:
    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InvalidInput(f"{place!r} is not HOST:PORT", hint="Such as 127.0.0.1:8080 or [::1]:8080.")
    if token is None and not _is_loopback(host):
        raise InvalidInput(f"everybody who reaches {place} could call the plugin", hint="Give --token-file FILE.")
    if token is not None and not token.read_text().strip():
        raise InvalidInput(f"{token} is empty", hint="Write a long random token into it.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, because asyncio sets TCP_NODELAY only on sockets that name it.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(port)))
    listener.listen(128)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _serve(plugin: str, settings: configuration.Configuration, listener: socket.socket, *, token: Path | None,
           certificate: str | None, key: str | None) -> None:
    import uvicorn

    from fuseml_sdk.serve.asgi import AsgiRuntime

    class Server(uvicorn.Server):
        """Leaves in order at a signal; uvicorn's own would end the process by that signal afterwards."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
            self.should_exit = True

    config = uvicorn.Config(
        AsgiRuntime(plugin, settings, token_file=token), log_config=None, access_log=False, server_header=False,
        date_header=False, lifespan="on", ws="none", http="h11", loop="asyncio", proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE, timeout_graceful_shutdown=max(1, int(settings.drain_seconds)),
        h11_max_incomplete_event_size=2 * wire.MAX_HEAD, ssl_certfile=certificate, ssl_keyfile=key)
    host, port = listener.getsockname()[:2]
    scheme = "https" if certificate else "http"
    sys.stderr.write(f"serving {plugin} at {scheme}://{f'[{host}]' if ':' in host else host}:{port}\n")
    sys.stderr.flush()
    Server(config).run(sockets=[listener])
