"""Scorecards of the conformance kit that travel with a bundle: read, checked against its wheels, told in short."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fuseml_oci.bundles.descriptor import ExtensionDescriptor
from fuseml_oci.signing.strict_json import read_strictly
from fuseml_sdk.errors import InvalidInput

#: Predicate type of a scorecard; also its own field `type`.
PREDICATE = "https://fuseml.io/scorecard/v1"
#: The file that `fuseml plugin test` writes beside extension.toml.
FILE = "scorecard.json"
_AGAIN = "Run the tests of this source again: fuseml plugin test"


def read_scorecard(path: Path) -> dict[str, Any]:
    """Read a scorecard.

    Raises:
        InvalidInput: It is no JSON, or no scorecard.
    """
    document = read_strictly(path.read_bytes(), str(path))
    if document.get("type") != PREDICATE or not isinstance(document.get("wheels"), dict):
        raise InvalidInput(f"{path} is no scorecard of fuseml_sdk.testing", hint=_AGAIN)
    return dict(document)


def check_scorecard(document: Mapping[str, Any], descriptor: ExtensionDescriptor) -> None:
    """Refuse a scorecard that was made of other wheels than the bundle carries.

    Raises:
        InvalidInput: A wheel of the bundle was not tested, or had another digest then.
    """
    tested = document.get("wheels")
    known = tested if isinstance(tested, dict) else {}
    carried = {layer.title: layer.digest for layer in descriptor.layers if layer.kind == "wheel"}
    if not carried:
        raise InvalidInput("the bundle carries no wheel, so there is no plugin that a scorecard could be about")
    for name, digest in sorted(carried.items()):
        if known.get(name) != digest:
            found = f"the scorecard is about {known[name]}" if name in known else "the scorecard does not name it"
            raise InvalidInput(f"the wheel {name} of the bundle has the digest {digest}; {found}", hint=_AGAIN)


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """What lists show: level, counts of rules, and the rules that are exempt, with reasons; safe for any document."""
    plugins = [each for each in _list(document, "plugins") if isinstance(each, dict)]
    checks = [each for each in _list(document, "checks") if isinstance(each, dict)]
    return {
        "level": str(document.get("level", ""))[:20],
        **{count: sum(each[count] for each in plugins if isinstance(each.get(count), int))
           for count in ("passed", "failed", "exempt")},
        "hosts": sorted({str(host)[:40] for each in plugins for host in _list(each, "hosts")})[:10],
        "sdk_version": str(document.get("sdk_version", ""))[:40],
        "exemptions": [{"rule": str(each.get("id", ""))[:20], "reason": str(each.get("reason", ""))[:300]}
                       for each in checks if each.get("outcome") == "exempt"][:50],
    }


def _list(value: Mapping[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    return found if isinstance(found, list) else []
