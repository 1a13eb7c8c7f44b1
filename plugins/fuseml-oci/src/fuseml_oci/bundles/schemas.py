"""JSON Schemas of what people write and of the config blob, frozen beside this module.

`python -m fuseml_oci.bundles.schemas --write` freezes the one of the descriptor; the others are the SDK's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fuseml_sdk import contract
from fuseml_sdk.errors import NotFound

#: What each schema describes.
NAMES = {
    "extension": "extension.toml", "descriptor": "the config blob of a bundle",
    "runnable": "documents in runnables/", "template": "documents in templates/",
}
_SDK = {"extension": "extension-manifest", "runnable": "runnable-descriptor", "template": "pipeline-template"}
_OWN = Path(__file__).parent / "frozen" / "v1" / "extension-descriptor.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(name: str) -> dict[str, Any]:
    """The frozen schema of something.

    Args:
        name: One of NAMES.

    Raises:
        NotFound: There is no such schema.
    """
    if name not in NAMES:
        raise NotFound(f"there is no schema {name!r}", hint=f"There are: {', '.join(NAMES)}.")
    path = _OWN if name == "descriptor" else contract.SCHEMAS / f"{_SDK[name]}.json"
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def generated() -> str:
    """The text of the descriptor's schema as the code has it."""
    from fuseml_oci.bundles.descriptor import ExtensionDescriptor

    return contract.render({"$schema": _DIALECT, **ExtensionDescriptor.model_json_schema(by_alias=True)})


def main(arguments: list[str]) -> int:
    """Compare the frozen schema with the code, or write it with `--write`. Returns the exit code."""
    if "--write" in arguments:
        _OWN.parent.mkdir(parents=True, exist_ok=True)
        _OWN.write_text(generated(), encoding="utf-8")
        return 0
    return 0 if _OWN.is_file() and _OWN.read_text(encoding="utf-8") == generated() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
