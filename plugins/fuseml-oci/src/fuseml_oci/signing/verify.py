"""Finding the good signatures and attestations of a manifest among whatever lies beside it.

Anybody who can push to a repository can attach anything to its manifests. Therefore nothing found here raises: what is
not a good signature by one of the wanted keys over exactly this digest counts as nothing, and is reported apart.
Numbers and sizes are bounded; where a bound is exceeded, the rest counts as nothing, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fuseml_oci.descriptor import Descriptor, read_descriptor, read_object
from fuseml_oci.digests import split_digest
from fuseml_oci.signing import bundle, legacy
from fuseml_oci.signing.findings import BUNDLE, LEGACY, Attestation, Fault, Report, Signature
from fuseml_oci.signing.keys import PublicKey
from fuseml_oci.signing.payloads import SIGNATURE, read_legacy_payload
from fuseml_oci.sources import ManifestSource
from fuseml_sdk.errors import InvalidInput, PluginError

__all__ = ["BUNDLE", "LEGACY", "Attestation", "Fault", "Signature", "attestations", "verify"]

#: Candidates of each layout that are looked at; each costs up to two requests.
MAX_CANDIDATES = 256
#: Largest signature that is read: payload or bundle, in bytes. Attestations may be as large as a blob in memory.
MAX_SIGNATURE, MAX_ATTESTATION = 64 << 10, 4 << 20


def verify(source: ManifestSource, digest: str, keys: Iterable[PublicKey], report: Report | None = None, *,
           enough: int = 0) -> list[Signature]:
    """Find the good signatures of a manifest in both layouts.

    Args:
        source: Where it lies.
        digest: Of the manifest.
        keys: Those whose signatures count.
        report: Told of everything that is no good signature.
        enough: Stop when so many different keys have signed; 0 looks at everything.

    Returns:
        The good ones, bundles first; the same key may have made several.

    Raises:
        InvalidInput: `digest` is none.
    """
    split_digest(digest)
    wanted = {key.fingerprint: key for key in keys}
    say = report or (lambda _fault: None)
    found: list[Signature] = []
    for signature in _signatures(source, digest, wanted, say):
        found.append(signature)
        if enough and len({entry.key for entry in found}) >= enough:
            break
    return found


def attestations(source: ManifestSource, digest: str, keys: Iterable[PublicKey], types: Iterable[str] = (),
                 report: Report | None = None) -> list[Attestation]:
    """Find the good attestations of a manifest.

    Args:
        source: Where it lies.
        digest: Of the manifest.
        keys: Those whose statements count.
        types: Predicate types that are wanted; all by default.
        report: Told of everything that is no good attestation.

    Raises:
        InvalidInput: `digest` is none.
    """
    split_digest(digest)
    wanted, say, only = {key.fingerprint: key for key in keys}, report or (lambda _fault: None), frozenset(types)
    found = []
    for place, entry, statement, signer in _statements(source, digest, wanted, say, attestations=True):
        if statement.predicate_type != SIGNATURE and (not only or statement.predicate_type in only):
            if signer:
                found.append(Attestation(signer, statement.predicate_type, statement.predicate, place))
            else:
                say(_stranger(BUNDLE, place, entry.is_keyless))
    return found


def _signatures(source: ManifestSource, digest: str, keys: Mapping[str, PublicKey],
                say: Report) -> Iterator[Signature]:
    for place, entry, statement, signer in _statements(source, digest, keys, say, attestations=False):
        if statement.predicate_type != SIGNATURE:
            continue
        if signer:
            yield Signature(signer, BUNDLE, place)
        else:
            say(_stranger(BUNDLE, place, entry.is_keyless))
    yield from _legacy(source, digest, keys, say)


def _statements(source: ManifestSource, digest: str, keys: Mapping[str, PublicKey], say: Report, *,
                attestations: bool) -> Iterator[tuple[str, bundle.Envelope, Any, str]]:
    """Each bundle whose statement is about the digest: (manifest, envelope, statement, signer or empty)."""
    limit = MAX_ATTESTATION if attestations else MAX_SIGNATURE
    for place in _candidates(source, digest, say, attestations=attestations):
        try:
            entry = bundle.read(_content(source, place, limit))
            statement = entry.statement()
        except PluginError as error:
            say(Fault(BUNDLE, place, error.message))
            continue
        if digest not in statement.digests:
            say(Fault(BUNDLE, place, "it is for another digest", is_signature=True))
            continue
        yield place, entry, statement, entry.signer(keys)


def _candidates(source: ManifestSource, digest: str, say: Report, *, attestations: bool) -> Iterator[str]:
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


def _legacy(source: ManifestSource, digest: str, keys: Mapping[str, PublicKey], say: Report) -> Iterator[Signature]:
    tag = legacy.signature_tag(digest)
    try:
        data = source.tagged(tag) if tag else None
        layers = legacy.read_layers(data) if data is not None else []
    except PluginError as error:
        say(Fault(LEGACY, "", error.message))
        return
    if len(layers) > MAX_CANDIDATES:
        say(Fault(LEGACY, "", f"only {MAX_CANDIDATES} of {len(layers)} signatures were looked at"))
    for layer in layers[:MAX_CANDIDATES]:
        place = str(layer.get("digest"))[:200]
        try:
            entry = legacy.read_entry(layer)
            if entry.payload.size > MAX_SIGNATURE:
                raise InvalidInput(f"its payload has {entry.payload.size} bytes, more than {MAX_SIGNATURE}")
            payload = source.blob(entry.payload)
            named = read_legacy_payload(payload)
        except PluginError as error:
            say(Fault(LEGACY, place, error.message))
            continue
        if named != digest:
            say(Fault(LEGACY, place, "it is for another digest", is_signature=True))
        elif signer := entry.signer(payload, keys):
            yield Signature(signer, LEGACY, place)
        else:
            say(_stranger(LEGACY, place, entry.is_keyless))


def _stranger(layout: str, place: str, is_keyless: bool) -> Fault:
    reason = "it was made with a certificate (keyless), and only signatures by keys are supported" if is_keyless else \
        "it is not by any of the wanted keys"
    return Fault(layout, place, reason, is_signature=True)
