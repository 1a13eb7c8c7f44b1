"""Connections that a server cannot hold for ever: by headers in drops, or by trailers that never end.

urllib3's timeouts are for the next bytes, so that one byte a minute would satisfy them.
"""

from __future__ import annotations

import http.client
import socket
import threading
from typing import Any

import requests.adapters
import urllib3
import urllib3.connection

from fuseml_oci.digests import BUFFER

#: All headers must have arrived within this many read timeouts.
HEADER_TIMEOUTS = 2
#: Lines after the last chunk of a chunked body.
MAX_TRAILERS = 100


class _Response(http.client.HTTPResponse):
    """A response with a bounded number of trailers."""

    def _read_and_discard_trailer(self) -> None:
        for _ in range(MAX_TRAILERS):
            line = self.fp.readline(1 << 16)
            if not line or line in (b"\r\n", b"\n"):
                return
        self.close()
        raise http.client.HTTPException(f"more than {MAX_TRAILERS} trailers")


class _Watched:
    """Part of a connection class: gives up when the headers of an answer do not come to an end."""

    response_class: Any = _Response
    timeout: Any
    sock: socket.socket | None

    def getresponse(self) -> Any:
        """Wait for status line and headers."""
        seconds = self.timeout * HEADER_TIMEOUTS if isinstance(self.timeout, int | float) else None
        if seconds is None:
            return super().getresponse()  # type: ignore[misc]
        fired = threading.Event()
        watchdog = threading.Timer(seconds, self._hang_up, (fired,))
        watchdog.daemon = True
        watchdog.start()
        try:
            response = super().getresponse()  # type: ignore[misc]
        finally:
            watchdog.cancel()
        if fired.is_set():  # http.client takes the end of the connection for the end of the headers
            response.close()
            self.close()  # type: ignore[attr-defined]
            raise TimeoutError(f"the headers have not come to an end within {seconds:g} s")
        return response

    def _hang_up(self, fired: threading.Event) -> None:
        fired.set()
        if self.sock is not None:
            try:
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # not that of TLS, which another thread uses
            except OSError:
                return


class _Plain(_Watched, urllib3.connection.HTTPConnection):
    """Without encryption."""


class _Encrypted(_Watched, urllib3.connection.HTTPSConnection):
    """With TLS."""


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Encrypted


class Adapter(requests.adapters.HTTPAdapter):
    """Makes such connections, and sends files in large blocks: http.client's 16 KiB cost a third of the throughput."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Prepare for direct connections."""
        super().init_poolmanager(*args, **kwargs, blocksize=BUFFER)
        _watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.ProxyManager:
        """Prepare for connections through a proxy."""
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **kwargs)
        _watch(manager)
        return manager

    def close(self) -> None:
        """Close the connections now; urllib3 leaves that to the garbage collector."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - it is no mapping that could be iterated
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        super().close()


def _watch(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _EncryptedPool}
