"""The bill of materials of a bundle: a CycloneDX 1.6 document, made from what the bundle says and nothing else.

https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from fuseml_oci import media
from fuseml_oci.bundles.descriptor import WHEEL_FOLDERS, BundleLayer, ExtensionDescriptor
from fuseml_oci.bundles.vendoring import hashes_of

PREDICATE = "https://cyclonedx.org/bom"
MEDIA_TYPE = media.SBOM
_NAMESPACE = uuid.UUID("5b7f1d2e-3c1b-5d6e-9a44-2f0c3f1f9b10")
_PIN = re.compile(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;\\]+)")


def document(descriptor: ExtensionDescriptor, digest: str, lock: str = "") -> dict[str, Any]:
    """Describe everything that a bundle brings or pulls in; the same bundle gives the same document.

    Args:
        descriptor: What its config blob says.
        digest: Of its manifest.
        lock: Text of its requirements.lock.

    Returns:
        A CycloneDX 1.6 document: the extension, its own wheels, the distributions of its lock, its files, and the
        extensions that it depends on. Without a time, so that it depends on nothing else.
    """
    manifest = descriptor.manifest
    root = f"pkg:oci/{manifest.name}@{_quoted(digest)}"
    components = _components(descriptor, lock)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "fuseml-bundle"}]},
            "component": {
                "type": "application", "bom-ref": root, "name": manifest.name, "version": manifest.version,
                "description": manifest.summary, "purl": root, **_licences(manifest.licence),
                "hashes": [_hash(digest)],
                **({"externalReferences": references} if (references := _references(manifest.links)) else {}),
            },
        },
        "components": components,
        "dependencies": [{"ref": root, "dependsOn": [c["bom-ref"] for c in components if c["type"] != "file"]}],
    }


def _components(descriptor: ExtensionDescriptor, lock: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    carried: dict[str, list[BundleLayer]] = {}
    for layer in descriptor.layers:
        if layer.kind in WHEEL_FOLDERS:
            carried.setdefault(_purl_of_wheel(layer.title), []).append(layer)
    allowed = hashes_of(lock)
    for name, version in _PIN.findall(lock):
        purl = f"pkg:pypi/{_normal(name)}@{version}"
        hashes = [_hash(f"sha256:{value}") for value in sorted(allowed.get(_normal(name), ()))]
        found[purl] = _library(purl, name=_normal(name), version=version, hashes=hashes)
    for purl, layers in carried.items():
        name, _, version = purl.removeprefix("pkg:pypi/").partition("@")
        found[purl] = _library(purl, name=name, version=version, hashes=[_hash(layer.digest) for layer in layers])
    for dependency in descriptor.manifest.dependencies:
        reference = f"extension:{dependency.name}"
        found[reference] = {"type": "application", "bom-ref": reference, "name": dependency.name,
                            "properties": [{"name": "fuseml:range", "value": dependency.range}]}
    for file in descriptor.files:
        if not file.path.startswith(tuple(f"{folder}/" for folder in WHEEL_FOLDERS.values())):
            reference = f"file:{file.path}"
            found[reference] = {"type": "file", "bom-ref": reference, "name": file.path, "hashes": [_hash(file.digest)]}
    return [found[key] for key in sorted(found)]


def _library(purl: str, *, name: str, version: str, hashes: list[dict[str, str]]) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            **({"hashes": hashes} if hashes else {})}


def _purl_of_wheel(filename: str) -> str:
    try:
        name, version, _build, _tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return f"pkg:generic/{_quoted(filename)}"
    return f"pkg:pypi/{name}@{_quoted(str(version))}"


def _hash(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {"alg": {"sha256": "SHA-256", "sha512": "SHA-512"}[algorithm], "content": value}


def _licences(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        return {"licenses": [{"expression": canonicalize_license_expression(text)}]}
    except InvalidLicenseExpression:
        return {"licenses": [{"license": {"name": text}}]}


def _references(links: Mapping[str, str]) -> list[dict[str, str]]:
    kinds = {"source": "vcs", "documentation": "documentation", "issues": "issue-tracker", "homepage": "website"}
    return [{"type": kinds.get(name, "other"), "url": address} for name, address in sorted(links.items())]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _quoted(text: str) -> str:
    """Percent-encoded, as a purl wants versions (https://github.com/package-url/purl-spec)."""
    from urllib.parse import quote

    return quote(text, safe="")
