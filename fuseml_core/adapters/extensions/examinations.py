"""The checks of `extension doctor`: this machine, this server, what is installed."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fuseml_core.adapters.extensions.leftovers import entries
from fuseml_core.domain.extensions import GenerationState, InstalledExtension
from fuseml_core.service.extensions.care_ports import Check, CheckState, Examination, Leftover
from fuseml_core.service.extensions.ports import ComponentHost, Generations, InstalledExtensions
from fuseml_core.service.extensions.store import BundleStore
from fuseml_core.settings import Settings
from fuseml_oci.client import RegistryClient
from fuseml_oci.signing.keys import load_public
from fuseml_oci.trust.policy import ALLOW, read_policy
from fuseml_sdk.environments import find_python, find_uv, inspect_python
from fuseml_sdk.environments.index import IndexSettings
from fuseml_sdk.environments.tool import run_uv
from fuseml_sdk.errors import PluginError
from fuseml_sdk.manifest import LEAST

#: Free bytes below which the disk is worth a warning, and below which work fails.
_LITTLE, _TOO_LITTLE = 2 << 30, 256 << 20
#: Seconds since the epoch before which no clock of a machine that runs this can be: 2026-01-01.
_EARLIEST = 1_767_225_600.0
_OK, _WARNING, _ERROR, _SKIPPED = CheckState.OK, CheckState.WARNING, CheckState.ERROR, CheckState.SKIPPED


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined.

    Attributes:
        settings: Of the server.
        records: Rows of installed extensions.
        generations: Rows of generations.
        host: The plugin host.
        store: Unpacked bundles.
        registry: Returns a client for the embedded registry.
        marketplaces: The subscriptions, as their list shows them.
        leftovers: What `gc` would remove at once.
        pending: Names of database migrations that were not made.
        update: Brings the catalog of a marketplace up to date.
        advice: What catalogs say about the versions that are installed: deprecated, yanked; one sentence each.
    """

    settings: Settings
    records: InstalledExtensions
    generations: Generations
    host: ComponentHost
    store: BundleStore
    registry: Callable[[], RegistryClient]
    marketplaces: Callable[[], Sequence[dict[str, Any]]]
    leftovers: Callable[[], Sequence[Leftover]]
    pending: Callable[[], Sequence[str]]
    update: Callable[[str], object]
    advice: Callable[[], Sequence[str]]


def examinations(patient: Patient) -> list[Examination]:
    """All checks in the order in which they are shown."""
    made = Examiner(patient)
    return [
        Examination("clock", made.clock), Examination("disk", made.disk), Examination("ports", made.ports),
        Examination("registry", made.registry), Examination("migrations", made.migrations),
        Examination("uv", made.uv), Examination("python", made.python), Examination("index", made.index),
        Examination("keys", made.keys, made.repair_keys), Examination("policy", made.policy),
        Examination("marketplaces", made.marketplaces, made.repair_marketplaces),
        Examination("advice", made.advice),
        Examination("generations", made.generations), Examination("bundles", made.bundles),
        Examination("environments", made.environments), Examination("components", made.components),
        Examination("isolation", made.isolation), Examination("limits", made.limits),
        Examination("leftovers", made.leftovers, made.repair_leftovers),
    ]


class Examiner:
    """Makes the checks.

    Args:
        patient: What is examined.
    """

    def __init__(self, patient: Patient) -> None:
        self._patient, self._settings = patient, patient.settings

    # -- the machine -----------------------------------------------------------------------------------------------

    def clock(self) -> Check:
        """Signatures, expiry dates and ages need a clock that is right."""
        now = time.time()
        newest = max((g.created_at for g in self._patient.generations.list()), default=0.0)
        if now < _EARLIEST:
            return Check("clock", _ERROR, f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}",
                         "Set the clock of this machine, such as by NTP.")
        if newest > now + 60:
            return Check("clock", _ERROR, f"the last change of the extensions lies {newest - now:.0f} s in the future",
                         "Set the clock of this machine, such as by NTP.")
        return Check("clock", _OK, time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)))

    def disk(self) -> Check:
        """Bundles and environments need room."""
        free = shutil.disk_usage(self._settings.home).free
        said = f"{free / (1 << 30):.1f} GiB are free below {self._settings.home}"
        state = _ERROR if free < _TOO_LITTLE else _WARNING if free < _LITTLE else _OK
        return Check("disk", state, said, "" if state is _OK else "Free space: fuseml extension gc; uv cache prune")

    def uv(self) -> Check:
        """Environments are built by uv."""
        try:
            path = find_uv()
            version = run_uv(["--version"], index=IndexSettings(offline=True), timeout=20.0).strip()
        except PluginError as error:
            return Check("uv", _ERROR, error.message, error.hint or "Install uv, or name it in FUSEML_UV.")
        return Check("uv", _OK, f"{version} ({path})")

    def python(self) -> Check:
        """The interpreters that extensions accept."""
        found = []
        for wanted in (None, "3.11", "3.12", "3.13", "3.14"):
            path, warning = find_python(wanted, self._settings.pythons)
            facts = None if warning else inspect_python(path)
            if facts is not None and facts.version not in found:
                found.append(facts.version)
        if not found:
            return Check("python", _ERROR, "no Python interpreter runs here", "Install one, or set FUSEML_PYTHONS.")
        return Check("python", _OK, f"there is {', '.join(found)}")

    def index(self) -> Check:
        """Whether locks can be installed again, should it be needed."""
        locked = [r.name for r in self._patient.records.list() if (r.manifest.get("environment") or {}).get("lock")
                  and not (r.manifest.get("environment") or {}).get("vendored")]
        if not locked:
            return Check("index", _SKIPPED, "no installed extension needs a package index")
        if self._settings.offline:
            return Check("index", _SKIPPED, f"offline; {', '.join(locked)} would be built from imported wheels")
        url = self._settings.index_url or os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or ""
        host = urlsplit(url).hostname or ""
        if not host:
            return Check("index", _SKIPPED, "no package index is set; uv asks the one it knows")
        try:
            with socket.create_connection(_address(url), timeout=5.0):
                return Check("index", _OK, f"the package index at {host} can be reached")
        except OSError as error:
            return Check("index", _WARNING, f"the package index at {host} cannot be reached: {error}; the environments "
                         f"of {', '.join(locked)} could not be built again",
                         "Set FUSEML_INDEX_URL or FUSEML_PROXY; or set FUSEML_OFFLINE=1 if there shall be none.")

    # -- the server ------------------------------------------------------------------------------------------------

    def ports(self) -> Check:
        """The data process listens where it says."""
        port = self._settings.port
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5.0):
                return Check("ports", _OK, f"the server listens on 127.0.0.1:{port}")
        except OSError as error:
            return Check("ports", _ERROR, f"nothing listens on 127.0.0.1:{port}: {error}",
                         "Start the server again: fuseml server stop; fuseml server start")

    def registry(self) -> Check:
        """The embedded registry answers."""
        try:
            with self._patient.registry() as client:
                client.ping()
                return Check("registry", _OK, f"the registry at {client.registry} answers")
        except PluginError as error:
            return Check("registry", _ERROR, error.message, error.hint or "See: fuseml server logs")

    def migrations(self) -> Check:
        """The database has the schema of this version."""
        missing = self._patient.pending()
        if missing:
            return Check("migrations", _ERROR, f"the database lacks {', '.join(missing)}",
                         "Start the server again, which makes them.")
        return Check("migrations", _OK, "the database has the newest schema")

    def keys(self) -> Check:
        """Only their owner can read private keys."""
        open_ = [path.name for path in self._private_keys() if stat.S_IMODE(path.stat().st_mode) & 0o077]
        if open_:
            return Check("keys", _ERROR, f"others can read {', '.join(open_)} in {self._settings.path('keys')}",
                         "chmod 600 them; if somebody may have copied one, make another and sign again.")
        return Check("keys", _OK, f"{len(self._private_keys())} private keys, readable by their owner only")

    def repair_keys(self) -> str:
        """Take the rights of others away."""
        for path in self._private_keys():
            path.chmod(0o600)
        return "their modes are 0600 now"

    def policy(self) -> Check:
        """The policy can be read, names keys that are there, and does not let everything in."""
        try:
            policy = read_policy(self._settings.policy)
        except PluginError as error:
            return Check("policy", _ERROR, error.message, error.hint or f"Correct {self._settings.policy}.")
        broken = []
        for rule in policy.rules:
            for key in rule.keys:
                try:
                    load_public(key)
                except PluginError as error:
                    broken.append(f"{rule.name}: {error.message}")
        if broken:
            return Check("policy", _ERROR, "; ".join(broken), "Put the key there, or correct the rule.")
        loose = [rule.name for rule in policy.rules if rule.action == ALLOW and rule.match in ("**", "*/**")]
        if loose:
            return Check("policy", _WARNING, f"{loose[0]} lets in extensions from anywhere without a signature",
                         f"Name registries and keys instead in {self._settings.policy}.")
        if not policy.rules:
            return Check("policy", _WARNING, "the policy has no rules, so nothing can be installed",
                         f"Add rules to {self._settings.policy}; an example is in the documentation.")
        return Check("policy", _OK, f"{len(policy.rules)} rules in {self._settings.policy}")

    def marketplaces(self) -> Check:
        """Catalogs are fresh."""
        every = self._patient.marketplaces()
        wrong = [f"{entry['name']} is {entry['state']}" for entry in every if entry["state"] != "current"]
        if wrong:
            expired = any(entry["state"] in ("expired", "missing") for entry in every)
            return Check("marketplaces", _ERROR if expired else _WARNING, "; ".join(wrong),
                         "Update them: fuseml marketplace update")
        return Check("marketplaces", _OK, f"{len(every)} marketplaces, all current" if every else "none is subscribed")

    def repair_marketplaces(self) -> str:
        """Fetch their catalogs."""
        names = [str(entry["name"]) for entry in self._patient.marketplaces() if entry["state"] != "current"]
        for name in names:
            self._patient.update(name)
        return f"updated {', '.join(names)}"

    # -- what is installed -----------------------------------------------------------------------------------------

    def advice(self) -> Check:
        """No version that is installed was yanked or deprecated by its curators."""
        told = self._patient.advice()
        if told:
            return Check("advice", _WARNING, "; ".join(told), "Upgrade, or see: fuseml extension info NAME")
        return Check("advice", _OK, "no catalog advises against what is installed")

    def generations(self) -> Check:
        """The generation in force is whole, and the last change worked."""
        current = self._patient.generations.current()
        lost = [m.name for m in current.members if self._patient.records.by_digest(m.digest) is None]
        if lost:
            return Check("generations", _ERROR, f"generation {current.number} names versions that are unknown: "
                         f"{', '.join(lost)}", "Install them again, or go back: fuseml extension rollback")
        failed = [g for g in self._patient.generations.list() if g.state is GenerationState.FAILED]
        if failed and failed[0].number == current.number - 1:
            return Check("generations", _WARNING, f"generation {failed[0].number} ({failed[0].cause}) failed and was "
                         f"taken back: {failed[0].note}", "See: fuseml extension history")
        return Check("generations", _OK, f"generation {current.number} with {len(current.members)} extensions")

    def bundles(self) -> Check:
        """The folder of each version is there."""
        gone = [f"{r.name} {r.version}" for r in self._patient.records.list() if not self._patient.store.has(r.digest)]
        if gone:
            return Check("bundles", _ERROR, f"the files of {', '.join(gone)} are gone or incomplete",
                         "Fetch them again: fuseml extension verify --repair")
        return Check("bundles", _OK, f"{len(self._patient.records.list())} unpacked bundles are there")

    def environments(self) -> Check:
        """The environment of each version is there, on an interpreter that is there."""
        needing = [record for record in self._patient.records.list() if record.environment]
        gone = [f"{record.name} {record.version}" for record in needing if not _is_whole(record)]
        if gone:
            return Check("environments", _ERROR, f"the environment of {', '.join(gone)}, or the Python under it, is "
                         "gone", "Build it again: fuseml extension verify --repair")
        return Check("environments", _OK, f"{len(needing)} environments of extensions are there")

    def components(self) -> Check:
        """No component has crashed for good."""
        states = [(record, component) for record in self._patient.records.list()
                  for component in self._patient.host.state(record)]
        down = [(f"{record.name}/{component['name']}", component.get("last_crash") or "it cannot be used")
                for record, component in states if component["state"] == "failed"]
        if down:
            said = "; ".join(f"{name}: {cause.splitlines()[0].removesuffix('; last output:')}" for name, cause in down)
            return Check("components", _ERROR, said, _look_at(name for name, _ in down))
        restarted = [f"{record.name}/{component['name']}" for record, component in states if component.get("restarts")]
        if restarted:
            return Check("components", _WARNING, f"restarted after crashes: {', '.join(sorted(set(restarted)))}",
                         _look_at(restarted))
        return Check("components", _OK, f"{len(states)} components, none crashed")

    def isolation(self) -> Check:
        """What keeps the processes of extensions from each other, the server and what they did not ask for."""
        measures = self._patient.host.isolation()
        said = "enforced: " + ", ".join(m["name"] for m in measures if m["enforced"])
        lacking = [m for m in measures if not m["enforced"]]
        if not lacking:
            return Check("isolation", _OK, said)
        said += "; not enforced: " + "; ".join(f"{m['name']} ({m['reason']})" for m in lacking)
        if all(m["name"] == "own user" for m in lacking):
            return Check("isolation", _OK, said)
        return Check("isolation", _WARNING, said, "Install extensions from authors that you trust with your files, or "
                     "run the server on Linux 6.12 or newer.")

    def limits(self) -> Check:
        """Which limits of components this machine enforces, and by what."""
        judged = {name: self._patient.host.judge_limit(name) for name in LEAST}
        said = "; ".join(f"{name} {how}" if enforced else f"{name} not: {how}"
                         for name, (enforced, how) in judged.items())
        if all(enforced for enforced, _ in judged.values()):
            return Check("limits", _OK, said)
        return Check("limits", _WARNING, said, "Run the server as root, or as a service of systemd with Delegate=yes "
                     "and DelegateSubgroup=server.")

    def leftovers(self) -> Check:
        """What interrupted work left behind, and what nothing needs."""
        half = self._half_made()
        if half:
            return Check("leftovers", _WARNING, f"{len(half)} folders were left half made", "fuseml extension doctor "
                         "--fix removes them.")
        found = self._patient.leftovers()
        size = sum(leftover.bytes for leftover in found)
        if found:
            return Check("leftovers", _OK, f"{len(found)} things that nothing needs, {size / (1 << 20):.1f} MiB",
                         "See: fuseml extension gc --dry-run")
        return Check("leftovers", _OK, "nothing is left over")

    def repair_leftovers(self) -> str:
        """Remove folders that were left half made, unless they are being made now."""
        half = self._half_made()
        for path in half:
            shutil.rmtree(path, ignore_errors=True)
        return f"removed {len(half)} of them"

    def _half_made(self) -> list[Path]:
        """Temporary folders of the store that are older than any installation takes."""
        return [path for path in entries(self._patient.store.root)
                if path.name.startswith(".tmp-") and time.time() - path.stat().st_mtime > 7200]

    def _private_keys(self) -> list[Path]:
        return [path for path in entries(self._settings.path("keys")) if path.suffix == ".key"]


def _is_whole(record: InstalledExtension) -> bool:
    return bool(record.environment and record.python and (Path(record.environment) / ".complete").is_file()
                and Path(record.python).exists())


def _look_at(names: Iterable[str]) -> str:
    """The commands that show what is known of crashed plugins, each ready to be copied."""
    return "See: " + "; ".join(f"fuseml plugin info {name}, fuseml plugin logs {name}" for name in sorted(set(names)))


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
