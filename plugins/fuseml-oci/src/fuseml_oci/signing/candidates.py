"""What lies where signatures and attestations lie, fetched but not yet judged; bounded in number, size and time."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fuseml_oci.descriptor import Descriptor, read_descriptor, read_object
from fuseml_oci.signing import bundle, legacy
from fuseml_oci.signing.findings import BUNDLE, LEGACY, Fault, Report
from fuseml_oci.signing.payloads import SIGNATURE
from fuseml_oci.sources import ManifestSource
from fuseml_sdk.errors import InvalidInput, PluginError

#: Candidates of each layout that are looked at; each costs up to two requests.
MAX_CANDIDATES = 256
#: Largest signature that is read: payload or bundle, in bytes. Attestations may be as large as a blob in memory.
MAX_SIGNATURE, MAX_ATTESTATION = 64 << 10, 4 << 20
#: Seconds after which no further candidate of a layout is fetched: a registry that is slow on purpose ends somewhere.
MAX_SECONDS = 120.0


def referring(source: ManifestSource, digest: str, say: Report, *, attestations: bool) -> Iterator[tuple[str, bytes]]:
    """Bundles that are attached as referrers.

    Args:
        source: Where to look.
        digest: Of the manifest they refer to.
        say: Told of what is no bundle.
        attestations: Look for attestations instead of signatures.

    Yields:
        (digest of the referring manifest, the bundle).
    """
    limit, end = MAX_ATTESTATION if attestations else MAX_SIGNATURE, time.monotonic() + MAX_SECONDS
    for place in _places(source, digest, say, attestations=attestations):
        if _is_late(end, BUNDLE, say):
            return
        try:
            yield place, _content(source, place, limit)
        except PluginError as error:
            say(Fault(BUNDLE, place, error.message))


def tagged(source: ManifestSource, tag: str, media_type: str, limit: int,
           say: Report) -> Iterator[tuple[Descriptor, bytes]]:
    """Layers of the manifest under one of cosign's older tags, with their contents.

    Args:
        source: Where to look.
        tag: The tag; empty if the digest has none.
        media_type: That the layers must have.
        limit: Bytes that a layer may have.
        say: Told of what is no such layer.
    """
    end = time.monotonic() + MAX_SECONDS
    try:
        data = source.tagged(tag) if tag else None
        layers = legacy.read_layers(data) if data is not None else []
    except PluginError as error:
        say(Fault(LEGACY, "", error.message))
        return
    if len(layers) > MAX_CANDIDATES:
        say(Fault(LEGACY, "", f"only {MAX_CANDIDATES} of {len(layers)} signatures were looked at"))
    for layer in layers[:MAX_CANDIDATES]:
        if _is_late(end, LEGACY, say):
            return
        try:
            described = read_descriptor(layer, "the layer")
            if described.media_type != media_type:
                raise InvalidInput(f"it has the type {described.media_type[:100]!r} instead of {media_type!r}")
            if described.size > limit:
                raise InvalidInput(f"its payload has {described.size} bytes, more than {limit}")
            yield described, source.blob(described)
        except PluginError as error:
            say(Fault(LEGACY, str(layer.get("digest"))[:200], error.message))


def _is_late(end: float, layout: str, say: Report) -> bool:
    late = time.monotonic() >= end
    if late:
        say(Fault(layout, "", f"the registry needed more than {MAX_SECONDS:.0f} s; the rest was not looked at"))
    return late


def _places(source: ManifestSource, digest: str, say: Report, *, attestations: bool) -> Iterator[str]:
    try:
        listed = source.referrers(digest)
    except PluginError as error:
        say(Fault(BUNDLE, "", f"the referrers cannot be listed: {error.message}"))
        return
    likely = [entry for entry in listed if _may_hold_bundle(entry, attestations=attestations)]
    # Where annotations say that an entry is of another kind, it is looked at last: a bound is to be filled with those
    # that may count. Annotations decide about nothing else.
    likely.sort(key=lambda entry: (entry.annotations.get(bundle.PREDICATE_TYPE, SIGNATURE) == SIGNATURE)
                is attestations)
    if len(likely) > MAX_CANDIDATES:
        say(Fault(BUNDLE, "", f"only {MAX_CANDIDATES} of {len(likely)} candidates were looked at"))
    for entry in likely[:MAX_CANDIDATES]:
        yield entry.digest


def _may_hold_bundle(entry: Descriptor, *, attestations: bool) -> bool:
    if entry.artifact_type and not entry.artifact_type.startswith(bundle.PREFIX):
        return False
    kind = entry.annotations.get(bundle.PREDICATE_TYPE, "")
    return not kind or attestations or kind == SIGNATURE


def _content(source: ManifestSource, place: str, limit: int) -> bytes:
    """The bundle that a referring manifest holds: cosign demands exactly one layer."""
    layers = read_object(source.manifest(place), "the referrer").get("layers")
    if not isinstance(layers, list) or len(layers) != 1:
        raise InvalidInput("it does not have exactly one layer")
    layer = read_descriptor(layers[0], "its layer")
    if not layer.media_type.startswith(bundle.PREFIX):
        raise InvalidInput(f"its layer has the type {layer.media_type[:100]!r}, which is no Sigstore bundle")
    if layer.size > limit:
        raise InvalidInput(f"its bundle has {layer.size} bytes, more than {limit}")
    return source.blob(layer)
