"""Headers on their way through the proxy (RFC 9110, section 7.6; X-Forwarded-* as everybody uses them)."""

from __future__ import annotations

import h11

from fuseml_core.gateway.asgi import Header, Headers, Scope

HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
                        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"})
#: Answered by this server itself, so never passed on.
OURS_IN_REQUESTS = frozenset({b"expect", b"content-length", b"x-forwarded-prefix"})
OURS_IN_RESPONSES = frozenset({b"date", b"server"})


def request_head(scope: Scope, target: bytes, prefix: str, length: int | None) -> h11.Request:
    """Make the request line and headers for the next hop.

    Args:
        scope: The request as it came.
        target: Path and query for the next hop.
        prefix: Path prefix that was taken away; empty for none.
        length: Bytes of the body; None sends it in chunks; -1 means that there is no body.
    """
    dropped = _named_in_connection(scope["headers"]) | HOP_BY_HOP | OURS_IN_REQUESTS
    headers = [(key, value) for key, value in scope["headers"] if key not in dropped]
    names = {key for key, _ in headers}
    if length is None:
        headers.append((b"transfer-encoding", b"chunked"))
    elif length >= 0:
        headers.append((b"content-length", b"%d" % length))
    headers.extend(_forwarded(scope, headers, names, prefix))
    return h11.Request(method=scope["method"], target=target, headers=headers)


def response_headers(headers: Headers) -> list[Header]:
    """Return the headers of an answer that belong to it and not to one connection."""
    pairs = list(headers)
    dropped = _named_in_connection(pairs) | HOP_BY_HOP | OURS_IN_RESPONSES
    return [(key, value) for key, value in pairs if key not in dropped]


def _forwarded(scope: Scope, headers: list[Header], names: set[bytes], prefix: str) -> list[Header]:
    client = scope.get("client")
    address = client[0].encode() if client and client[0] else b"unknown"
    previous = [value for key, value in headers if key == b"x-forwarded-for"]
    headers[:] = [pair for pair in headers if pair[0] != b"x-forwarded-for"]
    result = [(b"x-forwarded-for", b", ".join([*previous, address]))]
    if b"x-forwarded-proto" not in names:
        result.append((b"x-forwarded-proto", str(scope.get("scheme") or "http").encode()))
    host = next((value for key, value in headers if key == b"host"), b"")
    if not host:
        result.append((b"host", b"localhost"))
    if b"x-forwarded-host" not in names:
        result.append((b"x-forwarded-host", host or b"localhost"))
    if prefix:
        result.append((b"x-forwarded-prefix", prefix.encode()))
    return result


def _named_in_connection(headers: Headers) -> set[bytes]:
    return {token.strip().lower() for key, value in headers if key == b"connection" for token in value.split(b",")}
