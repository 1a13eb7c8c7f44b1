"""`bundle lint`: named checks of a bundle's source, or of a bundle that somebody else built.

Each rule has an id that stays, a severity, the reason and the fix; the table of all is in the reference. Rules in
:mod:`~fuseml_oci.bundles.lint.form` keep a source from being built; all others look at the finished bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from fuseml_oci.bundles.build import BuiltBundle, read_source_manifest
from fuseml_oci.bundles.descriptor import BundleLayer
from fuseml_oci.bundles.layout import Layout
from fuseml_oci.bundles.lint import about, contents, distributions, publication, secrets, syntax
from fuseml_oci.bundles.lint.form import examine
from fuseml_oci.bundles.lint.report import Report, report_of
from fuseml_oci.bundles.lint.rules import RULES, Finding, Rule, Severity, run
from fuseml_oci.bundles.lint.subject import Subject, subject_of
from fuseml_oci.bundles.transfer import PulledBundle, descriptor_of_layer
from fuseml_oci.bundles.wheels import Wheel, make_wheel
from fuseml_oci.digests import BUFFER
from fuseml_oci.sections import Section
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import LintException

__all__ = ["RULES", "Finding", "Report", "Rule", "Severity", "Subject", "lint_bundle", "lint_source", "refuse_errors",
           "subject_of"]
_MODULES = (about, contents, distributions, publication, secrets, syntax)  # importing them makes their rules known


def lint_source(source: Path, *, make: Callable[..., Wheel] | None = None, vendored: Sequence[Path] = (),
                published: Sequence[str] | None = None) -> tuple[Report, BuiltBundle | None]:
    """Check the source of a bundle.

    Args:
        source: Folder with extension.toml.
        make: Makes the wheel of a project folder; by default it is built.
        vendored: Wheels of the lock, if they shall be checked too.
        published: Versions in the registry that it is meant for.

    Returns:
        What was found, and the bundle if it can be built.
    """
    findings, built = examine(source, make or make_wheel, vendored)
    if built is None:
        return report_of(findings, _exceptions(source), complete=False), None
    subject = _of_built(built).around(source=source, published=published)
    complete = published is not None or not any(e.rule == "B501" for e in built.descriptor.manifest.lint)
    return report_of([*findings, *run(subject)], built.descriptor.manifest.lint, complete=complete), built


def lint_bundle(bundle: BuiltBundle | Layout | PulledBundle, *, published: Sequence[str] | None = None,
                referrers: Sequence[str] | None = None) -> Report:
    """Check a finished bundle. Exceptions of rules that need its source are not called stale.

    Args:
        bundle: In memory, in a layout, or pulled into a content store.
        published: Versions in the registry.
        referrers: Artifact and predicate types of what refers to it there.

    Raises:
        InvalidInput: A layer is broken or hostile.
    """
    if isinstance(bundle, BuiltBundle):
        subject = _of_built(bundle)
    elif isinstance(bundle, Layout):
        subject = subject_of(bundle.descriptor, lambda layer: _verified(bundle, layer))
    else:
        subject = subject_of(bundle.descriptor, lambda layer: bundle.blobs[layer.digest])
    subject = subject.around(published=published, referrers=referrers)
    return report_of(run(subject), bundle.descriptor.manifest.lint, complete=False)


def refuse_errors(built: BuiltBundle, source: Path | None = None) -> None:
    """Run the rules of severity error on a bundle that was just built.

    Args:
        built: The bundle.
        source: The folder it was built from, so that findings name its files.

    Raises:
        InvalidInput: With every finding and its fix.
    """
    errors = [id_ for id_, each in RULES.items() if each.severity is Severity.ERROR]
    findings = list(run(_of_built(built).around(source=source), errors))
    if findings:
        first = findings[0]
        lines = [f"{found.rule.id} {found.where}: {found.message}" for found in findings]
        raise InvalidInput("\n".join(lines), hint=first.fix)


def _of_built(built: BuiltBundle) -> Subject:
    return subject_of(built.descriptor, lambda layer: built.blobs[layer.digest])


def _verified(bundle: Layout, layer: BundleLayer) -> Section:
    """Where a layer lies in its layout, after its bytes were read once; large ones never lie in memory."""
    section, digest = bundle.image.section(descriptor_of_layer(layer)), hashlib.sha256()
    with section.open() as stream:
        while block := stream.read(BUFFER):
            digest.update(block)
    if f"sha256:{digest.hexdigest()}" != layer.digest:
        raise InvalidInput(f"{bundle.path}: the layer {layer.title} has the digest sha256:{digest.hexdigest()} instead "
                           f"of {layer.digest}", hint="The file was changed or damaged; fetch it again.")
    return section


def _exceptions(source: Path) -> Sequence[LintException]:
    try:
        return read_source_manifest(source).lint
    except InvalidInput:
        return ()

