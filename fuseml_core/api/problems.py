"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

import errno
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from fuseml_core.domain.errors import FusemlError, Internal, Unavailable
from fuseml_sdk.errors import PluginError

log = structlog.get_logger(__name__)

#: Code that a plugin's problem type becomes; the type says what the caller should do.
_PLUGIN_CODES = {"invalid-input": ("invalid", 400), "not-found": ("not-found", 404), "unsupported": ("refused", 403),
                 "not-ready": ("unavailable", 503), "retryable": ("unavailable", 503), "permanent": ("failed", 500),
                 "cancelled": ("unavailable", 503), "internal": ("failed", 500)}
_FULL = "there is no space left on the disk that holds FUSEML_HOME"
_FREE = "Free some space there and repeat the command."
#: How the system, SQLite and PostgreSQL say that a disk is full; git and others pass on the first.
_NO_SPACE = ("No space left on device", "Disk quota exceeded", "database or disk is full")

_AWAY = "the database does not answer"
_WAIT = "The server goes on when the database is back. FUSEML_DATABASE_URL says where it is."
#: States of SQL of a server that ends, starts or takes no more; class 08 is the connection (PostgreSQL, appendix A).
_ENDING = ("57P01", "57P02", "57P03", "53300")


def problem(code: str, status: int, detail: str, hint: str = "", details: dict[str, Any] | None = None) -> JSONResponse:
    """A problem document as a response."""
    # What was wrong may be quoted, and JSON can carry halves of surrogate pairs that UTF-8 cannot.
    detail, hint = (text.encode(errors="replace").decode() for text in (detail, hint))
    body = {"type": f"urn:fuseml:problem:{code}", "title": code.replace("-", " "), "status": status, "detail": detail,
            "code": code, "hint": hint, "details": details or {}}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that there is no space left."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(seen) for words in _NO_SPACE):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def is_database_away(error: BaseException) -> bool:
    """Whether an error says that PostgreSQL cannot be reached now."""
    if not isinstance(error, DBAPIError) or not hasattr(error.orig, "sqlstate"):
        return False  # SQLite's errors have no such state
    state: str | None = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state is None or state.startswith("08") or state in _ENDING


def explained(error: Exception, what: str) -> FusemlError:
    """The error that people are told about when long work ended with one; a defect is written to the log.

    Args:
        error: What was raised.
        what: Was being done, such as `the upgrade`.
    """
    if is_disk_full(error):
        log.error("the disk is full", what=what)
        return Unavailable(_FULL, hint=_FREE)
    if is_database_away(error):
        log.error("the database does not answer", what=what, error=str(error))
        return Unavailable(_AWAY, hint=_WAIT)
    if isinstance(error, FusemlError):
        return error
    log.error("long work met a defect", what=what, exc_info=error)
    return Internal(f"{what} failed because of a defect in FuseML", hint="See: fuseml server logs")


def _disk_full() -> JSONResponse:
    return problem(Unavailable.code, Unavailable.status, _FULL, _FREE)


def install(app: FastAPI) -> None:
    """Turn every error of a route into a problem document."""

    @app.exception_handler(FusemlError)
    async def _fuseml(_request: Request, error: FusemlError) -> JSONResponse:
        return problem(error.code, error.status, error.message, error.hint, error.details)

    @app.exception_handler(PluginError)
    async def _plugin(_request: Request, error: PluginError) -> JSONResponse:
        if is_disk_full(error):
            return _disk_full()
        code, status = _PLUGIN_CODES.get(error.type, ("failed", 500))
        return problem(code, status, error.message, error.hint, error.details)

    @app.exception_handler(RequestValidationError)
    async def _validation(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        return problem("invalid", 400, f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not-found", 405: "invalid"}.get(error.status_code, "invalid")
        return problem(code, error.status_code, f"there is no {request.method} {request.url.path}"
                       if error.status_code in (404, 405) else str(error.detail))

    @app.exception_handler(Exception)
    async def _defect(request: Request, error: Exception) -> JSONResponse:
        if is_disk_full(error):
            log.error("the disk is full", method=request.method, path=request.url.path)
            return _disk_full()
        if is_database_away(error):
            log.error("the database does not answer", method=request.method, path=request.url.path, error=str(error))
            return problem(Unavailable.code, Unavailable.status, _AWAY, _WAIT)
        log.error("a request met a defect", method=request.method, path=request.url.path, exc_info=error)
        return problem(Internal.code, 500, f"{type(error).__name__} in {request.method} {request.url.path}",
                       "This is a defect of FuseML; `fuseml server logs` has the traceback.")
