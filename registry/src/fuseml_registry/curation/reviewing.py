"""Fetching a bundle, checking it from all sides, and taking it into the catalog."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from fuseml_oci.bundles.lint import lint_bundle
from fuseml_oci.bundles.transfer import RemoteBundle, look_up, pull
from fuseml_oci.bundles.unpack import unpack
from fuseml_oci.catalog.format import Check, Decision, SignerKey, SignerRule
from fuseml_oci.client import RegistryClient
from fuseml_oci.copying import copy
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing.keys import PublicKey
from fuseml_oci.sources import RepositorySource
from fuseml_registry.curation.edits import Act, check_is_new, with_signers, with_version
from fuseml_registry.curation.inspection import Subject, inspect, owner_keys, owners_who_signed
from fuseml_registry.curation.submissions import Submitted, signers
from fuseml_registry.curation.trials import Laboratory, try_out
from fuseml_registry.curation.workspace import Workspace
from fuseml_sdk.errors import InvalidInput

#: Whether the bundle's own tests are run: `auto` does if an owner of the namespace signed the submission.
Trials = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What curation needs of the world.

    Attributes:
        connect: Returns a client for the registry of a reference.
        content: Folder of downloaded layers.
        laboratory: Where tests of bundles run.
        progress: Told what happens, one line at a time.
        now: The time.
    """

    connect: Callable[[Reference], RegistryClient]
    content: Path
    laboratory: Laboratory
    progress: Callable[[str], None]
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Review:
    """A checked bundle.

    Attributes:
        bundle: As its registry has it.
        place: Where it will lie, with digest.
        namespace: Where it shall go.
        checks: What was found.
        submitted: The submission, if there was one.
        owners: Fingerprints of the owners' keys that signed it.
        signers: Keys of owners that signed the bundle; they become the signers of a package that has none.
    """

    bundle: RemoteBundle
    place: Reference
    namespace: str
    checks: tuple[Check, ...]
    submitted: Submitted | None = None
    owners: tuple[str, ...] = ()
    signers: tuple[PublicKey, ...] = ()

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [check.name for check in self.checks if check.outcome == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """For people and programs."""
        descriptor, submitted = self.bundle.descriptor, self.submitted
        return {"name": descriptor.name, "version": descriptor.version, "namespace": self.namespace,
                "summary": descriptor.manifest.summary, "reference": str(self.bundle.reference),
                "digest": self.bundle.digest, "submission": submitted.id if submitted else "",
                "submitted_by": submitted.document.by if submitted else "",
                "submitted_at": submitted.document.at if submitted else "",
                "message": submitted.document.message if submitted else "", "signed_by": list(self.owners),
                "channel": submitted.document.channel if submitted else "",
                "checks": [check.model_dump() for check in self.checks]}


def review(workspace: Workspace, reference: Reference, around: Surroundings, *, namespace: str,
           submitted: Submitted | None = None, trials: Trials = "auto") -> Review:
    """Fetch a bundle and check it.

    Args:
        workspace: The catalog that it shall come into.
        reference: Where the bundle lies, with tag or digest.
        around: What is needed of the world.
        namespace: Where it shall go.
        submitted: The submission, if there was one.
        trials: Whether its tests are run. They are somebody's program on your machine.
    """
    client = around.connect(reference)
    around.progress(f"fetching {reference}")
    found = look_up(reference, client)
    owners = signers(submitted, workspace.settings.place, owner_keys(workspace.namespaces(), namespace),
                     around.connect(workspace.settings.place)) if submitted else []
    place = _place(workspace, found)
    with tempfile.TemporaryDirectory(prefix="fuseml-review-", ignore_cleanup_errors=True) as temporary:
        pulled = pull(found.reference, client, around.content, around.progress, found=found)
        folder = unpack(pulled, Path(temporary) / "bundle")
        around.progress("checking")
        packages, source = workspace.packages(), RepositorySource(client, reference.repository)
        subject = Subject(found, source, folder, lint_bundle(pulled), packages.get(found.descriptor.name), packages,
                          workspace.namespaces(), namespace, f"oci://{place.registry}/{place.repository}", submitted,
                          owners)
        checks = [*inspect(subject), _trial(subject, around, trials)]
        own = tuple(owners_who_signed(subject))
    return Review(found, place, namespace, tuple(checks), submitted, tuple(owners), own)


def accept(workspace: Workspace, reviewed: Review, around: Surroundings, *, channel: str, act: Act,
           despite: bool = False) -> None:
    """Take a bundle into the catalog; with a place for bundles set, copy it there first.

    Args:
        workspace: The catalog.
        reviewed: What is accepted.
        around: What is needed of the world.
        channel: The version's first one.
        act: Who accepts it, when and why.
        despite: Even if checks failed; `act.why` must say why.

    Raises:
        InvalidInput: Checks failed, or something in the bundle fits into no catalog.
    """
    described = reviewed.bundle.descriptor
    check_is_new(workspace.find(described.name), described.version)
    if reviewed.failed and not (despite and act.why):
        raise InvalidInput(f"{reviewed.bundle.descriptor.name} {reviewed.bundle.descriptor.version}: "
                           f"{_failures(reviewed)}", hint="If it shall come into the catalog all the same, add "
                           "--despite-failures and a --reason.")
    with workspace.alone():
        package = workspace.find(reviewed.bundle.descriptor.name)
        author = reviewed.submitted.document.by if reviewed.submitted else ""
        changed = with_version(package, reviewed.bundle.descriptor, reviewed.place, reviewed.namespace, channel, act,
                               author=author)
        if package is None and reviewed.signers:
            changed = with_signers(changed, SignerRule(keys=tuple(
                SignerKey(fingerprint=key.fingerprint, pem=key.pem.decode()) for key in reviewed.signers)))
        _bring(reviewed, around)
        workspace.save(changed, decision(reviewed, "accepted" if reviewed.submitted else "added", act, channel))


def reject(workspace: Workspace, reviewed: Review, act: Act) -> None:
    """Turn a submission down.

    Raises:
        InvalidInput: No reason is given.
    """
    if not act.why:
        raise InvalidInput("a rejection needs a reason", hint="Add --reason, so that the author can do something.")
    with workspace.alone():
        workspace.record(reviewed.bundle.descriptor.name, decision(reviewed, "rejected", act, ""))


def decision(reviewed: Review, action: Literal["accepted", "rejected", "added"], act: Act, channel: str) -> Decision:
    """What the history keeps of a review."""
    return Decision(action=action, by=act.by, at=act.at, why=act.why, version=reviewed.bundle.descriptor.version,
                    channel=channel, digest=reviewed.bundle.digest,
                    submission=reviewed.submitted.digest if reviewed.submitted else "",
                    signer=reviewed.owners[0] if reviewed.owners else "", checks=reviewed.checks)


def _place(workspace: Workspace, found: RemoteBundle) -> Reference:
    """Where a bundle will lie: in the catalog's place for bundles if it has one, else where it is."""
    bundles = workspace.settings.bundles
    if not bundles:
        return Reference(found.reference.registry, found.reference.repository, digest=found.digest)
    base = parse(bundles)
    return Reference(base.registry, f"{base.repository}/{found.descriptor.name}", digest=found.digest)


def _bring(reviewed: Review, around: Surroundings) -> None:
    found, place = reviewed.bundle, reviewed.place
    source = Reference(found.reference.registry, found.reference.repository, digest=found.digest)
    if (source.registry, source.repository) != (place.registry, place.repository):
        around.progress(f"copying {found.descriptor.name} {found.descriptor.version} to {place}")
        copy(source, place.with_tag(found.descriptor.version), connect=around.connect)


def _trial(subject: Subject, around: Surroundings, trials: Trials) -> Check:
    known = bool(subject.owners) or subject.submitted is None
    if trials == "never" or (trials == "auto" and not known):
        why = "They were not wanted." if trials == "never" else \
            "Nobody known signed the submission, and tests are programs. Run them with --tests always."
        return Check(name="tests", outcome="skipped", text=why)
    return try_out(subject.folder, subject.bundle.descriptor.manifest, around.laboratory, around.progress)


def _failures(reviewed: Review) -> str:
    return "; ".join(f"{check.name}: {check.text.splitlines()[0] if check.text else 'failed'}"
                     for check in reviewed.checks if check.outcome == "failed")
