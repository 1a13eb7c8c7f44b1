"""References that mean the same on every machine: the embedded registry's address means nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuseml_core.adapters.extensions.airgap.relocations import Relocations
from fuseml_core.adapters.extensions.trust import PUBLIC
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing.keys import load_public
from fuseml_oci.trust.scope import is_embedded
from fuseml_sdk.errors import PluginError

#: A domain that nobody can have (RFC 2606).
_DOMAIN = "embedded.invalid"


class Origins:
    """Says where a bundle comes from, in a way that a policy elsewhere can have a rule about.

    Args:
        embedded: Returns `host:port` of the embedded registry.
        keys: Folder with its key.
        relocations: What was imported into it.
    """

    def __init__(self, embedded: Callable[[], str], keys: Path, relocations: Relocations) -> None:
        self._embedded, self._keys, self._relocations = embedded, keys, relocations

    def __call__(self, reference: Reference) -> Reference:
        """The reference for an archive.

        What was imported keeps the reference it had before. A bundle of this server's own gets the host
        `<first 12 digits of its key's fingerprint>.embedded.invalid`, the same after each start.
        """
        if not is_embedded(reference.registry, self._embedded()):
            return reference
        relocation = self._relocations.of(reference.digest)
        if relocation is not None:
            return parse(relocation.original)
        return Reference(f"{self._name()}{_DOMAIN}", reference.repository, reference.tag, reference.digest)

    def _name(self) -> str:
        try:
            return load_public(self._keys / PUBLIC).fingerprint.partition(":")[2][:12] + "."
        except PluginError:
            return ""
