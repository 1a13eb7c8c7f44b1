"""What a plugin and a server can agree on, and in plain words why not if they cannot.

Both sides list the protocols they speak; the highest that both speak is used. Within a protocol every change is
compatible (see :mod:`fuseml_sdk.compatibility`), so a plugin of another SDK version works, but hooks that only one
side knows are not called. Too old and too new are states with a reason and a remedy, not failures to understand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pluggy

from fuseml_sdk import __version__
from fuseml_sdk.contract import frozen, operations
from fuseml_sdk.errors import Permanent
from fuseml_sdk.hookspecs import PROTOCOL, REQUIRED

#: Protocols that this SDK speaks, newest first.
PROTOCOLS: tuple[int, ...] = (PROTOCOL,)

#: `same` contract; `older`, `newer` or `different` contract of a common protocol; no common protocol: the plugin is
#: `too-old`, `too-new`, or `unclear` because it does not say what it speaks.
Relation = Literal["same", "older", "newer", "different", "too-old", "too-new", "unclear"]


@dataclass(frozen=True, slots=True)
class Side:
    """What one side says of itself.

    Attributes:
        protocols: What it speaks, newest first.
        digest: Digest of its contract; empty if it does not say.
        sdk_version: Version of its SDK; empty for programs without the SDK.
    """

    protocols: tuple[int, ...]
    digest: str = ""
    sdk_version: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The outcome of a negotiation.

    Attributes:
        state: See :data:`Relation`.
        protocol: What is spoken; None when there is nothing in common.
        theirs: The plugin's side.
        ours: This server's side.
        hooks: Hooks that the plugin implements and this server may call.
        missing: Hooks its family cannot do without, but the plugin does not implement: calls of them are refused.
        unknown: Hooks that the plugin implements, but this server never calls.
        deprecations: What the plugin uses that goes away, each as one line.
        reason: What this means, in one sentence.
        fix: What to do about it; empty if nothing needs to be done.
    """

    state: Relation
    protocol: int | None
    theirs: Side
    ours: Side
    hooks: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    deprecations: tuple[str, ...] = ()
    reason: str = ""
    fix: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the plugin can be used."""
        return self.protocol is not None

    def as_dict(self) -> dict[str, Any]:
        """As data: every attribute and `accepted`."""
        return {**asdict(self), "accepted": self.accepted}

    def refusal(self) -> Permanent:
        """The error that says why the plugin cannot be used; the whole agreement is in its details."""
        return Permanent(self.reason, hint=self.fix, details={"agreement": self.as_dict()})


def our_side() -> Side:
    """What this installation of the SDK speaks."""
    return Side(PROTOCOLS, str(frozen()["digest"]), __version__)


def negotiate(description: Mapping[str, Any], *, title: str = "the plugin", family: str = "",
              ours: Side | None = None) -> Agreement:
    """Compare what a plugin says at `/v1/describe` with what this server speaks.

    Args:
        description: With `protocols`, `contract_digest`, `sdk_version`, `hooks` and, maybe, `deprecations`. Whatever
            is missing or of a wrong type counts as not said.
        title: How people know the plugin.
        family: store, agent or builder; empty: every family of which the plugin implements a hook.
        ours: This server's side; by default that of the SDK it runs with.

    Returns:
        The agreement; look at `accepted`, or raise its `refusal()`.
    """
    mine, theirs = ours or our_side(), _their_side(description)
    names = _names(description.get("hooks"))
    common = [protocol for protocol in mine.protocols if protocol in theirs.protocols]
    if not common:
        return _refused(title, theirs, mine)
    state = _relation(theirs, mine)
    table = operations()
    families = {family} if family else {name.partition("_")[0] for name in names}
    agreement = Agreement(
        state, max(common), theirs, mine, hooks=tuple(name for name in names if name in table),
        missing=tuple(sorted(hook for each in families for hook in REQUIRED.get(each, frozenset()) - set(names))),
        unknown=tuple(name for name in names if name not in table),
        deprecations=_texts(description.get("deprecations")))
    return _explained(agreement, title)


def own(manager: pluggy.PluginManager, notices: tuple[str, ...] = (), *, family: str = "") -> Agreement:
    """The agreement with a plugin in this process, which uses the same SDK.

    Args:
        manager: Holds the plugin.
        notices: Deprecations that the plugin uses.
        family: Which hooks it should have.
    """
    from fuseml_sdk.loading import implemented

    side = our_side()
    return negotiate({"protocols": list(side.protocols), "contract_digest": side.digest,
                      "sdk_version": side.sdk_version, "hooks": implemented(manager),
                      "deprecations": [{"text": text} for text in notices]}, family=family)


def foresee(sdk_version: str, *, title: str = "the plugin", ours: Side | None = None) -> Agreement:
    """What to expect of a plugin by the version of its SDK alone, before anything of it is fetched or started.

    Which protocol a version speaks is known from the contracts that were released; one that is later than this SDK is
    expected to speak ours as well, until its process says otherwise.

    Args:
        sdk_version: Such as `0.1.0`, from the name of the wheel that the bundle carries.
        title: How people know the plugin.
        ours: This server's side; by default that of the SDK it runs with.
    """
    from fuseml_sdk.compatibility import releases

    mine = ours or our_side()
    description = {"protocols": list(mine.protocols), "contract_digest": "", "sdk_version": sdk_version}
    if _version(sdk_version) == _version(mine.sdk_version):
        description["contract_digest"] = mine.digest
    else:
        known = {_version(version): document for version, document in releases().items()}
        before = [version for version in known if version <= _version(sdk_version)]
        if known and _version(sdk_version) < _version(mine.sdk_version):
            release = known[max(before, default=min(known))]
            description |= {"protocols": [release["protocol"]], "contract_digest": release["digest"]}
    return negotiate(description, title=title, ours=mine)


def _their_side(description: Mapping[str, Any]) -> Side:
    said = description.get("protocols")
    protocols = {p for p in said if type(p) is int} if isinstance(said, list) else set()
    digest, version = description.get("contract_digest"), description.get("sdk_version")
    return Side(tuple(sorted(protocols, reverse=True)), digest if isinstance(digest, str) else "",
                version if isinstance(version, str) else "")


def _names(hooks: Any) -> list[str]:
    return [name for name in hooks if isinstance(name, str)] if isinstance(hooks, Mapping | list | tuple) else []


def _texts(notices: Any) -> tuple[str, ...]:
    if not isinstance(notices, list):
        return ()
    return tuple(str(each["text"]) for each in notices if isinstance(each, Mapping) and each.get("text"))


def _relation(theirs: Side, ours: Side) -> Relation:
    if theirs.digest == ours.digest:
        return "same"
    their_version, our_version = _version(theirs.sdk_version), _version(ours.sdk_version)
    if not their_version or their_version == our_version:
        return "different"
    return "older" if their_version < our_version else "newer"


def _version(text: str) -> tuple[int, ...]:
    """The numbers at the beginning; SDKs carry versions of Python packages, so the rest is not semver."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _refused(title: str, theirs: Side, ours: Side) -> Agreement:
    mine, their_words = _protocols(ours), _protocols(theirs)
    if not theirs.protocols:
        return Agreement("unclear", None, theirs, ours,
                         reason=f"{title} does not say which protocols of the contract it speaks; this server speaks "
                                f"{mine}",
                         fix="Answer `GET /v1/describe` with `protocols`, a list of whole numbers.")
    made = f" (SDK {theirs.sdk_version})" if theirs.sdk_version else ""
    reason = f"{title} speaks {their_words}{made}, this server speaks {mine} (SDK {ours.sdk_version})"
    if max(theirs.protocols) > max(ours.protocols):
        return Agreement("too-new", None, theirs, ours, reason=f"{reason}: the extension is too new for this server",
                         fix=f"Upgrade FuseML to a version that speaks protocol {min(theirs.protocols)}, or take an "
                             "earlier version of the extension with `fuseml extension install NAME@VERSION`.")
    return Agreement("too-old", None, theirs, ours, reason=f"{reason}: the extension is too old for this server",
                     fix="Upgrade the extension with `fuseml extension upgrade NAME`; if there is no newer version, "
                         f"its author has to build it with an SDK that speaks protocol {min(ours.protocols)}.")


def _protocols(side: Side) -> str:
    many = "protocols" if len(side.protocols) > 1 else "protocol"
    return f"{many} {', '.join(map(str, sorted(side.protocols)))}"


def _explained(agreement: Agreement, title: str) -> Agreement:
    theirs, ours = agreement.theirs, agreement.ours
    contracts = f"SDK {theirs.sdk_version or 'none'} of the plugin, SDK {ours.sdk_version} of this server"
    reasons = {
        "same": f"{title} speaks exactly the contract of this server",
        "older": f"{title} speaks an earlier contract of protocol {agreement.protocol} ({contracts})",
        "newer": f"{title} speaks a later contract of protocol {agreement.protocol} ({contracts})",
        "different": f"{title} speaks another contract of protocol {agreement.protocol} ({contracts})",
    }
    if not theirs.digest:
        reasons["different"] = (f"{title} speaks protocol {agreement.protocol} and does not say with which contract "
                                "of it it was made")
    parts, fixes = [reasons[agreement.state]], []
    if agreement.unknown:
        parts.append(f"this server never calls its {', '.join(agreement.unknown)}")
        fixes.append("Upgrade FuseML to use all of the plugin.")
    if agreement.missing:
        parts.append(f"it does not implement {', '.join(agreement.missing)}, calls of which are refused")
        fixes.append("Upgrade the extension, or tell its author.")
    if agreement.deprecations:
        parts.append("it uses what is going to be removed")
        fixes.append("Look for a newer version of the extension before FuseML is upgraded.")
    return replace(agreement, reason="; ".join(parts), fix=" ".join(fixes))


__all__ = ["PROTOCOLS", "Agreement", "Relation", "Side", "foresee", "negotiate", "our_side", "own"]
