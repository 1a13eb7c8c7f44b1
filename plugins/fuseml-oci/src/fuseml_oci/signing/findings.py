"""What a look at the signatures and attestations of a manifest finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: The layouts, as messages call them.
BUNDLE, LEGACY = "bundle", "legacy"


@dataclass(frozen=True, slots=True)
class Signature:
    """A good signature.

    Attributes:
        key: Fingerprint of the key that made it.
        layout: `bundle` or `legacy`.
        digest: Of the referring manifest, or of the signed payload in the older layout.
    """

    key: str
    layout: str
    digest: str

    def to_dict(self) -> dict[str, str]:
        """For programs."""
        return {"key": self.key, "layout": self.layout, "digest": self.digest}


@dataclass(frozen=True, slots=True)
class Attestation:
    """A good attestation: a signed statement about the manifest that is more than a signature."""

    key: str
    predicate_type: str
    predicate: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that lies where signatures lie and is no good signature.

    Attributes:
        layout: Where it was found.
        digest: Of the manifest or payload; empty if it concerns all of the layout.
        reason: What is wrong with it.
        is_signature: It is a well-formed signature, only not a good one: of another key or for another digest.
    """

    layout: str
    digest: str
    reason: str
    is_signature: bool = False


#: Told of each thing that is no good signature or attestation.
Report = Callable[[Fault], None]
