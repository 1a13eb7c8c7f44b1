"""What others attached to a bundle: bills of materials, provenance, test results, signatures."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from fuseml_oci.bundles.descriptor import ExtensionDescriptor
from fuseml_oci.bundles.scorecards import PREDICATE as SCORECARD
from fuseml_oci.bundles.scorecards import check_scorecard, summary
from fuseml_oci.descriptor import Descriptor, read_descriptor, read_object
from fuseml_registry.pages.source import StorageSource
from fuseml_sdk.errors import InvalidInput, NotFound, PluginError

#: Attachments of one bundle that are listed, and files of one of them.
MAX_LISTED, MAX_FILES = 50, 20
#: Bytes of a document that is shown, and rows of a table made of it.
MAX_DOCUMENT, MAX_ROWS = 4 << 20, 2000
#: Lists of CycloneDX, SPDX and scorecards that are shown as tables.
_TABLES = ("components", "packages", "checks")
#: Annotations of referring manifests that name the predicate type of an attestation (cosign, BuildKit).
_PREDICATES = ("dev.sigstore.bundle.predicateType", "in-toto.io/predicate-type")
_CREATED = "org.opencontainers.image.created"
_TITLE = "org.opencontainers.image.title"
#: Part of an artifact type, media type or predicate type to what it is, for people.
_LABELS = (
    ("cyclonedx", "sbom", "Bill of materials (CycloneDX)"),
    ("spdx", "sbom", "Bill of materials (SPDX)"),
    ("cosign.dev/sign", "signature", "Signature"),
    ("slsa.dev/provenance", "provenance", "Provenance (SLSA)"),
    ("scorecard", "tests", "Scorecard"),
    ("test-result", "tests", "Test results"),
    ("junit", "tests", "Test results (JUnit)"),
    ("vnd.fuseml.wheels", "wheels", "Wheels of the locked requirements"),
    ("in-toto", "provenance", "Provenance (in-toto)"),
    ("sigstore.bundle", "signature", "Signature or attestation (Sigstore bundle)"),
    ("vnd.dev.cosign", "signature", "Signature"),
)


def attachments(source: StorageSource, digest: str, signers: Mapping[str, list[str]],
                bundle: ExtensionDescriptor | None = None) -> list[dict[str, Any]]:
    """Describe what refers to a bundle.

    Args:
        source: The bundle's repository.
        digest: Of the bundle.
        signers: Digest of each attestation that known keys signed to their names.
        bundle: What the bundle says about itself, to tell scorecards of other wheels.
    """
    listed = [found for entry in source.referrers(digest)[:MAX_LISTED] if (found := describe(source, entry, bundle))]
    return sorted(({**entry, "signed_by": signers.get(entry["digest"], [])} for entry in listed),
                  key=lambda entry: (entry["label"], entry["digest"]))


def describe(source: StorageSource, entry: Descriptor, bundle: ExtensionDescriptor | None = None) -> dict[str, Any]:
    """Describe one of them; empty if it cannot be read."""
    try:
        layers = read_object(source.manifest(entry.digest), "the attachment").get("layers")
        files = [read_descriptor(layer, "a file of it") for layer in (layers if isinstance(layers, list) else [])]
    except PluginError:
        return {}
    predicate = next((found for name in _PREDICATES if (found := entry.annotations.get(name))), "")
    kind, label = kind_of([predicate, entry.artifact_type, *(file.media_type for file in files[:MAX_FILES])])
    return {
        "scorecard": _scorecard(source, files, bundle) if predicate == SCORECARD else None,
        "digest": entry.digest, "type": entry.artifact_type or entry.media_type, "kind": kind, "label": label,
        "predicate_type": predicate, "signed_by": [], "created_at": entry.annotations.get(_CREATED, "")[:40],
        "size": sum(file.size for file in files),
        "files": [{"title": file.annotations.get(_TITLE, "")[:200], "type": file.media_type, "digest": file.digest,
                   "size": file.size} for file in files[:MAX_FILES]],
    }


def _scorecard(source: StorageSource, files: list[Descriptor],
               bundle: ExtensionDescriptor | None) -> dict[str, Any] | None:
    """What a scorecard says in short, and why it is not about the bundle (`misfit`); None if it cannot be read."""
    for file in files[:1]:
        if file.size <= MAX_DOCUMENT:
            try:
                value = json.loads(source.blob(file))
            except (PluginError, ValueError, RecursionError):
                continue
            said = _statement(value) if isinstance(value, dict) else {}
            card = said.get("predicate")
            return {**summary(card), "misfit": _misfit(card, bundle)} if isinstance(card, dict) else None
    return None


def _misfit(card: dict[str, Any], bundle: ExtensionDescriptor | None) -> str:
    """Why a scorecard is not about the wheels of the bundle; empty if it is, or if the bundle is not known."""
    try:
        if bundle is not None:
            check_scorecard(card, bundle)
    except InvalidInput as error:
        return error.message
    return ""


def kind_of(types: list[str]) -> tuple[str, str]:
    """What something of these types is: a word for programs and one for people."""
    for text in filter(None, types):
        for part, kind, label in _LABELS:
            if part in text.lower():
                return kind, label
    return "other", next(filter(None, types), "unknown")[:200]


def find(source: StorageSource, digest: str, attachment: str) -> dict[str, Any]:
    """Describe one attachment of a bundle.

    Raises:
        NotFound: Nothing with this digest refers to the bundle.
    """
    for entry in source.referrers(digest):
        if entry.digest == attachment and (found := describe(source, entry)):
            return found
    raise NotFound(f"nothing with the digest {attachment[:80]} is attached to this version")


def table(source: StorageSource, attachment: Mapping[str, Any]) -> dict[str, Any]:
    """Make a table of a document that can be shown as one: components, provenance or results.

    Returns:
        `caption`, `columns`, `rows` and `total`; without rows if it cannot be shown.

    Raises:
        InvalidInput: The document is too large to be shown.
    """
    empty: dict[str, Any] = {"caption": "", "columns": [], "rows": [], "total": 0}
    for file in attachment["files"]:
        if file["size"] > MAX_DOCUMENT:
            raise InvalidInput("The document is too large to be shown here; download it.")
        try:
            value = json.loads(source.blob(Descriptor(file["type"], file["digest"], file["size"])))
        except (PluginError, ValueError, RecursionError):
            continue
        if isinstance(value, dict) and (found := _rows(_opened(value))):
            return found
    return empty


def _opened(value: dict[str, Any]) -> dict[str, Any]:
    """Take the statement out of a Sigstore bundle or DSSE envelope, and a bill of materials out of a statement."""
    value = _statement(value)
    predicate = value.get("predicate")
    if isinstance(predicate, dict) and any(isinstance(predicate.get(key), list) for key in _TABLES):
        return predicate
    return value


def _statement(value: dict[str, Any]) -> dict[str, Any]:
    """Take the statement out of a Sigstore bundle or DSSE envelope; anything else is returned as it is."""
    envelope = value.get("dsseEnvelope", value)
    payload = envelope.get("payload") if isinstance(envelope, dict) else None
    if not isinstance(payload, str):
        return value
    try:
        inner = json.loads(base64.b64decode(payload))
    except (ValueError, RecursionError):
        return value
    return inner if isinstance(inner, dict) else value


def _rows(value: dict[str, Any]) -> dict[str, Any]:
    if isinstance(value.get("components"), list):  # CycloneDX
        return _made("Components", ("Name", "Version", "Licence", "Hash"), value["components"], _component)
    if isinstance(value.get("packages"), list):  # SPDX
        return _made("Packages", ("Name", "Version", "Licence"), value["packages"], lambda entry: (
            _text(entry, "name"), _text(entry, "versionInfo"), _text(entry, "licenseConcluded")))
    if isinstance(value.get("checks"), list):  # scorecards
        return _made("Checks", ("Check", "Result", "Reason"), value["checks"], lambda entry: (
            _text(entry, "name"), _text(entry, "outcome") or _text(entry, "score") or _text(entry, "status"),
            _text(entry, "reason") or _text(entry, "text")))
    if isinstance(value.get("predicate"), dict):  # in-toto Statement
        facts = [{"name": name, "value": text} for name, text in _flat(value["predicate"], "")]
        return _made("Statement", ("Field", "Value"), facts, lambda entry: (entry["name"], entry["value"]))
    return {}


def _made(caption: str, columns: tuple[str, ...], entries: list[Any], row: Any) -> dict[str, Any]:
    rows = [row(entry) for entry in entries[:MAX_ROWS] if isinstance(entry, dict)]
    return {"caption": caption, "columns": list(columns), "rows": [list(cells) for cells in rows],
            "total": len(entries)}


def _component(entry: dict[str, Any]) -> tuple[str, ...]:
    licences = [_text(choice, "expression") or _text(choice.get("license"), "id")
                or _text(choice.get("license"), "name") for choice in _dicts(entry.get("licenses"))]
    hashes = [f"{_text(digest, 'alg')} {_text(digest, 'content')}" for digest in _dicts(entry.get("hashes"))]
    return _text(entry, "name"), _text(entry, "version"), ", ".join(licences), hashes[0] if hashes else ""


def _flat(value: Any, prefix: str, depth: int = 0) -> list[tuple[str, str]]:
    """Fields of nested objects by their dotted names."""
    if isinstance(value, dict) and depth < 6:
        return [pair for name, inner in list(value.items())[:100]
                for pair in _flat(inner, f"{prefix}.{name}" if prefix else str(name), depth + 1)][:MAX_ROWS]
    if isinstance(value, list) and depth < 6:
        return [pair for number, inner in enumerate(value[:100])
                for pair in _flat(inner, f"{prefix}[{number}]", depth + 1)][:MAX_ROWS]
    return [(prefix[:300], str(value)[:1000])]


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return str(found)[:500] if isinstance(found, str | int | float) else ""


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value[:20] if isinstance(entry, dict)] if isinstance(value, list) else []
