"""JSON whose meaning does not depend on the reader: no key twice, not even in another case (RFC 8259, 4; I-JSON)."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from fuseml_sdk.errors import InvalidInput


def read_strictly(data: bytes, where: str) -> dict[str, Any]:
    """Read a JSON object of unknown origin.

    Go takes the last of several equal keys and ignores their case, others do not: what two readers see differently can
    be signed for one and used by the other.

    Args:
        data: UTF-8.
        where: What to call it in errors.

    Raises:
        InvalidInput: It is not such an object.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where} is not JSON of one meaning: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in pairs:
        folded = key.casefold()
        if folded in seen:
            raise ValueError(f"the key {key[:60]!r} is there twice")
        seen.add(folded)
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
