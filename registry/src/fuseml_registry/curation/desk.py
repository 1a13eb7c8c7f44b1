"""The desk of a curator: everything that can be done with a catalog, as plain calls that give plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from fuseml_oci.catalog.format import (
    API_VERSION,
    CHANNELS,
    Decision,
    Namespace,
    Namespaces,
    Owner,
    Package,
    SignerKey,
    SignerRule,
    Submission,
    moment,
)
from fuseml_oci.catalog.relocation import signed_by
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing.keys import PublicKey
from fuseml_oci.sources import RepositorySource
from fuseml_registry.curation import edits, publishing, submissions
from fuseml_registry.curation.edits import Act
from fuseml_registry.curation.mirroring import Mirror, mirror
from fuseml_registry.curation.reviewing import Review, Surroundings, Trials, accept, reject, review
from fuseml_registry.curation.workspace import CatalogSettings, Workspace
from fuseml_sdk.errors import InvalidInput, Permanent

Sign = Callable[[Reference], None]


class Desk:
    """One catalog folder and one person.

    Args:
        folder: With catalog.toml.
        by: Who works here; kept in the history.
        around: What is needed of the world.
    """

    def __init__(self, folder: Path, by: str, around: Surroundings) -> None:
        self._workspace, self._by, self._around = Workspace(folder), by, around

    @classmethod
    def create(cls, folder: Path, by: str, around: Surroundings, *, namespaces: Sequence[str] = (),
               **settings: Any) -> Desk:
        """Make the folder of a new catalog.

        Args:
            folder: To make.
            by: Who makes it, and owns its namespaces.
            around: What is needed of the world.
            namespaces: To begin with.
            settings: Of `CatalogSettings`.
        """
        workspace = Workspace.create(folder, CatalogSettings(**settings))
        spaces = tuple(Namespace(name=name, owners=(Owner(name=by),)) for name in namespaces)
        workspace.save_namespaces(Namespaces(api_version=API_VERSION, namespaces=spaces))
        return cls(folder, by, around)

    @classmethod
    def take_over(cls, folder: Path, by: str, around: Surroundings, reference: Reference,
                  keys: Sequence[PublicKey]) -> Desk:
        """Make the folder of a published catalog from the registry; it must be signed by one of the keys."""
        client = around.connect(reference)
        catalog = publishing.present(client, reference)
        if not signed_by(RepositorySource(client, reference.repository), keys)(catalog.digest):
            raise Permanent(f"{reference}: the catalog is not signed by the given keys")
        publishing.take_over(folder, catalog, reference, by=by, now=around.now())
        return cls(folder, by, around)

    @property
    def place(self) -> Reference:
        """Where the catalog is published."""
        return self._workspace.settings.place

    def packages(self) -> list[dict[str, Any]]:
        """All packages: name, namespace, summary, the best version of each channel, deprecation, repository."""
        return [_row(package) for package in self._workspace.packages().values()]

    def package(self, name: str) -> dict[str, Any]:
        """One package with its history."""
        package = self._workspace.package(name)
        return {**package.model_dump(mode="json"),
                "history": self._workspace.history(name).model_dump(mode="json")["decisions"]}

    def add(self, reference: Reference, *, channel: str, namespace: str = "", why: str = "", despite: bool = False,
            trials: Trials = "never") -> dict[str, Any]:
        """Take a bundle in without a submission; it is checked like one."""
        edits.check_channel(channel)
        reviewed = self._review(reference, namespace, None, trials)
        accept(self._workspace, reviewed, self._around, channel=channel, act=self._act(why), despite=despite)
        return reviewed.to_dict()

    def pending(self, *, every: bool = False) -> list[dict[str, Any]]:
        """What authors asked for: those without a decision, or all."""
        found = []
        for entry in submissions.submissions(self.place, self._around.connect(self.place)):
            decided = self._decided(entry.document.name, entry.digest)
            if decided is None or every:
                found.append({"id": entry.id, "state": decided.action if decided else "pending",
                              **entry.document.model_dump(exclude={"api_version"}),
                              "why": decided.why if decided else "", "decided_by": decided.by if decided else ""})
        return found

    def review(self, wanted: str, trials: Trials = "auto") -> dict[str, Any]:
        """Check a submission and show what was found."""
        return self._submitted(wanted, trials).to_dict()

    def decide(self, wanted: str, verdict: Literal["accept", "reject"], *, why: str = "", channel: str = "",
               despite: bool = False, trials: Trials = "auto") -> dict[str, Any]:
        """Check a submission again, then accept or reject it."""
        reviewed = self._submitted(wanted, trials)
        submitted = reviewed.submitted
        assert submitted is not None
        before = self._decided(submitted.document.name, submitted.digest)
        if before is not None:
            raise InvalidInput(f"the submission {submitted.id} was {before.action} by {before.by} at {before.at}",
                               hint="Ask the author to submit again.")
        if verdict == "reject":
            reject(self._workspace, reviewed, self._act(why))
        else:
            accept(self._workspace, reviewed, self._around, channel=channel or submitted.document.channel,
                   act=self._act(why), despite=despite)
        return reviewed.to_dict()

    def submit(self, reference: Reference, *, namespace: str, channel: str, message: str, catalog: Reference,
               sign: Sign | None) -> dict[str, Any]:
        """Ask the curators of a catalog for a version; see :func:`submit`."""
        return submit(reference, self._by, self._around, namespace=namespace, channel=channel, message=message,
                      catalog=catalog, sign=sign)

    def promote(self, name: str, version: str, channel: str, why: str = "") -> dict[str, Any]:
        """Put a version into a channel."""
        return self._change(name, "promoted", why, lambda package, _act: edits.in_channel(package, version, channel),
                            version=version, channel=channel)

    def demote(self, name: str, version: str, channel: str, why: str = "") -> dict[str, Any]:
        """Take a version out of a channel."""
        return self._change(name, "demoted", why, lambda package, _act: edits.out_of_channel(package, version, channel),
                            version=version, channel=channel)

    def deprecate(self, name: str, message: str, *, replacement: str = "", version: str = "", channel: str = "",
                  undo: bool = False) -> dict[str, Any]:
        """Advise against a package, a channel or a version; or withdraw that."""
        return self._change(name, "undeprecated" if undo else "deprecated", message, lambda package, act: (
            edits.not_deprecated(package, version=version, channel=channel) if undo else
            edits.deprecated(package, act, replacement=replacement, version=version, channel=channel)),
            version=version, channel=channel)

    def yank(self, name: str, version: str, why: str, *, undo: bool = False) -> dict[str, Any]:
        """Take a version back; or give it back."""
        return self._change(name, "unyanked" if undo else "yanked", why, lambda package, act: (
            edits.not_yanked(package, version) if undo else edits.yanked(package, version, act)), version=version)

    def patch(self, name: str, version: str, values: dict[str, Any], why: str = "") -> dict[str, Any]:
        """Correct what the catalog says of a version, or of the package if `version` is empty."""
        return self._change(name, "patched", why, lambda package, _act: edits.patched(package, version, values),
                            version=version)

    def signers(self, name: str, keys: Sequence[PublicKey], threshold: int = 1, why: str = "") -> dict[str, Any]:
        """Say whose signatures the bundles of a package must have; without keys, nobody's."""
        rule = SignerRule(keys=tuple(_key(key) for key in keys), threshold=threshold) if keys else None
        return self._change(name, "patched", why, lambda package, _act: edits.with_signers(package, rule))

    def namespaces(self) -> list[dict[str, Any]]:
        """Who may submit to what."""
        return [entry.model_dump(mode="json") for entry in self._workspace.namespaces().namespaces]

    def owner(self, namespace: str, name: str, keys: Sequence[PublicKey], *, remove: bool = False) -> dict[str, Any]:
        """Make somebody an owner of a namespace, which is made if it is not there; or remove them."""
        with self._workspace.alone():
            every = self._workspace.namespaces()
            found = every.find(namespace) or Namespace(name=namespace)
            before = next((entry for entry in found.owners if entry.name == name), Owner(name=name))
            added = {key.fingerprint: key for key in (*before.keys, *(_key(key) for key in keys))}
            owners = [entry for entry in found.owners if entry.name != name]
            owners += [] if remove else [Owner(name=name, keys=tuple(added.values()))]
            changed = found.model_copy(update={"owners": tuple(owners)})
            others = [entry for entry in every.namespaces if entry.name != namespace]
            self._workspace.save_namespaces(every.model_copy(update={"namespaces": tuple(
                sorted((*others, changed), key=lambda entry: entry.name))}))
        return changed.model_dump(mode="json")

    def diff(self) -> dict[str, Any]:
        """What publishing would change."""
        return publishing.difference(self._workspace, self._around.connect(self.place))

    def publish(self, sign: Sign) -> dict[str, Any]:
        """Publish what the folder says."""
        done = publishing.publish_folder(self._workspace, self._around.connect(self.place), sign, by=self._by,
                                         now=self._around.now(), progress=self._around.progress)
        return {"reference": str(done.reference), "version": done.version, "digest": done.reference.digest,
                "uploaded": done.uploaded, "size": done.size, "packages": len(self._workspace.names())}

    def _change(self, name: str, action: Any, why: str, edit: Callable[[Package, Act], Package], *,
                version: str = "", channel: str = "") -> dict[str, Any]:
        act = self._act(why)
        with self._workspace.alone():
            before = self._workspace.package(name)
            after = edit(before, act)
            if not edits.same(before, after):
                self._workspace.save(after, Decision(action=action, by=act.by, at=act.at, why=why, version=version,
                                                     channel=channel))
        return {**_row(after), "changed": not edits.same(before, after)}

    def _submitted(self, wanted: str, trials: Trials) -> Review:
        client = self._around.connect(self.place)
        found = submissions.find(self.place, wanted, client)
        return self._review(parse(found.document.reference), found.document.namespace, found, trials)

    def _review(self, reference: Reference, namespace: str, submitted: submissions.Submitted | None,
                trials: Trials) -> Review:
        if not namespace:
            package = self._workspace.find(reference.repository.rpartition("/")[2])
            spaces = self._workspace.namespaces().namespaces
            namespace = package.namespace if package else spaces[0].name if len(spaces) == 1 else ""
        if not namespace:
            raise InvalidInput("it is not clear to which namespace the bundle belongs", hint="Add --namespace NAME.")
        return review(self._workspace, reference, self._around, namespace=namespace, submitted=submitted,
                      trials=trials)

    def _decided(self, name: str, digest: str) -> Decision | None:
        decisions = self._workspace.history(name).decisions
        return next((entry for entry in decisions if entry.submission == digest), None)

    def _act(self, why: str) -> Act:
        return Act(self._by, moment(self._around.now()), why)


def submit(reference: Reference, by: str, around: Surroundings, *, namespace: str, channel: str, message: str,
           catalog: Reference, sign: Sign | None) -> dict[str, Any]:
    """Ask the curators of a catalog for a version; needs no folder.

    Args:
        reference: Where the bundle lies, with tag or digest.
        by: The author.
        around: What is needed of the world.
        namespace: Where it shall go.
        channel: Which channel it is meant for.
        message: To the curators.
        catalog: Theirs.
        sign: Signs the reference that it is given, as an owner of the namespace.
    """
    from fuseml_oci.bundles.transfer import look_up

    found = look_up(reference, around.connect(reference))
    document = Submission(
        api_version=API_VERSION, name=found.descriptor.name, version=found.descriptor.version,
        reference=str(found.reference), digest=found.digest, namespace=namespace,
        channel=edits.check_channel(channel), message=message, by=by, at=moment(around.now()))
    done = submissions.submit(catalog, document, around.connect(catalog), sign)
    return {"id": done.id, "digest": done.digest, "catalog": str(catalog), **document.model_dump()}


def mirrored(wanted: Mirror, around: Surroundings) -> dict[str, Any]:
    """Copy a catalog with its bundles; needs no folder. See :func:`mirror`."""
    return mirror(wanted, around)


def _key(key: PublicKey) -> SignerKey:
    return SignerKey(fingerprint=key.fingerprint, pem=key.pem.decode())


def _row(package: Package) -> dict[str, Any]:
    best = {channel: next((entry.version for entry in package.in_channel(channel) if entry.yanked is None), "")
            for channel in CHANNELS}
    return {"name": package.name, "namespace": package.namespace, "summary": package.summary, "channels": best,
            "versions": [entry.version for entry in package.versions],
            "yanked": [entry.version for entry in package.versions if entry.yanked],
            "deprecated": next((entry.message for entry in package.deprecations
                                if entry.version is None and entry.channel is None), ""),
            "signers": [key.fingerprint for key in package.signers.keys] if package.signers else [],
            "repository": package.repository}
