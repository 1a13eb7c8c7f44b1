"""Trust: the policy, what it decides about a bundle, and signatures by the embedded registry's key."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from fuseml_core.api.routers.application import App
from fuseml_core.service.extensions.ports import Wish

router = APIRouter(tags=["trust"])


class SignatureRequest(BaseModel):
    """What to sign."""

    reference: str = Field(min_length=1, max_length=1000,
                           description="`repository@digest` in the embedded registry: `extensions/mlflow@sha256:…`")


@router.post("/registry/signatures")
def sign(app: App, wanted: SignatureRequest) -> dict[str, Any]:
    """Sign a manifest of the embedded registry with its key; doing it again changes nothing."""
    return app.trust.sign(wanted.reference)


@router.get("/policy")
def get_policy(app: App) -> dict[str, Any]:
    """The rules of the trust policy in order, with the fingerprints of their keys."""
    return app.trust.policy()


@router.get("/policy/decision")
def get_decision(app: App, reference: Annotated[str, Query(min_length=1, max_length=1000)],
                 channel: str = "stable") -> dict[str, Any]:
    """What the policy decides about a bundle, and why; installs nothing."""
    return app.trust.check(reference, Wish(channel=channel))
