"""A small HTTP client for the API: standard library only, over the local Unix socket or TCP.

`httpx2` would double the start-up time of every command; the API needs nothing that `http.client` lacks.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from fuseml_core.domain.errors import BY_CODE, Failed, FusemlError, Internal, Invalid, Unavailable
from fuseml_core.settings import Settings

#: Seconds that an answer may take unless a command says otherwise.
TIMEOUT = 30.0
#: Seconds for which a request that changes nothing is repeated while the server is starting again.
PATIENCE = 10.0
#: Longest answer that is read, in bytes.
MOST = 256 << 20
BY_STATUS = {401: "refused", **{cls.status: code for code, cls in BY_CODE.items() if code not in ("failed",)}}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.close()
            raise


class Client:
    """Talks to the server that the settings name.

    Args:
        settings: `url` is the server's base URL; empty means the local one at `data_socket`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._base = _base(settings)

    def get(self, *segments: str, query: Mapping[str, Any] | None = None, timeout: float = TIMEOUT,
            patience: float = PATIENCE) -> Any:
        """GET `/api/v1/<segments>`; repeated for `patience` seconds while the server does not answer."""
        return self._patiently("GET", _path(segments, query), None, timeout=timeout, patience=patience)

    def post(self, *segments: str, body: Any = None, query: Mapping[str, Any] | None = None, timeout: float = TIMEOUT,
             repeatable: bool = False) -> Any:
        """POST a JSON document.

        Args:
            segments: Path below `/api/v1`, one argument for each segment.
            body: JSON-serialisable document.
            query: Fields after the path.
            timeout: Seconds the answer may take.
            repeatable: Whether doing it twice is the same as once, so that a lost connection can be repeated.
        """
        return self._patiently("POST", _path(segments, query), body, timeout=timeout,
                               patience=PATIENCE if repeatable else 0.0)

    def put(self, *segments: str, body: Any = None, timeout: float = TIMEOUT) -> Any:
        """PUT a JSON document to `/api/v1/<segments>`."""
        return self._patiently("PUT", _path(segments, None), body, timeout=timeout, patience=0.0)

    def delete(self, *segments: str, query: Mapping[str, Any] | None = None, timeout: float = TIMEOUT) -> Any:
        """DELETE `/api/v1/<segments>`."""
        return self._patiently("DELETE", _path(segments, query), None, timeout=timeout, patience=0.0)

    def stream(self, *segments: str, body: Any = None, timeout: float = 900.0) -> Iterator[dict[str, Any]]:
        """POST and yield the answer's JSON lines as they arrive; `timeout` seconds may pass between two.

        Raises:
            FusemlError: The answer is a problem, or a line `{"event": "error"}` is one, or the connection broke.
        """
        with self._open("POST", _path(segments, None), body, timeout) as response:
            _raise_problem(response)
            try:
                for line in response:
                    if line.strip():
                        yield _event(json.loads(line))
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise Unavailable(f"The connection to the server broke off: {error or type(error).__name__}") from None

    def append(self, *segments: str, offset: int, data: bytes, timeout: float = 120.0) -> Any:
        """PATCH bytes to `/api/v1/<segments>` at an offset; the server refuses what does not follow what it has."""
        return self._patiently("PATCH", _path(segments, {"offset": str(offset)}), data, timeout=timeout, patience=0.0)

    @contextlib.contextmanager
    def download(self, *segments: str, timeout: float = 120.0) -> Iterator[http.client.HTTPResponse]:
        """GET `/api/v1/<segments>` to read its body piece by piece; `timeout` seconds may pass between two.

        Raises:
            FusemlError: The answer is a problem.
        """
        with self._open("GET", _path(segments, None), None, timeout) as response:
            _raise_problem(response)
            yield response

    def raw(self, method: str, path: str, body: Any = None, *, timeout: float = TIMEOUT) -> tuple[int, bytes]:
        """Any request to the server, such as a prediction.

        Returns:
            The HTTP status and the answer's body.
        """
        with self._open(method, path, body, timeout) as response:
            return response.status, response.read(MOST)

    def base_url(self) -> str:
        """Base URL under which git and programs reach the server over TCP."""
        return self.settings.url or str(self.get("server")["base_url"]).rstrip("/")

    def _patiently(self, method: str, path: str, body: Any, *, timeout: float, patience: float) -> Any:
        until, pause = time.monotonic() + patience, 0.1
        while True:
            try:
                with self._open(method, path, body, timeout) as response:
                    return _answer(response)
            except Unavailable:
                if time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    @contextlib.contextmanager
    def _open(self, method: str, path: str, body: Any, timeout: float) -> Iterator[http.client.HTTPResponse]:
        """Send a request; the connection is closed after the answer has been used.

        Raises:
            Unavailable: No connection, or no answer in time.
        """
        connection = self._connection(timeout)
        payload = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Accept": "application/json, application/x-ndjson"}
        if payload is not None:
            headers["Content-Type"] = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        try:
            try:
                connection.request(method, self._base.path + path, payload, headers)
                response = connection.getresponse()
            except TimeoutError:
                raise Unavailable(f"{self._where()} did not answer within {timeout:.0f} s.") from None
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(f"{self._where()} does not answer: {error or type(error).__name__}",
                                  hint=self._advice()) from None
            yield response
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._base.scheme == "unix":
            return UnixConnection(str(self.settings.data_socket), timeout=timeout)
        kind = http.client.HTTPSConnection if self._base.scheme == "https" else http.client.HTTPConnection
        return kind(self._base.hostname or "", self._base.port, timeout=timeout)

    def _where(self) -> str:
        return f"The server at {self.settings.url}" if self.settings.url else "The local FuseML server"

    def _advice(self) -> str:
        return "Check FUSEML_URL." if self.settings.url else "See: fuseml server status, fuseml server logs"


class _Base:
    """The parts of a base URL that a connection needs."""

    def __init__(self, scheme: str, hostname: str | None, port: int | None, path: str) -> None:
        self.scheme, self.hostname, self.port, self.path = scheme, hostname, port, path


def _base(settings: Settings) -> _Base:
    if not settings.url:
        return _Base("unix", None, None, "")
    try:
        parts = urlsplit(settings.url)
        valid, port = parts.scheme in ("http", "https") and bool(parts.hostname), parts.port
    except ValueError:
        valid = False
    if not valid:
        raise Invalid(f"FUSEML_URL has the value {settings.url!r}", hint="Set it to a URL such as http://host:8765.")
    return _Base(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


def _path(segments: tuple[str, ...], query: Mapping[str, Any] | None) -> str:
    """Path and query below the API's prefix; every segment is escaped, None and empty values are left out.

    Raises:
        Invalid: A segment can be no name: it would make a path that leads elsewhere.
    """
    for segment in segments:
        if segment in ("", ".", "..") or "/" in segment:
            raise Invalid(f"{segment!r} is not a name",
                          hint="Names are made of a-z, 0-9, -, _ and ., and begin and end with a letter or digit.")
    path = "/api/v1/" + "/".join(quote(segment, safe="@:") for segment in segments)
    given = {k: ("true" if v else "false") if isinstance(v, bool) else v for k, v in (query or {}).items()
             if v not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def _answer(response: http.client.HTTPResponse) -> Any:
    """The JSON document of an answer; None if it has none."""
    _raise_problem(response)
    try:
        data = response.read(MOST)
        return json.loads(data) if data else None
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"The server's answer broke off: {error or type(error).__name__}") from None
    except ValueError:
        raise Internal("The server's answer is not JSON.", hint="Does FUSEML_URL name a FuseML server?") from None


def _raise_problem(response: http.client.HTTPResponse) -> None:
    """Raise the error that an answer stands for, if it is one (RFC 9457 problem document or any other)."""
    if response.status < 400:
        return
    try:
        problem = json.loads(response.read(1 << 20))
    except (OSError, http.client.HTTPException, ValueError):
        problem = {}
    raise problem_error(problem if isinstance(problem, dict) else {}, response.status)


def problem_error(problem: Mapping[str, Any], status: int) -> FusemlError:
    """The error class for a problem document.

    Args:
        problem: Its fields; `code` chooses the class, `detail`, `hint` and `details` are kept.
        status: HTTP status, for answers without a code.
    """
    fallback = BY_STATUS.get(status, "unavailable" if status in (429, 502, 504) else "invalid" if status < 500
                             else "internal")
    cls = BY_CODE.get(str(problem.get("code", "")), BY_CODE[fallback])
    detail = problem.get("detail") or problem.get("title")
    message = detail if isinstance(detail, str) else f"The server answered with HTTP status {status}: {detail}"
    return cls(message, hint=str(problem.get("hint") or ""), details=problem.get("details") or {})


def _event(line: dict[str, Any]) -> dict[str, Any]:
    if line.get("event") == "error":
        raise problem_error(line, int(line.get("status") or Failed.status))
    return line


def connect() -> Client:
    """A client for the server that the environment names; the local server is started if it does not run.

    Raises:
        Invalid: A setting is wrong.
        Unavailable: The local server does not start.
    """
    from fuseml_core.settings import from_environment

    settings = from_environment()
    if not settings.url and not answers(settings):
        start_local(settings)
    return Client(settings)


def answers(settings: Settings) -> bool:
    """Whether the local server accepts connections."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(settings.data_socket))
        except OSError:
            return False
    return True


def start_local(settings: Settings, timeout: float = 60.0) -> None:
    """Start the local server and say so on stderr."""
    from fuseml_core.launcher import start

    began = time.monotonic()
    sys.stderr.write(f"Starting the FuseML server (state in {settings.home}) ...\n")
    sys.stderr.flush()
    start(settings, timeout)
    sys.stderr.write(f"The server runs ({time.monotonic() - began:.1f} s). Stop it with: fuseml server stop\n")
    sys.stderr.flush()
