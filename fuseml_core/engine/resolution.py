"""From an address to the one version it means."""

from __future__ import annotations

from fuseml_core.domain.addresses import Address, parse_address, scheme_of
from fuseml_core.domain.errors import Conflict, NotFound
from fuseml_core.domain.records import Version
from fuseml_core.service.ports import Transaction


def resolve(tx: Transaction, text: str, project: str) -> Version:
    """Find the version an address means; without a version part, the one that stands for the name now.

    Raises:
        Invalid: It is not an address.
        NotFound: Nothing has this address; names that are close are listed.
        Conflict: A short digest fits several versions.
    """
    address = parse_address(text, project)
    if not (address.digest or address.short or address.alias or address.number):
        version = tx.artifacts.current(address.kind, address.project, address.name)
        if version is not None:
            return version
        raise _missing(tx, address)
    found = tx.artifacts.find(address)
    if not found:
        raise _missing(tx, address)
    if len({v.digest for v in found}) > 1:
        raise Conflict(
            f"{text} is ambiguous: it fits {', '.join(v.short for v in found[:5])}", hint="Give more digits."
        )
    return found[0]


def _missing(tx: Transaction, address: Address) -> NotFound:
    names = [row["name"] for row in tx.artifacts.names(address.kind, address.project)]
    if address.kind == "runnable" and "/" in address.name and address.name not in names:
        known = ", ".join(names[:10]) or "none yet"
        return NotFound(
            f"there is no runnable {address.name!r} in project {address.project!r} that a step could run or take",
            hint=f"If {address.name} is an agent, builder or store of an extension (see: fuseml plugin list), it "
            f"serves FuseML itself and is no input. Runnables there: {known}.",
        )
    if address.name and address.name not in names:
        known = ", ".join(names[:10]) or "none"
        return NotFound(
            f"there is no {address.kind} {address.name!r} in project {address.project!r}",
            hint=f"Known there: {known}.",
        )
    return NotFound(
        f"{address} does not exist",
        hint=f"See `fuseml artifact list --kind {address.kind}` or {scheme_of(address.kind)}://… addresses of a run.",
    )
