"""Marketplaces: subscribe to catalogs, update them, search what they offer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from fuseml_core.service.marketplaces import Marketplaces

router = APIRouter(tags=["marketplaces"])


class NewMarketplace(BaseModel):
    """A catalog to follow."""

    name: str = Field(min_length=1, max_length=100, description="what it is called on this server")
    reference: str = Field(min_length=1, max_length=1000, description="`oci://host[:port]/namespace/catalog`")
    keys: list[str] = Field(max_length=20, description="public keys in PEM; one of them must have signed the catalog")
    channel: str = Field("", description="stable, candidate or edge; empty leaves it to each package")


@router.get("/marketplaces")
def list_marketplaces(request: Request) -> list[dict[str, Any]]:
    """The marketplaces in the order in which names are looked up."""
    return _marketplaces(request).list()


@router.post("/marketplaces", status_code=201)
def add_marketplace(request: Request, wanted: NewMarketplace) -> dict[str, Any]:
    """Subscribe to a catalog; it is fetched and verified first."""
    return _marketplaces(request).add(wanted.name, wanted.reference.strip(), wanted.keys, wanted.channel)


@router.get("/marketplaces/{name}")
def get_marketplace(request: Request, name: str) -> dict[str, Any]:
    """One marketplace."""
    return _marketplaces(request).get(name)


@router.post("/marketplaces/{name}/update")
def update_marketplace(request: Request, name: str) -> dict[str, Any]:
    """Fetch what changed in its catalog."""
    return _marketplaces(request).update(name)


@router.delete("/marketplaces/{name}", status_code=204)
def remove_marketplace(request: Request, name: str) -> Response:
    """Forget it; extensions installed from it stay."""
    _marketplaces(request).remove(name)
    return Response(status_code=204)


@router.get("/offers")
def search_offers(request: Request, text: str = "", channel: str = "", keyword: str = "", kind: str = "",
                  limit: int = 50) -> dict[str, Any]:
    """Search the embedded registry and all marketplaces for extensions."""
    return _marketplaces(request).search(text[:1000], channel=channel, keyword=keyword, kind=kind, limit=limit)


@router.get("/offers/{name}")
def get_offer(request: Request, name: str) -> dict[str, Any]:
    """Everything that is known of an extension, installed or not."""
    return _marketplaces(request).entry(name)


def _marketplaces(request: Request) -> Marketplaces:
    marketplaces: Marketplaces = request.app.state.application.marketplaces
    return marketplaces
