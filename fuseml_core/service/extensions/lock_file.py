"""`fuseml.lock`: exactly which bundles are installed, for another machine or another day."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fuseml_core.domain.errors import Invalid, Refused
from fuseml_core.domain.extensions import Generation, InstalledExtension, Member
from fuseml_core.service.extensions.options import Options
from fuseml_core.service.extensions.plan import Plan
from fuseml_core.service.extensions.planning import Planner
from fuseml_core.service.extensions.ports import Bundles, FoundBundle
from fuseml_core.service.extensions.resolve import Goal

_VERSION = 1
#: Characters that a lock may have.
MAX_TEXT = 4 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TYPES: dict[str, type] = {"name": str, "version": str, "reference": str, "digest": str, "config": str, "signers": list,
                           "requested": bool, "dependencies": list}


@dataclass(frozen=True, slots=True)
class Locked:
    """One extension of a lock.

    Attributes:
        name, version, reference, digest, config: As of :class:`InstalledExtension`.
        signers: Fingerprints of the keys that signed it.
        requested: Somebody asked for it.
        dependencies: Names of what it needs.
    """

    name: str
    version: str
    reference: str
    digest: str
    config: str
    signers: tuple[str, ...]
    requested: bool
    dependencies: tuple[str, ...]


def write_lock(current: Generation, records: Sequence[InstalledExtension], bundles: Bundles) -> str:
    """The lock of a generation as TOML.

    Args:
        current: The generation.
        records: Its versions.
        bundles: Knows catalogs, and which signers another server can know.
    """
    own = set(bundles.own_signers())
    known = {record.digest: record for record in records}
    lines = ["# Made by: fuseml extension lock. Install exactly this: fuseml extension install --locked FILE",
             f"version = {_VERSION}"]
    for name, catalog in sorted(bundles.catalogs().items()):
        lines += ["", f"[catalog.{json.dumps(name)}]", f"digest = {_toml(str(catalog['digest']))}",
                  f"version = {int(catalog['version'])}"]
    for member in current.members:
        record = known.get(member.digest)
        lines += ["", "[[extension]]"] + [f"{key} = {_toml(value)}" for key, value in {
            "name": member.name, "version": member.version, "reference": bundles.portable(member.reference),
            "digest": member.digest, "config": record.config if record else "",
            "signers": [signer for signer in member.trust.signers if signer not in own],
            "requested": member.requested,
            "dependencies": [d["name"] for d in record.dependencies] if record else []}.items()]
    return "\n".join(lines) + "\n"


def read_lock(text: str) -> list[Locked]:
    """Read a lock.

    Raises:
        Invalid: It is no lock, or something in it is wrong; the message says where.
    """
    if len(text) > MAX_TEXT:
        raise Invalid(f"the lock has more than {MAX_TEXT} characters")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(f"the lock is not TOML: {error}", hint="Make one with: fuseml extension lock") from None
    if document.get("version") != _VERSION:
        raise Invalid(f"the lock has the version {document.get('version')!r}; this FuseML reads version {_VERSION}",
                      hint="Make it again with: fuseml extension lock")
    entries = document.get("extension") or []
    if not isinstance(entries, list):
        raise Invalid("the lock: `extension` is not a list of tables")
    locked = [_entry(entry, number) for number, entry in enumerate(entries, start=1)]
    names = {entry.name for entry in locked}
    if len(names) < len(locked):
        first, _times = Counter(entry.name for entry in locked).most_common(1)[0]
        raise Invalid(f"the lock has {first} twice")
    for entry in locked:
        for needed in entry.dependencies:
            if needed not in names:
                raise Invalid(f"the lock is incomplete: {entry.name} needs {needed}, which is not in it",
                              hint="Make it again with: fuseml extension lock")
    return locked


def plan_locked(text: str, names: Collection[str], planner: Planner, bundles: Bundles, options: Options) -> Plan:
    """Plan to install exactly what a lock says.

    Args:
        text: The lock.
        names: Only these and what they need; none means all.
        planner: Makes the plan.
        bundles: Registries.
        options: Trust, offline, settings.

    Raises:
        Invalid: The lock is no lock, or has no such name.
        Refused: A bundle is another one or signed by others than when it was locked.
        NotFound, Unavailable, Failed: A bundle cannot be had.
    """
    locked = {entry.name: entry for entry in read_lock(text)}
    for name in names:
        if name not in locked:
            raise Invalid(f"the lock has no extension {name!r}", hint=f"It has {', '.join(locked) or 'none'}.")
    wanted = _closure(names or locked, locked)
    goals = []
    for entry in wanted:
        found = bundles.find(entry.reference, options.wish)
        _compare(entry, found)
        goals.append(Goal(entry.name, found, found.reference))
    asked = set(names) or {entry.name for entry in wanted if entry.requested}
    plan = planner.choose("install --locked" + "".join(f" {name}" for name in names), goals, options, asked)
    for change in plan.changes:
        if change.member is not None:
            _check_member(change.member, locked.get(change.name))
    return plan


def _check_member(member: Member, entry: Locked | None) -> None:
    """Refuse what the lock does not have, and what others signed."""
    if entry is None or entry.digest != member.digest:
        raise Refused(f"{member.name} {member.version} would have to change, too, and the lock has "
                      + (entry.version if entry else "no such extension"))
    strangers = sorted(set(entry.signers) - set(member.trust.signers))
    if strangers:
        raise Refused(f"{entry.name} {entry.version} was signed by {strangers[0]} when it was locked, and here no good "
                      "signature of that key is known",
                      hint="Add the public key to the rule of the policy that decides about it: fuseml policy show")


def _closure(names: Collection[str], locked: Mapping[str, Locked]) -> list[Locked]:
    found: dict[str, Locked] = {}
    waiting = list(names)
    while waiting:
        entry = locked[waiting.pop()]
        if entry.name not in found:
            found[entry.name] = entry
            waiting += entry.dependencies
    return [found[name] for name in locked if name in found]


def _compare(entry: Locked, found: FoundBundle) -> None:
    for what, wanted, there in (("digest", entry.digest, found.digest), ("name", entry.name, found.name),
                                ("version", entry.version, found.version), ("config", entry.config, found.config)):
        if wanted and wanted != there:
            raise Refused(f"{entry.name} {entry.version} is locked with the {what} {wanted}, and {entry.reference} has "
                          f"{there or 'none'}")


def _entry(entry: Any, number: int) -> Locked:
    if not isinstance(entry, dict):
        raise Invalid(f"the lock: extension {number} is not a table")
    for key, kind in _TYPES.items():
        value = entry.get(key)
        if not isinstance(value, kind) or (isinstance(value, list) and not all(isinstance(i, str) for i in value)):
            raise Invalid(f"the lock: extension {number} ({entry.get('name', 'without name')}): {key} is "
                          f"{'missing' if value is None else 'not what it should be'}")
    if not _DIGEST.fullmatch(entry["digest"]):
        raise Invalid(f"the lock: extension {number} ({entry['name']}): {entry['digest']!r} is not a digest")
    if not entry["reference"].endswith("@" + entry["digest"]):
        raise Invalid(f"the lock: extension {number} ({entry['name']}): the reference does not end with the digest")
    values: dict[str, Any] = {key: tuple(entry[key]) if kind is list else entry[key] for key, kind in _TYPES.items()}
    return Locked(**values)


def _toml(value: Any) -> str:
    """A value as TOML; texts are ASCII with escapes that TOML and JSON share."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value).replace("\x7f", "\\u007f")
