"""What the conformance kit found out about an extension, as its author attached it and the marketplace shows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fuseml_core.domain.errors import Unavailable

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client

#: Seconds for the answer: it is an extra that nobody should have to wait for.
_PATIENCE = 5.0


def scorecards(client: Client, item: dict[str, Any]) -> list[dict[str, Any]]:
    """The scorecards about the wheels of an installed version, as far as the server's own registry holds it.

    Args:
        client: For the server.
        item: The extension as the API shows it.

    Returns:
        `level`, `passed`, `failed`, `exempt`, `exemptions`, `hosts`, `sdk_version`, `signed_by` and `url` (the page
        with all rules) of each.
    """
    place = f"packages/extensions/{quote(item['name'])}/-/{quote(item['version'])}"
    try:
        status, body = client.raw("GET", f"/marketplace/api/{place}", timeout=_PATIENCE)
        about = json.loads(body) if status == 200 else {}
    except (Unavailable, ValueError):
        return []
    if about.get("digest") != item.get("digest"):
        return []  # another registry has it, or something else was pushed under this version
    return [{**each["scorecard"], "signed_by": each["signed_by"],
             "url": f"{client.base_url()}/marketplace/{place}/attachments/{each['digest']}"}
            for each in about.get("attachments") or [] if each.get("scorecard") and not each["scorecard"].get("misfit")]


def lines(item: dict[str, Any]) -> list[str]:
    """Scorecards for people: level, counts, who vouches for it, where to read it."""
    said = []
    for card in item.get("scorecards") or []:
        by = ", ".join(dict.fromkeys(card["signed_by"]))
        said.append(f"{card['level'] or 'no level'}: {card['passed']} rules passed, {card['failed']} failed, "
                    f"{card['exempt']} exempt; {f'signed by {by}' if by else 'not signed by a known key'}")
        said.append(f"  {card['url']}")
    return said
