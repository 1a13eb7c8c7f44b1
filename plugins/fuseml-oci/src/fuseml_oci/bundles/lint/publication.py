"""Rules about publishing: versions rise, changes are told, and what is published says where it comes from."""

from __future__ import annotations

import re

from fuseml_oci import media
from fuseml_oci.bundles.build import MANIFEST_FILE
from fuseml_oci.bundles.lint.rules import Found, Severity, rule
from fuseml_oci.bundles.lint.subject import Subject
from fuseml_sdk.manifest import SEMVER
from fuseml_sdk.versions import parse_version

_CHANGELOG = "CHANGELOG.md"


@rule("B501", Severity.WARNING, reason="Versions are immutable, and a lower one is never offered as an upgrade.",
      fix="Raise `version` in extension.toml.")
def version_is_new(bundle: Subject) -> Found:
    """The version is greater than every published one (with --against)."""
    own = parse_version(bundle.manifest.version)
    if bundle.published is None or own.is_development:
        return
    others = [parse_version(tag) for tag in bundle.published if SEMVER.match(tag)]
    higher = [other for other in others if other >= own and not other.is_development]
    if higher:
        yield f"{MANIFEST_FILE}: version", f"{own} is not greater than {max(higher)}, which is published"


@rule("B502", Severity.WARNING, reason="People who upgrade want to know what they get.",
      fix="Write a heading with the version, and under it what a user notices.")
def changelog_tells_the_version(bundle: Subject) -> Found:
    """CHANGELOG.md beside extension.toml has an entry for the version."""
    if bundle.source is None:
        return
    path = bundle.source / _CHANGELOG
    if not path.is_file():
        yield _CHANGELOG, "there is no CHANGELOG.md"
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    entry = re.search(rf"(?m)^#+ .*\b{re.escape(bundle.manifest.version)}\b.*$", text)
    if entry is None:
        yield _CHANGELOG, f"has no heading with {bundle.manifest.version}"
    elif not re.search(r"\w", text[entry.end():].partition("\n## ")[0]):
        yield _CHANGELOG, f"says nothing under {bundle.manifest.version}"


@rule("B503", Severity.NOTICE, reason="Scanners find known holes in what an extension brings by its bill of materials.",
      fix="Push it with --attest.")
def has_a_bill_of_materials(bundle: Subject) -> Found:
    """A CycloneDX document refers to the bundle, if it is in a registry."""
    if bundle.referrers is not None and not {media.SBOM, "https://cyclonedx.org/bom"} & set(bundle.referrers):
        yield "referrers", "no bill of materials refers to the bundle"


@rule("B504", Severity.NOTICE, reason="It says which source and which build made these bytes.",
      fix="Push it with --attest.")
def has_a_provenance(bundle: Subject) -> Found:
    """A provenance statement refers to the bundle, if it is in a registry."""
    if bundle.referrers is not None and "https://slsa.dev/provenance/v1" not in bundle.referrers:
        yield "referrers", "no provenance refers to the bundle"
