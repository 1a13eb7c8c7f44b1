"""Serving a registry on a port of its own, until a signal comes."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from fuseml_registry.access.accounts import Accounts
from fuseml_registry.configuration import Configuration, Listen
from fuseml_registry.standalone.protocol import protocol
from fuseml_registry.standalone.site import Site
from fuseml_sdk.errors import InvalidInput, Permanent

log = logging.getLogger(__name__)
#: Seconds that open requests get at the end, and connections may be idle.
GRACE, KEEP_ALIVE = 30, 75
#: Connections at the same time, beyond the limit on requests.
CONNECTIONS = 1000
#: Seconds between looks for a renewed certificate.
RENEWAL = 10.0


class _Certificate:
    """Takes up a renewed certificate for new connections, so that renewal needs no restart."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        self._context, self._certificate, self._key = context, certificate, key
        self._seen = self._state()

    def refresh(self) -> None:
        """Load the files again if they changed; a pair that does not fit leaves the old one in use."""
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            # First elsewhere: a certificate without its key would spoil the context in use.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
            self._context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            log.error("the new certificate %s cannot be used, the old one stays: %s", self._certificate, error)
        else:
            log.info("the certificate %s was renewed", self._certificate)

    def _state(self) -> list[int]:
        try:
            return [path.stat().st_mtime_ns for path in (self._certificate, self._key)]
        except OSError:
            return []


class _Server(uvicorn.Server):
    """Uvicorn that says where it listens, and leaves with exit code 0 after a signal."""

    def __init__(self, config: uvicorn.Config, certificate: _Certificate | None, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._certificate, self._ready = certificate, ready
        self._looked = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Look now and then whether the certificate was renewed; uvicorn calls this ten times a second."""
        if self._certificate and time.monotonic() - self._looked > RENEWAL:
            self._looked = time.monotonic()
            self._certificate.refresh()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Finish open requests at the first signal, leave at once at the second."""
        self.force_exit = self.should_exit
        self.should_exit = True


def check_exposure(config: Configuration) -> None:
    """Refuse what would let strangers in by accident.

    Raises:
        InvalidInput: It would listen beyond loopback without TLS or authentication.
    """
    listen = config.listen
    if listen.allow_insecure or _is_loopback(listen.host):
        return
    missing = [what for what, there in (("TLS", listen.certificate), ("authentication", config.auth.method != "none"))
               if not there]
    if missing:
        raise InvalidInput(
            f"the registry would listen on {listen.host} without {' and '.join(missing)}: whoever reaches this machine "
            f"could {'change everything' if 'authentication' in missing else 'read the passwords'}",
            hint="give --tls-certificate and --tls-key, and --auth token with --users; or, behind a proxy that does "
                 "both, --allow-insecure")


def serve(config: Configuration, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; open requests are finished first.

    Args:
        config: Everything about the registry.
        say: Told a line when it is ready.

    Raises:
        InvalidInput: It must not, or cannot, listen as configured.
        Permanent: Another process serves the same directory.
    """
    check_exposure(config)
    if config.auth.users is not None and not Accounts(config.auth.users).names():
        raise InvalidInput(f"{config.auth.users} has no users",
                           hint=f"add one: fuseml registry user add NAME --users {config.auth.users}")
    listening = _listen(config.listen)
    with listening:
        scheme = "https" if config.listen.certificate else "http"
        host = f"[{config.listen.host}]" if ":" in config.listen.host else config.listen.host
        url = config.listen.external_url or f"{scheme}://{host}:{listening.getsockname()[1]}"
        made = _uvicorn(config)
        line = (f"The registry listens on {url} and keeps everything in {config.root}\n"
                f"Its marketplace: {url}/marketplace/")
        server = _Server(made, _certificate(made, config.listen), lambda: say(line))
        try:
            server.run(sockets=[listening])
        except SystemExit:  # uvicorn's way to say that the application refused to start
            raise Permanent("the registry could not start; the lines above say why") from None


def _uvicorn(config: Configuration) -> uvicorn.Config:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr,
                        format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    try:
        made = uvicorn.Config(
            Site(config), http=protocol(), ws="none", lifespan="on", log_config=None, access_log=False,
            server_header=False, proxy_headers=bool(config.listen.proxies),
            forwarded_allow_ips=[*config.listen.proxies],
            timeout_graceful_shutdown=GRACE, timeout_keep_alive=KEEP_ALIVE,
            limit_concurrency=config.limits.requests + CONNECTIONS,
            ssl_certfile=config.listen.certificate and os.fspath(config.listen.certificate),
            ssl_keyfile=config.listen.key and os.fspath(config.listen.key))
        made.load()
    except (ssl.SSLError, FileNotFoundError) as error:
        raise InvalidInput(f"{config.listen.certificate} and {config.listen.key} cannot be used for TLS: {error}"
                           ) from None
    if made.ssl is not None:
        made.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def _certificate(made: uvicorn.Config, listen: Listen) -> _Certificate | None:
    if made.ssl is None or listen.certificate is None or listen.key is None:
        return None
    return _Certificate(made.ssl, listen.certificate, listen.key)


def _listen(listen: Listen) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        return socket.create_server((listen.host, listen.port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise InvalidInput(f"cannot listen on {listen.host}:{listen.port}: {error}",
                           hint="choose another --port; 0 takes a free one") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
