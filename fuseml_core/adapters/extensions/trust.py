"""The trust policy of this server, and the key with which it signs what lies in its own registry."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fuseml_core.adapters.extensions.errors import translated
from fuseml_core.domain.errors import Invalid, Refused
from fuseml_core.domain.extensions import TrustDecision
from fuseml_oci.bundles.references import read_reference
from fuseml_oci.reference import Reference, check_repository
from fuseml_oci.trust.decision import Decision, decide, reconsider, rejection
from fuseml_oci.trust.policy import default_policy, read_policy
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import PluginError

if TYPE_CHECKING:
    from fuseml_oci.signing.keys import PrivateKey, PublicKey
    from fuseml_oci.sources import ManifestSource

log = logging.getLogger(__name__)
#: Files of the embedded registry's key, in the folder of keys.
KEY, PUBLIC = "registry.key", "registry.pub"


def establish(home: Path) -> None:
    """Make what a new server needs to trust its own registry, and keep what is there.

    A public key without its private half is kept as well: somebody took the private one away on purpose.

    Args:
        home: FUSEML_HOME; gets `keys/registry.key`, `keys/registry.pub` and `policy.toml`.
    """
    folder, policy = home / "keys", home / "policy.toml"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key, public = folder / KEY, folder / PUBLIC
    if not public.exists():
        from fuseml_oci.signing.keys import generate, load_private

        private = load_private(key, unencrypted=True) if key.exists() else generate()
        if not key.exists():
            write_durably(key, private.unencrypted(), mode=0o600)
        write_durably(public, private.public.pem, mode=0o644)
        log.info("the key of the embedded registry is %s", private.fingerprint)
    if not policy.exists():
        write_durably(policy, default_policy().encode(), mode=0o600)


class PolicyTrust:
    """Decides by the policy file, which is read anew each time.

    Args:
        policy: The file.
        embedded: Returns the base URL of the embedded registry.
        keys: Folder with the key of the embedded registry.
    """

    def __init__(self, policy: Path, embedded: Callable[[], str], keys: Path) -> None:
        self._policy, self._embedded, self._keys = policy, embedded, keys

    def decide(self, reference: Reference, digest: str, source: ManifestSource,
               endorsed: Sequence[PublicKey] = ()) -> TrustDecision:
        """What the policy says about a bundle; one that cannot be read refuses everything.

        Args:
            reference: Where the bundle comes from.
            digest: Of its manifest.
            source: Where its signatures lie.
            endorsed: Keys that a subscribed catalog names for it.
        """
        try:
            made = decide(read_policy(self._policy), reference, digest, source,
                          embedded=urlsplit(self._embedded()).netloc, endorsed=endorsed)
        except PluginError as error:
            return TrustDecision(False, reason=f"the trust policy cannot be used: {error.message}", hint=error.hint)
        return _in_our_words(made)

    def rejection(self, reference: Reference) -> TrustDecision | None:
        """The refusal of a place that a rule rejects, so that nothing is fetched from there; None for any other."""
        try:
            made = rejection(read_policy(self._policy), reference, embedded=urlsplit(self._embedded()).netloc)
        except PluginError:
            return None  # nothing is allowed, which the decision says
        return _in_our_words(made) if made is not None else None

    def doubt(self, reference: Reference, known: TrustDecision,
              endorsed: Sequence[PublicKey] = ()) -> TrustDecision | None:
        """What today's policy has against a bundle that was let in before; None for nothing. Asks no registry.

        Args:
            reference: Where the bundle came from, with digest.
            known: The decision that was made.
            endorsed: Keys that a subscribed catalog names for it now.
        """
        try:
            made = reconsider(read_policy(self._policy), reference, known.signers, known.attestations,
                              embedded=urlsplit(self._embedded()).netloc, endorsed=endorsed)
        except PluginError as error:
            return TrustDecision(False, reason=f"the trust policy cannot be used: {error.message}", hint=error.hint)
        return _in_our_words(made) if made is not None else None

    def check(self, reference: str) -> dict[str, Any] | None:
        """The same for what somebody wrote, with what is known of the bundle without asking for it."""
        with translated():
            place = read_reference(reference, urlsplit(self._embedded()).netloc)
        made = self.rejection(place)
        return None if made is None else {
            "reference": str(place), "name": place.repository.rpartition("/")[2], "version": place.tag,
            "digest": place.digest, **asdict(made)}

    def show(self) -> dict[str, Any]:
        """The rules in order, each with the fingerprints of its keys or what is wrong with them."""
        with translated():
            policy = read_policy(self._policy)
        rules = [{**rule.to_dict(), "keys": [_describe_key(path) for path in rule.keys]} for rule in policy.rules]
        return {"path": str(policy.path), "rules": rules}

    def own_signers(self) -> list[str]:
        """The fingerprint of the embedded registry's key, which other servers know nothing about."""
        described = _describe_key(self._keys / PUBLIC)
        return [described["fingerprint"]] if described["fingerprint"] else []


class RegistrySigner:
    """Signs manifests in the embedded registry with its key; implements the port `Signer`.

    Args:
        embedded: Returns the base URL of the embedded registry.
        keys: Folder with its key.
    """

    def __init__(self, embedded: Callable[[], str], keys: Path) -> None:
        self._embedded, self._keys = embedded, keys

    def sign(self, reference: str) -> dict[str, Any]:
        """Sign `repository@digest` in both layouts; what is signed already is left as it is."""
        from fuseml_oci.client import RegistryClient
        from fuseml_oci.signing.sign import sign

        with translated():
            place = _place(reference, urlsplit(self._embedded()).netloc)
            key = self._key()
            with RegistryClient.for_url(self._embedded()) as client:
                made = sign(client, place, key)
        return {"reference": str(place), "key": key.fingerprint,
                "signatures": [signature.to_dict() for signature in made]}

    def _key(self) -> PrivateKey:
        """The key; one that others could have read is not used."""
        from fuseml_oci.signing.keys import is_encrypted, load_private

        path = self._keys / KEY
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise Refused(f"The key {path} can be read by other users than its owner",
                          hint=f"If nobody has copied it: chmod 600 {path}. Otherwise remove it together with {PUBLIC}"
                               " and start the server again, which makes another one.")
        if not path.exists():
            raise Refused(f"This server cannot sign: it has no key {path}",
                          hint="Sign with a key of your own: fuseml bundle sign REFERENCE --key FILE")
        if is_encrypted(path):
            raise Refused(f"The key {path} is encrypted, and there is nobody to ask for its password",
                          hint="Move it away together with its .pub file and start the server again, which makes "
                               "another one; or sign with it yourself: fuseml bundle sign REFERENCE --key FILE")
        return load_private(path, unencrypted=True)


def _in_our_words(made: Decision) -> TrustDecision:
    return TrustDecision(made.allowed, made.rule, made.reason, made.hint, made.signers, made.attestations,
                         made.overridable)


def _place(reference: str, registry: str) -> Reference:
    repository, at, digest = reference.partition("@")
    if not at or not digest or ":" in repository:
        raise Invalid(f"{reference[:300]!r} is not of the form repository@digest",
                      hint="This server signs what lies in its own registry: extensions/mlflow@sha256:…")
    return Reference(registry, check_repository(repository)).with_digest(digest)


def _describe_key(path: Path) -> dict[str, str]:
    """A key of a rule: its file, and its fingerprint or why there is none."""
    from fuseml_oci.signing.keys import load_public

    try:
        return {"path": os.fspath(path), "fingerprint": load_public(path).fingerprint, "error": ""}
    except PluginError as error:
        return {"path": os.fspath(path), "fingerprint": "", "error": error.message}
