"""Extensions: install, list, inspect, configure, uninstall."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from fuseml_core.domain.errors import FusemlError, Internal
from fuseml_core.service.extensions import Extensions

router = APIRouter(tags=["extensions"])
log = logging.getLogger(__name__)
_Event = dict[str, Any]


class Installation(BaseModel):
    """Which bundle to install."""

    reference: str = Field(min_length=1, max_length=1000,
                           description="`mlflow`, `mlflow:0.1.0` or `oci://host/namespace/name:tag@digest`")
    allow_unsigned: bool = Field(False, description="install from registries that are not trusted, too")


class SettingsChange(BaseModel):
    """Settings to set, typed or as text, and settings to unset."""

    set: dict[str, Any] = Field(default_factory=dict, description="key to value; text becomes what the schema says")
    unset: list[str] = Field(default_factory=list, description="keys that shall have no value any more")


@router.get("/extensions")
def list_extensions(request: Request) -> list[dict[str, Any]]:
    """The installed extensions by name."""
    return _extensions(request).list()


@router.post("/extensions", response_class=StreamingResponse)
def install_extension(request: Request, installation: Installation) -> StreamingResponse:
    """Install or upgrade; answers lines of JSON: progress, then the result or an error (a problem document).

    The installation goes on when the client goes away.
    """
    events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
    arguments = (_extensions(request), installation, events)
    threading.Thread(target=_install, args=arguments, name="fuseml-install", daemon=True).start()
    return StreamingResponse(_lines(events), media_type="application/x-ndjson")


@router.get("/extensions/{name}")
def get_extension(request: Request, name: str) -> dict[str, Any]:
    """One installed extension."""
    return _extensions(request).get(name)


@router.get("/extensions/{name}/config")
def get_config(request: Request, name: str) -> dict[str, Any]:
    """The settings of an extension, secrets as `***`, and the schema that says which there are."""
    return _extensions(request).config(name)


@router.put("/extensions/{name}/config")
def configure_extension(request: Request, name: str, change: SettingsChange) -> dict[str, Any]:
    """Change settings; answers like GET once the extension works with them."""
    return _extensions(request).configure(name, change.set, change.unset)


@router.delete("/extensions/{name}", status_code=204)
def uninstall_extension(request: Request, name: str, force: bool = False) -> Response:
    """Uninstall; refused while other extensions or pipelines use it, unless forced."""
    _extensions(request).uninstall(name, force)
    return Response(status_code=204)


def _extensions(request: Request) -> Extensions:
    extensions: Extensions = request.app.state.application.extensions
    return extensions


def _install(extensions: Extensions, wanted: Installation, events: queue.SimpleQueue[_Event | None]) -> None:
    try:
        done = extensions.install(wanted.reference, wanted.allow_unsigned,
                                  lambda text: events.put({"event": "progress", "text": text}))
        events.put({"event": "result", "extension": done})
    except FusemlError as error:
        events.put(_problem(error))
    except Exception:
        log.exception("installing %s", wanted.reference)
        events.put(_problem(Internal(f"installing {wanted.reference} failed because of a defect in FuseML",
                                     hint="See: fuseml server logs")))
    finally:
        events.put(None)


def _lines(events: queue.SimpleQueue[_Event | None]) -> Iterator[bytes]:
    while (event := events.get()) is not None:
        yield json.dumps(event, ensure_ascii=False).encode() + b"\n"


def _problem(error: FusemlError) -> _Event:
    """The error as the fields of a problem document (RFC 9457)."""
    return {"event": "error", "type": f"urn:fuseml:problem:{error.code}", "title": error.code.replace("-", " "),
            "status": error.status, "detail": error.message, "code": error.code, "hint": error.hint,
            "details": error.details}
