"""Answers of the pages: every one says that nothing may be loaded from, or framed by, another place."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

#: Styles, scripts and pictures come from here alone; nothing is inline.
PAGE_POLICY = ("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
               "form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
#: For what strangers wrote: nothing runs, nothing is loaded, even if somebody opens it by itself.
FOREIGN_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'; base-uri 'none'"
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "private, no-cache",
}
#: What never changes under its address.
FOREVER = "public, max-age=31536000, immutable"


def page(text: str, status: int = 200) -> Response:
    """A page in HTML."""
    return Response(text, status, HEADERS, "text/html; charset=utf-8")


def document(value: Any, status: int = 200) -> Response:
    """A JSON document; other characters than ASCII are escaped, so that no terminal obeys them."""
    media_type = "application/json" if status < 400 else "application/problem+json"
    return Response(json.dumps(value, indent=1) + "\n", status, HEADERS, media_type)


def problem(status: int, detail: str, hint: str = "") -> Response:
    """An error for programs (RFC 9457)."""
    title = {400: "Bad request", 404: "Not found", 405: "Method not allowed"}.get(status, "Error")
    return document({"type": "about:blank", "title": title, "status": status, "detail": detail, "hint": hint}, status)


def foreign(data: bytes, media_type: str, *, name: str = "") -> Response:
    """Something out of a bundle, kept from doing anything.

    Args:
        data: Its bytes.
        media_type: What browsers shall take it for.
        name: File name under which it is saved; empty to show it.
    """
    headers = {**HEADERS, "Content-Security-Policy": FOREIGN_POLICY, "Cache-Control": "private, max-age=3600"}
    if name:
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Response(data, 200, headers, media_type)
