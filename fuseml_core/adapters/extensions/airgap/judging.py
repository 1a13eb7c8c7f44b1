"""What this machine's policy says about bundles that came from elsewhere by hand.

The archive says where its bundles come from, and nobody vouches for that. So the original reference chooses the rule,
and only a signature opens the door: a rule that allows a registry without signatures is about what is fetched from
there, not about what claims to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from fuseml_core.adapters.extensions.airgap.relocations import Relocations
from fuseml_core.adapters.extensions.trust import PolicyTrust
from fuseml_core.domain.extensions import TrustDecision
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing.keys import PublicKey, read_public
from fuseml_oci.sources import ManifestSource
from fuseml_oci.trust.decision import decide, reconsider
from fuseml_oci.trust.endorsement import EndorsedKeys
from fuseml_oci.trust.policy import ALLOW, MARKETPLACE, Policy, read_policy
from fuseml_oci.trust.scope import is_embedded, subject_of
from fuseml_sdk.errors import PluginError


class Judge:
    """Asks the trust policy about relocated bundles.

    Args:
        policy: The policy file, read anew each time.
    """

    def __init__(self, policy: Path) -> None:
        self._policy = policy

    def decide(self, original: str, digest: str, source: ManifestSource, keys: Sequence[str], *,
               allow_unsigned: bool = False, endorsed: Sequence[PublicKey] = ()) -> TrustDecision:
        """Decide about one bundle.

        Args:
            original: Where the bundle comes from, as its archive says.
            digest: Of its manifest.
            source: Where its signatures lie.
            keys: Public keys in PEM, given by the person who imports; they endorse what they signed.
            allow_unsigned: Let in what is only refused because nobody known signed it.
            endorsed: Keys that a subscribed catalog names.
        """
        try:
            given = [read_public(key.encode(), "the given key") for key in keys]
            policy, reference = read_policy(self._policy), parse(original)
            policy, first, all_keys = _strictly(policy, reference), *_keys(given, endorsed)
            made = decide(policy, reference, digest, source, embedded="", endorsed=first)
            if not made.allowed and all_keys is not first:
                made = decide(policy, reference, digest, source, embedded="", endorsed=all_keys)
        except PluginError as error:
            return TrustDecision(False, reason=f"the trust policy cannot be used: {error.message}", hint=error.hint)
        overridden = allow_unsigned and not made.allowed and made.overridable
        return TrustDecision(made.allowed or overridden, made.rule, made.reason, made.hint, made.signers,
                             made.attestations, made.overridable, overridden)

    def doubt(self, original: str, known: TrustDecision, keys: Sequence[str],
              endorsed: Sequence[PublicKey] = ()) -> TrustDecision | None:
        """What today's policy has against a relocated bundle that was let in before; None for nothing.

        Args:
            original: As for :meth:`decide`.
            known: The decision that was made.
            keys: As for :meth:`decide`.
            endorsed: The same.
        """
        try:
            given, reference = [read_public(key.encode(), "the given key") for key in keys], parse(original)
            policy, made = _strictly(read_policy(self._policy), reference), None
            for counted in dict.fromkeys(_keys(given, endorsed)):
                made = reconsider(policy, reference, known.signers, known.attestations, embedded="", endorsed=counted)
                if made is None:
                    return None
        except PluginError as error:
            return TrustDecision(False, reason=f"the trust policy cannot be used: {error.message}", hint=error.hint)
        return None if made is None else TrustDecision(False, made.rule, made.reason, made.hint, made.signers)


def _keys(given: Sequence[PublicKey], endorsed: Sequence[PublicKey]) -> tuple[EndorsedKeys, EndorsedKeys]:
    """The keys that are asked first, and all of them with the number that the catalog wants.

    A given key vouches alone; it does not lower what the catalog asks of its own keys.
    """
    threshold = endorsed.threshold if isinstance(endorsed, EndorsedKeys) else 1
    every = EndorsedKeys([*given, *endorsed], threshold)
    return (EndorsedKeys(given) if given and endorsed else every), every


def _strictly(policy: Policy, reference: Reference) -> Policy:
    """The policy for something that only claims to come from a place: a rule that allows it asks for signatures.

    No address is this server's own: an archive that names it was made elsewhere.
    """
    rule = policy.rule_for(subject_of(reference, ""))
    if rule is not None and rule.action == ALLOW:
        return Policy((replace(rule, action=MARKETPLACE),), policy.path)
    return policy


class RelocatingTrust(PolicyTrust):
    """The policy of this server, which knows that some bundles in its registry came from elsewhere.

    Args:
        policy: The file.
        embedded: Returns the base URL of the embedded registry.
        keys: Folder with the key of the embedded registry.
        relocations: Where imported bundles came from.
    """

    def __init__(self, policy: Path, embedded: Callable[[], str], keys: Path, relocations: Relocations) -> None:
        super().__init__(policy, embedded, keys)
        self._place, self._relocations, self._judge = embedded, relocations, Judge(policy)

    def decide(self, reference: Reference, digest: str, source: ManifestSource,
               endorsed: Sequence[PublicKey] = ()) -> TrustDecision:
        """What the policy says about a bundle; an imported one is judged by where it came from.

        Unless this server has signed it as well, because somebody pushed the same bundle or had it signed.
        """
        made = super().decide(reference, digest, source, endorsed)
        try:
            relocation = self._relocations.of(digest)
        except PluginError as error:
            return TrustDecision(False, reason=error.message, hint=error.hint)
        if relocation is None or not is_embedded(reference.registry, urlsplit(self._place()).netloc):
            return made
        if made.allowed and made.signers:
            return made
        return self._judge.decide(relocation.original, digest, source, relocation.keys, endorsed=endorsed)

    def doubt(self, reference: Reference, known: TrustDecision,
              endorsed: Sequence[PublicKey] = ()) -> TrustDecision | None:
        """The same about what was let in before: by what this server's own rules say, or by where it came from."""
        doubted = super().doubt(reference, known, endorsed)
        try:
            relocation = self._relocations.of(reference.digest)
        except PluginError as error:
            return TrustDecision(False, reason=error.message, hint=error.hint)
        if relocation is None or not is_embedded(reference.registry, urlsplit(self._place()).netloc):
            return doubted
        if doubted is None and known.signers:
            return None
        return self._judge.doubt(relocation.original, known, relocation.keys, endorsed)
