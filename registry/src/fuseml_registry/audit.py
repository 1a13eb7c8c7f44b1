"""The audit log: one JSON object a line for each change, login and refusal: who, when, what, from where, result."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

from fuseml_registry.access.identity import SCOPE_KEY, Identity
from fuseml_registry.exchange import Exchange

log = logging.getLogger(__name__)
#: Longest text from a client in a record, in characters.
LONGEST = 300
_READ = frozenset({"GET", "HEAD"})


class AuditLog:
    """Appends records to a file; begins a new one when it is large.

    Args:
        path: The file; older ones are `<path>.1`, `<path>.2` and so on.
        record: `off`, `writes` or `all`.
        max_size: Bytes after which a new file is begun.
        files: Older files that are kept.
    """

    def __init__(self, path: Path, record: Literal["off", "writes", "all"], max_size: int, files: int) -> None:
        self._path, self._record, self._max_size, self._files = path, record, max_size, files
        self._lock = threading.Lock()
        self._handle = -1
        self._size = 0
        #: Records that could not be written, because the disk is full for example.
        self.lost = 0

    def wants(self, exchange: Exchange) -> bool:
        """Whether a request belongs into the log: changes, logins and refusals, or everything."""
        if self._record == "off" or exchange.noun in ("metrics", "health"):
            return False
        if self._record == "all" or exchange.status in (401, 403, 429) or _is_login(exchange):
            return not _is_challenge(exchange)
        return exchange.scope["method"] not in _READ and not _is_middle(exchange)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record. A disk that takes none stops no request; what is lost is counted."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                           **record}).encode() + b"\n"
        with self._lock:
            try:
                self._open()
                if self._size and self._size + len(line) > self._max_size:
                    self._rotate()
                self._append(line)
            except OSError as error:
                self.lost += 1
                if self.lost == 1 or self.lost % 1000 == 0:
                    log.error("%d records of the audit log could not be written: %s", self.lost, error)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._close()

    def _append(self, line: bytes) -> None:
        written = os.write(self._handle, line)
        if written < len(line):  # a full disk took a part: no half lines
            os.ftruncate(self._handle, self._size)
            raise OSError(28, "the record was written in part only")
        self._size += written

    def _open(self) -> None:
        if self._handle < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._size = os.fstat(self._handle).st_size

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _rotate(self) -> None:
        self._close()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._files + 1))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)
        if not self._files:
            self._path.unlink(missing_ok=True)
        self._open()


def describe(exchange: Exchange, path: Mapping[str, str]) -> dict[str, Any]:
    """Return the record of a request: nothing in it is a secret.

    Args:
        exchange: The finished request.
        path: What its path contains.
    """
    scope = exchange.scope
    identity: Identity = scope.get(SCOPE_KEY) or Identity()
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    record: dict[str, Any] = {
        "action": _action(exchange, query), "user": identity.user, "auth": identity.method,
        "address": exchange.address, "method": scope["method"], "status": exchange.status, "error": exchange.code,
        "repository": path.get("name", ""), "reference": path.get("reference") or path.get("digest", ""),
        "tags": query.get("tag", [])[:20], "digest": query.get("digest", query.get("mount", [""]))[0],
        "from": query.get("from", [""])[0] if "mount" in query else "", "received": exchange.received,
        "sent": exchange.sent, "milliseconds": round(exchange.seconds * 1000), "agent": _agent(scope["headers"])}
    return {key: _short(value) for key, value in record.items() if value not in ("", [], 0) or key == "status"}


def _action(exchange: Exchange, query: Mapping[str, list[str]]) -> str:
    method, noun = exchange.scope["method"], exchange.noun
    if noun == "token":
        return "login"
    if noun == "uploads":
        return "mount-blob" if "mount" in query else "cancel-upload" if method == "DELETE" else "push-blob"
    verb = "read" if method in _READ else "delete" if method == "DELETE" else "push"
    return f"{verb}-{noun.removesuffix('s')}"


def _is_login(exchange: Exchange) -> bool:
    """Whether somebody with a name has asked for a token."""
    identity: Identity = exchange.scope.get(SCOPE_KEY) or Identity()
    return exchange.noun == "token" and identity.method != "anonymous"


def _is_middle(exchange: Exchange) -> bool:
    """Whether a request is only a step of an upload: opening a session, a chunk, asking where it is."""
    query = exchange.scope.get("query_string", b"")
    return (exchange.noun == "uploads" and exchange.status in (202, 204) and b"mount=" not in query
            and exchange.scope["method"] != "DELETE")


def _is_challenge(exchange: Exchange) -> bool:
    """Whether a client that sent no credentials was only told how to come back."""
    return exchange.status == 401 and not any(key == b"authorization" for key, _ in exchange.scope["headers"])


def _agent(headers: list[tuple[bytes, bytes]]) -> str:
    return next((value.decode("latin-1") for key, value in headers if key == b"user-agent"), "")


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(item) for item in value]
    return value[:LONGEST] if isinstance(value, str) else value
