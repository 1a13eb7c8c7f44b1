"""Keys that a catalog endorses, and how many of them it wants."""

from __future__ import annotations

from collections.abc import Iterable

from fuseml_oci.signing.keys import PublicKey


class EndorsedKeys(tuple[PublicKey, ...]):
    """Keys that a catalog names for a package, of which it may want several.

    Attributes:
        threshold: How many of them must have signed.
    """

    threshold: int

    def __new__(cls, keys: Iterable[PublicKey] = (), threshold: int = 1) -> EndorsedKeys:
        """Make the collection; see the class."""
        made = super().__new__(cls, keys)
        made.threshold = threshold
        return made
