"""Amounts of bytes as Kubernetes writes them: `512Mi`, `1.5Gi`, `2G`, `1048576`.

See https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re

from fuseml_sdk.errors import InvalidInput

#: For JSON Schema; a number, and a unit of powers of 1024 or of 1000.
PATTERN = r"^\d{1,18}(\.\d{1,9})?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)(Ki|Mi|Gi|Ti|k|M|G|T)?", re.ASCII)
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
          "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_bytes(text: str) -> int:
    """The number of bytes that a quantity stands for, rounded down.

    Args:
        text: Such as `256Mi`.

    Raises:
        InvalidInput: It is none.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise InvalidInput(f"{text!r} is not an amount of bytes", hint="Write it like 512Mi, 1.5Gi or 1048576.")
    whole, _, part = found[1].partition(".")
    return int(whole + part) * _UNITS.get(found[2] or "", 1) // int(10 ** len(part))


def show_bytes(amount: int) -> str:
    """An amount of bytes with the largest binary unit that shows it exactly, such as `512Mi`."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if amount and amount % _UNITS[unit] == 0:
            return f"{amount // _UNITS[unit]}{unit}"
    return str(amount)
