"""What the policy decides about one bundle, and why, in words that say what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fuseml_oci.reference import Reference
from fuseml_oci.trust import policy as actions
from fuseml_oci.trust.endorsement import EndorsedKeys
from fuseml_oci.trust.policy import Policy, Rule
from fuseml_oci.trust.scope import is_embedded, subject_of
from fuseml_sdk.errors import PluginError

if TYPE_CHECKING:
    from fuseml_oci.signing.keys import PublicKey
    from fuseml_oci.signing.verify import Fault
    from fuseml_oci.sources import ManifestSource

#: Faults that a refusal mentions.
_MENTIONED = 3
#: Name of the public key of a server's own registry.
OWN_KEY = "registry.pub"
#: Where that registry keeps what goes by its bare name.
NAMESPACE = "extensions"


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about one bundle.

    Attributes:
        allowed: Whether it may be installed.
        rule: The rule that decided, such as `rule 1 ("embedded/**", line 14)`; empty when none matched.
        reason: One sentence for people.
        hint: What to do when it is refused.
        signers: Fingerprints of the keys with good signatures that the rule asks for.
        attestations: Predicate types of the good attestations that the rule asks for.
        overridable: It is refused only because it is not signed, so `--allow-unsigned` may decide otherwise.
    """

    allowed: bool
    rule: str
    reason: str
    hint: str = ""
    signers: tuple[str, ...] = ()
    attestations: tuple[str, ...] = ()
    overridable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For programs and records."""
        return {"allowed": self.allowed, "rule": self.rule, "reason": self.reason, "hint": self.hint,
                "signers": list(self.signers), "attestations": list(self.attestations),
                "overridable": self.overridable}


def decide(policy: Policy, reference: Reference, digest: str, source: ManifestSource, *, embedded: str,
           endorsed: Sequence[PublicKey] = ()) -> Decision:
    """Decide whether a bundle may be installed.

    Args:
        policy: The rules.
        reference: Where the bundle comes from; its tag plays no part.
        digest: Of its manifest; signatures over anything else do not count.
        source: Where its signatures lie.
        embedded: `host:port` of the embedded registry, empty if there is none.
        endorsed: Keys that a subscribed and verified catalog names for this package; as `EndorsedKeys` with the number
            that it wants.
    """
    subject = subject_of(reference, embedded)
    rule = policy.rule_for(subject)
    if rule is None:
        return Decision(False, "", f"no rule of {policy.path} matches {subject}", _how_to_allow(policy, subject))
    if rule.action == actions.REJECT:
        return _rejected(policy, rule)
    if rule.action == actions.ALLOW:
        return Decision(True, rule.name, f"{rule.name} of {policy.path} allows it without asking for signatures")
    own = any(path.name == OWN_KEY for path in rule.keys)
    case = _Case(reference, digest, subject, is_embedded(reference.registry, embedded), own)
    return _Judgement(policy, rule, case, source, endorsed).decision()


def rejection(policy: Policy, reference: Reference, *, embedded: str) -> Decision | None:
    """Decide what can be decided without looking at the bundle: the refusal of a place that a rule rejects, else None.

    Args:
        policy: The rules.
        reference: Where a bundle would come from.
        embedded: `host:port` of the embedded registry, empty if there is none.
    """
    rule = policy.rule_for(subject_of(reference, embedded))
    return _rejected(policy, rule) if rule is not None and rule.action == actions.REJECT else None


def reconsider(policy: Policy, reference: Reference, signers: Sequence[str], attestations: Sequence[str], *,
               embedded: str, endorsed: Sequence[PublicKey] = ()) -> Decision | None:
    """Ask today's policy about what an earlier one let in; what was verified then stays so, and nothing is fetched.

    Args:
        policy: The rules now.
        reference: Where the bundle came from.
        signers: Of the decision that was made.
        attestations: The same.
        embedded: `host:port` of the embedded registry, empty if there is none.
        endorsed: As for :func:`decide`.

    Returns:
        The refusal; None if the bundle may be used again.
    """
    subject = subject_of(reference, embedded)
    rule = policy.rule_for(subject)
    if rule is None:
        return Decision(False, "", f"no rule of {policy.path} matches {subject}", _how_to_allow(policy, subject))
    if rule.action == actions.REJECT:
        return _rejected(policy, rule)
    if rule.action == actions.ALLOW:
        return None
    who = f"{rule.name} of {policy.path}"
    try:
        keys = _keys_of(rule, endorsed)
    except PluginError as error:
        return Decision(False, rule.name, f"a key of {rule.name} cannot be used: {error.message}",
                        f"Put the key there, or change {policy.path}.")
    good, needed = set(signers) & set(keys), _needed_by(rule, endorsed)
    missing = [kind for kind in rule.attestations if kind not in attestations]
    if len(good) >= needed and not missing:
        return None
    wanted = f"an attestation {missing[0]}" if missing else f"signatures of {needed} of its keys"
    known = ", ".join(signers) or "nobody"
    return Decision(False, rule.name, f"{who} asks for {wanted} now, and when it was installed it was found signed by "
                    f"{known}", "If it should be trusted still, install it by its reference, which looks for its "
                    f"signatures anew: fuseml extension install {reference}", tuple(sorted(good)))


def _rejected(policy: Policy, rule: Rule) -> Decision:
    because = f": {rule.reason}" if rule.reason else ""
    return Decision(False, rule.name, f"{rule.name} of {policy.path} rejects it{because}",
                    "Only the policy can change that; --allow-unsigned does not.")


@dataclass(frozen=True, slots=True)
class _Case:
    """What is judged."""

    reference: Reference
    digest: str
    subject: str
    is_ours: bool
    is_own_key_enough: bool

    @property
    def pinned(self) -> str:
        return str(self.reference.with_digest(self.digest))

    def how_to_sign(self, *, again: bool = False) -> str:
        """The command that signs it; the server's own key signs once only."""
        if not self.is_ours:
            return f"fuseml bundle sign {self.pinned} --key FILE"
        namespace, _, name = self.reference.repository.rpartition("/")
        short = f"{name}@{self.digest}" if namespace == NAMESPACE else self.pinned
        key = "" if self.is_own_key_enough and not again else " --key FILE"
        return f"fuseml bundle sign {short}{key}"


class _Judgement:
    """The decision by signatures of keys."""

    def __init__(self, policy: Policy, rule: Rule, case: _Case, source: ManifestSource,
                 endorsed: Sequence[PublicKey]) -> None:
        self._policy, self._rule, self._case, self._source = policy, rule, case, source
        self._endorsed = endorsed
        self._faults: list[Fault] = []

    def decision(self) -> Decision:
        from fuseml_oci.signing.verify import verify

        try:
            keys = _keys_of(self._rule, self._endorsed)
        except PluginError as error:
            return self._refuse(f"a key of {self._rule.name} cannot be used: {error.message}",
                                f"Put the key there, or change {self._policy.path}.")
        needed = self._needed
        found = verify(self._source, self._case.digest, keys.values(), self._faults.append, enough=needed)
        signers = tuple(dict.fromkeys(signature.key for signature in found))
        if len(signers) < needed:
            return self._too_few(keys, signers)
        return self._with_attestations(keys, signers)

    @property
    def _needed(self) -> int:
        return _needed_by(self._rule, self._endorsed)

    def _with_attestations(self, keys: Mapping[str, PublicKey], signers: tuple[str, ...]) -> Decision:
        from fuseml_oci.signing.verify import attestations

        wanted, there = self._rule.attestations, set[str]()
        if wanted:
            there = {entry.predicate_type for entry in attestations(
                self._source, self._case.digest, keys.values(), wanted, self._faults.append)}
        missing = [kind for kind in wanted if kind not in there]
        good = tuple(kind for kind in wanted if kind in there)
        if missing:
            return self._refuse(
                f"{self._rule.name} of {self._policy.path} asks for a signed attestation {missing[0]}, and "
                f"{self._case.subject}@{self._case.digest} has none that counts{self._found_instead()}",
                f"Whoever holds one of the keys attaches it: fuseml bundle attach {self._case.pinned} FILE --type "
                f"{missing[0]} --key FILE", signers, good)
        by = ", ".join(signers)
        return Decision(True, self._rule.name, f"signed by {by}, as {self._rule.name} of {self._policy.path} asks",
                        signers=signers, attestations=good)

    def _too_few(self, keys: Mapping[str, PublicKey], signers: tuple[str, ...]) -> Decision:
        """Say why the signatures do not suffice. Only what bears no signature at all may be waved through."""
        wrong = any(fault.is_signature for fault in self._faults)
        what, rule = f"{self._case.subject}@{self._case.digest}", f"{self._rule.name} of {self._policy.path}"
        if not keys:
            return self._refuse(
                f"{rule} asks for a key that a subscribed marketplace endorses, and none endorses one for "
                f"{self._case.subject}",
                self._hints("Follow a marketplace that lists it: fuseml marketplace add NAME REFERENCE --key FILE\n"
                            f"Or trust its author: {self._add_key()}"), overridable=True)
        if signers:
            return self._refuse(f"{rule} asks for signatures of {self._needed} different keys, and {what} has "
                                f"{len(signers)}: {', '.join(signers)}{self._found_instead()}",
                                f"Have it signed by another of the keys: {self._case.how_to_sign(again=True)}", signers)
        if wrong:
            return self._refuse(f"{what} is signed, but not by a key that {rule} names{self._found_instead()}",
                                f"Have it signed by such a key: {self._case.how_to_sign()}\n"
                                f"Or, if you trust the signer, add the key: {self._add_key()}")
        return self._refuse(f"{what} is not signed by a key that {rule} names{self._found_instead()}",
                            self._hints(f"Sign it: {self._case.how_to_sign()}"), overridable=True)

    def _hints(self, first: str) -> str:
        return f"{first}\nTo install it unsigned all the same: --allow-unsigned"

    def _add_key(self) -> str:
        return (f"fuseml key import FILE NAME, then in {self._policy.path} before {self._rule.name}:"
                f"{_rule_for(self._case.subject)}")

    def _found_instead(self) -> str:
        """What lay where signatures lie: each reason once, with an example."""
        reasons = dict.fromkeys(fault.reason for fault in self._faults)
        told = [self._example(reason) for reason in list(reasons)[:_MENTIONED]]
        told += [f"{len(reasons) - _MENTIONED} more reasons"] if len(reasons) > _MENTIONED else []
        return f" (found: {'; '.join(told)})" if told else ""

    def _example(self, reason: str) -> str:
        alike = [fault for fault in self._faults if fault.reason == reason]
        name = f"{alike[0].layout} {alike[0].digest[:19]}".strip()
        return f"{name}: {reason}" + (f", and {len(alike) - 1} more like it" if len(alike) > 1 else "")

    def _refuse(self, reason: str, hint: str, signers: tuple[str, ...] = (), good: tuple[str, ...] = (), *,
                overridable: bool = False) -> Decision:
        if self._rule.reason:
            hint = f"{hint}\nThe rule says: {self._rule.reason}"
        return Decision(False, self._rule.name, reason, hint, signers, good, overridable)


def _needed_by(rule: Rule, endorsed: Sequence[PublicKey]) -> int:
    """How many keys must have signed: what the rule says; a marketplace may want more for a package."""
    if rule.action == actions.MARKETPLACE and isinstance(endorsed, EndorsedKeys):
        return max(rule.threshold, endorsed.threshold)
    return rule.threshold


def _keys_of(rule: Rule, endorsed: Sequence[PublicKey]) -> Mapping[str, PublicKey]:
    """The keys that count for a rule, by fingerprint."""
    from fuseml_oci.signing.keys import load_public

    loaded = endorsed if rule.action == actions.MARKETPLACE else map(load_public, rule.keys)
    return {key.fingerprint: key for key in loaded}


def _how_to_allow(policy: Policy, subject: str) -> str:
    return f"Add a rule to {policy.path}, such as:{_rule_for(subject)}"


def _rule_for(subject: str) -> str:
    """Lines of TOML that can be copied as they are."""
    return f'\n    [[rule]]\n    match = "{subject}"\n    keys = ["keys/NAME.pub"]'

