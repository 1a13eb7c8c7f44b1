"""Error answers of the registry (distribution-spec, "Error Codes")."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

#: What a disk without room, a quota or a limit on the size of files answers.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class RegistryError(Exception):
    """A request that the registry refuses.

    Args:
        status: HTTP status.
        code: Error code of the specification, such as `BLOB_UNKNOWN`.
        message: What was wrong, where, and what to do.
        detail: JSON-serialisable facts.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, code: str, message: str, *, detail: Any = None,
                 headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.detail, self.headers = detail, dict(headers or {})

    def response(self) -> Response:
        """Return the answer as the specification has it."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.detail is not None:
            error["detail"] = self.detail
        return Response(json.dumps({"errors": [error]}), self.status, self.headers, "application/json")


def name_invalid(name: str) -> RegistryError:
    """The repository name is not one (code-7)."""
    return RegistryError(400, "NAME_INVALID", f"{name[:100]!r} is not a repository name")


def name_unknown(name: str) -> RegistryError:
    """There is no such repository (code-8)."""
    return RegistryError(404, "NAME_UNKNOWN", f"there is no repository {name!r}")


def digest_invalid(message: str) -> RegistryError:
    """A digest is malformed, or content does not have it (code-4)."""
    return RegistryError(400, "DIGEST_INVALID", message)


def blob_unknown(name: str, digest: str) -> RegistryError:
    """The repository does not hold the blob (code-1)."""
    return RegistryError(404, "BLOB_UNKNOWN", f"repository {name!r} holds no blob {digest}")


def manifest_unknown(name: str, reference: str) -> RegistryError:
    """There is no such manifest or tag (code-6)."""
    return RegistryError(404, "MANIFEST_UNKNOWN", f"repository {name!r} has no manifest {reference!r}")


def manifest_invalid(message: str, status: int = 400) -> RegistryError:
    """The manifest cannot be accepted (code-5)."""
    return RegistryError(status, "MANIFEST_INVALID", message)


def upload_unknown(session: str) -> RegistryError:
    """The upload session never existed, is finished, cancelled or expired (code-3)."""
    return RegistryError(404, "BLOB_UPLOAD_UNKNOWN", f"there is no upload session {session[:64]!r}; start a new one")


def storage_full(what: str) -> RegistryError:
    """The disk is full or a quota is used up."""
    return RegistryError(507, "UNKNOWN", f"no space left on the registry's disk; {what}")


def unavailable(message: str, code: str = "UNKNOWN") -> RegistryError:
    """The registry cannot answer now; a moment later it can."""
    return RegistryError(503, code, f"{message}; try again", headers={"Retry-After": "1"})
