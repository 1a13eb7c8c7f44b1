"""The checks of a bundle that shall come into a catalog. Each says what it looked at, so that a person can judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fuseml_oci.bundles.lint import Finding, Report, Severity
from fuseml_oci.bundles.transfer import RemoteBundle
from fuseml_oci.catalog.format import Check, Namespaces, Need, Owner, Package
from fuseml_oci.signing.keys import PublicKey, read_public
from fuseml_oci.signing.verify import verify
from fuseml_oci.sources import ManifestSource
from fuseml_registry.curation.edits import Act, version_of
from fuseml_registry.curation.likeness import lookalikes
from fuseml_registry.curation.submissions import Submitted
from fuseml_sdk.versions import parse_range, parse_version

#: Sentences of one kind that are shown.
_SHOWN = 20
#: Rules of `bundle lint` against what must never be published; shown apart, because they weigh most.
_SECRETS = "B4"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked, and what it is checked against.

    Attributes:
        bundle: As its registry has it.
        source: Where the bundle and its signatures lie.
        folder: The bundle, unpacked.
        report: Of `bundle lint`.
        package: What the catalog says of it already.
        packages: The whole catalog.
        namespaces: Who may submit to what.
        namespace: Where it shall go.
        repository: Where the bundle will lie, `oci://…` without tag and digest.
        submitted: The submission, if there was one.
        owners: Fingerprints of the owners' keys that signed the submission.
    """

    bundle: RemoteBundle
    source: ManifestSource
    folder: Path
    report: Report
    package: Package | None
    packages: Mapping[str, Package]
    namespaces: Namespaces
    namespace: str
    repository: str
    submitted: Submitted | None = None
    owners: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Name of the package."""
        return self.bundle.descriptor.name

    @property
    def version(self) -> str:
        """The version that is checked."""
        return self.bundle.descriptor.version


def inspect(subject: Subject) -> list[Check]:
    """All checks but the bundle's own tests, in the order in which people read them."""
    return [check(subject) for check in _CHECKS]


def owner_keys(namespaces: Namespaces, namespace: str) -> list[PublicKey]:
    """The keys with which a submission to a namespace may be signed."""
    found = namespaces.find(namespace)
    return [read_public(key.pem.encode(), f"the key {key.fingerprint}")
            for owner in (found.owners if found else ()) for key in owner.keys]


def _identity(subject: Subject) -> Check:
    problems = []
    if subject.submitted is not None:
        document = subject.submitted.document
        for what, said, found in (("name", document.name, subject.name), ("version", document.version, subject.version),
                                  ("digest", document.digest, subject.bundle.digest)):
            if said != found:
                problems.append(f"The submission says {what} {said}, the bundle has {found}.")
    if subject.package is not None and subject.package.repository != subject.repository:
        problems.append(f"The bundle lies in {subject.repository}, the package in {subject.package.repository}.")
    known = subject.package.find(subject.version) if subject.package else None
    if known is not None:
        same = known.digest == subject.bundle.digest
        problems.append(f"Version {subject.version} is in the catalog already" + ("." if same else
                        f" with other contents ({known.digest}). Published versions never change."))
    return _check("identity", problems, f"{subject.name} {subject.version}, {subject.bundle.digest}")


def _namespace(subject: Subject) -> Check:
    problems = []
    if subject.namespaces.find(subject.namespace) is None:
        problems.append(f"There is no namespace {subject.namespace!r}.")
    if subject.package is not None and subject.package.namespace != subject.namespace:
        problems.append(f"The package belongs to the namespace {subject.package.namespace}.")
    if subject.submitted is None:
        return _check("namespace", problems, f"{subject.namespace}; added by a curator")
    if problems:
        return _check("namespace", problems, "")
    if not subject.owners:
        return Check(name="namespace", outcome="failed", text="The submission is not signed by an owner of the "
                     f"namespace {subject.namespace}, so nobody knows who submitted it.")
    names = [owner.name for owner in _owners(subject) if {key.fingerprint for key in owner.keys} & set(subject.owners)]
    return Check(name="namespace", outcome="passed", text=f"{subject.namespace}; signed by {', '.join(names)}")


def _owners(subject: Subject) -> Sequence[Owner]:
    found = subject.namespaces.find(subject.namespace)
    return found.owners if found else ()


def _names(subject: Subject) -> Check:
    if subject.package is not None:
        return Check(name="names", outcome="passed", text="The package is known.")
    found = lookalikes(subject.name, subject.packages)
    return Check(name="names", outcome="warned" if found else "passed", text=(
        f"The name can be mistaken for {', '.join(found[:_SHOWN])}." if found else "No other package has such a name."))


def _signatures(subject: Subject) -> Check:
    rule = subject.package.signers if subject.package else None
    if rule is None:
        found = owners_who_signed(subject)
        if found:
            return Check(name="signatures", outcome="passed", text="Signed with a key of an owner of the namespace, "
                         f"which becomes the package's signer: {', '.join(key.fingerprint for key in found)}")
        return Check(name="signatures", outcome="warned", text="Nobody known signed the bundle, and the package has no "
                     "rule for signers: servers whose policy asks the marketplace refuse it. "
                     "See: fuseml catalog signers")
    keys = [read_public(key.pem.encode(), f"the key {key.fingerprint}") for key in rule.keys]
    good = {entry.key for entry in verify(subject.source, subject.bundle.digest, keys)}
    text = f"{len(good)} of {rule.threshold} wanted keys signed the bundle"
    return Check(name="signatures", outcome="passed" if len(good) >= rule.threshold else "failed", text=(
        text + (": " + ", ".join(sorted(good)) if good else ".")))


def owners_who_signed(subject: Subject) -> list[PublicKey]:
    """Keys of owners of the namespace with which the bundle itself is signed."""
    keys = {key.fingerprint: key for key in owner_keys(subject.namespaces, subject.namespace)}
    signed = {entry.key for entry in verify(subject.source, subject.bundle.digest, list(keys.values()))} if keys else {}
    return [keys[fingerprint] for fingerprint in sorted(signed)]


def _permissions(subject: Subject) -> Check:
    now = {entry.name: entry.reason for entry in subject.bundle.descriptor.manifest.permissions}
    if subject.package is None or not subject.package.versions:
        lines = [f"It wants {name}: {reason}" for name, reason in now.items()]
        return Check(name="permissions", outcome="warned" if lines else "passed",
                     text=_lines(lines) or "It wants none.")
    before_version = max(subject.package.versions, key=lambda entry: parse_version(entry.version))
    before = {entry.name for entry in before_version.permissions}
    new = [f"New since {before_version.version}: {name}: {reason}" for name, reason in now.items()
           if name[:300] not in before]
    gone = [f"Not wanted any more: {name}" for name in sorted(before - {name[:300] for name in now})]
    return Check(name="permissions", outcome="warned" if new else "passed",
                 text=_lines([*new, *gone]) or f"The same as {before_version.version}.")


def _needs(subject: Subject) -> Check:
    version = version_of(subject.bundle.descriptor, subject.bundle.digest, Act("-", "2000-01-01T00:00:00Z"))
    problems = [text for need in version.dependencies for text in _unmet(need, subject.packages)]
    needs = ", ".join(f"{need.name} {need.range}" for need in version.dependencies) or "nothing"
    return _check("dependencies", problems, f"It needs FuseML {version.requires_fuseml} and {needs}.")


def _unmet(need: Need, packages: Mapping[str, Package]) -> Iterator[str]:
    package = packages.get(need.name)
    if package is None:
        yield f"It needs {need.name} {need.range}, which is not in the catalog."
        return
    wanted = parse_range(need.range)
    good = [entry for entry in package.versions if entry.yanked is None and parse_version(entry.version) in wanted]
    offered = {entry.version for entries in package.channels.values() for entry in entries}
    if not any(entry.version in offered for entry in good):
        there = ", ".join(entry.version for entry in package.versions[:_SHOWN]) or "no version"
        yield f"It needs {need.name} {need.range}; the catalog offers {there}."


def _lint(subject: Subject) -> Check:
    return _linted("lint", [found for found in subject.report.findings if not found.rule.id.startswith(_SECRETS)])


def _secrets(subject: Subject) -> Check:
    return _linted("secrets", [found for found in subject.report.findings if found.rule.id.startswith(_SECRETS)])


def _linted(name: str, findings: Sequence[Finding]) -> Check:
    open_ones = [found for found in findings if not found.accepted]
    worst = {found.rule.severity for found in open_ones}
    outcome: Literal["failed", "warned", "passed"] = (
        "failed" if Severity.ERROR in worst else "warned" if Severity.WARNING in worst else "passed")
    lines = [f"{found.rule.id} {found.where}: {found.message}" for found in open_ones]
    lines += [f"{found.rule.id} {found.where}: accepted by the author: {found.accepted}" for found in findings
              if found.accepted]
    return Check(name=name, outcome=outcome, text=_lines(lines) or "Nothing found.")


def _check(name: str, problems: list[str], text: str) -> Check:
    return Check(name=name, outcome="failed" if problems else "passed", text=_lines(problems) or text)


def _lines(lines: list[str]) -> str:
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join([*lines[:_SHOWN], *more])[:4000]


_CHECKS: Sequence[Callable[[Subject], Check]] = (
    _identity, _namespace, _names, _signatures, _permissions, _needs, _lint, _secrets)
