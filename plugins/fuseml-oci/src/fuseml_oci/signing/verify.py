"""Finding the good signatures and attestations of a manifest among whatever lies beside it.

Anybody who can push to a repository can attach anything to its manifests. Therefore nothing found here raises: what is
not a good signature by one of the wanted keys over exactly this digest counts as nothing, and is reported apart.
Numbers and sizes are bounded; where a bound is exceeded, the rest counts as nothing, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fuseml_oci.digests import split_digest
from fuseml_oci.signing import bundle, legacy
from fuseml_oci.signing.candidates import MAX_ATTESTATION, MAX_CANDIDATES, MAX_SIGNATURE, referring, tagged
from fuseml_oci.signing.findings import BUNDLE, LEGACY, Attestation, Fault, Report, Signature
from fuseml_oci.signing.keys import PublicKey
from fuseml_oci.signing.payloads import SIGNATURE, Statement, read_legacy_payload
from fuseml_oci.sources import ManifestSource
from fuseml_sdk.errors import PluginError

__all__ = ["BUNDLE", "LEGACY", "MAX_ATTESTATION", "MAX_CANDIDATES", "MAX_SIGNATURE", "Attestation", "Fault",
           "Signature", "attestations", "verify"]


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
    """Find the good attestations of a manifest in both layouts.

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
    judged = [*_from_bundles(source, digest, wanted, say, attestations=True),
              *_from_envelopes(source, digest, wanted, say)]
    return [Attestation(entry.signer, entry.statement.predicate_type, entry.statement.predicate, entry.place)
            for entry in judged if entry.statement.predicate_type != SIGNATURE
            and (not only or entry.statement.predicate_type in only) and _counts(entry, say)]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A statement about the wanted digest, and who signed it."""

    layout: str
    place: str
    statement: Statement
    signer: str
    is_keyless: bool


def _signatures(source: ManifestSource, digest: str, keys: Mapping[str, PublicKey],
                say: Report) -> Iterator[Signature]:
    for entry in _from_bundles(source, digest, keys, say, attestations=False):
        if entry.statement.predicate_type == SIGNATURE and _counts(entry, say):
            yield Signature(entry.signer, BUNDLE, entry.place)
    yield from _older_signatures(source, digest, keys, say)


def _from_bundles(source: ManifestSource, digest: str, keys: Mapping[str, PublicKey], say: Report, *,
                  attestations: bool) -> Iterator[_Judged]:
    for place, content in referring(source, digest, say, attestations=attestations):
        try:
            yield from _judged(BUNDLE, place, bundle.read(content), digest, keys, say)
        except PluginError as error:
            say(Fault(BUNDLE, place, error.message))


def _from_envelopes(source: ManifestSource, digest: str, keys: Mapping[str, PublicKey],
                    say: Report) -> Iterator[_Judged]:
    tag = legacy.attestation_tag(digest)
    for layer, content in tagged(source, tag, legacy.ENVELOPE, MAX_ATTESTATION, say):
        try:
            envelope = bundle.read_envelope(content, is_keyless=legacy.CERTIFICATE in layer.annotations)
            yield from _judged(LEGACY, layer.digest, envelope, digest, keys, say)
        except PluginError as error:
            say(Fault(LEGACY, layer.digest, error.message))


def _judged(layout: str, place: str, envelope: bundle.Envelope, digest: str, keys: Mapping[str, PublicKey],
            say: Report) -> Iterator[_Judged]:
    statement = envelope.statement()
    if digest in statement.digests:
        yield _Judged(layout, place, statement, envelope.signer(keys), envelope.is_keyless)
    else:
        say(Fault(layout, place, "it is for another digest", is_signature=True))


def _older_signatures(source: ManifestSource, digest: str, keys: Mapping[str, PublicKey],
                      say: Report) -> Iterator[Signature]:
    for layer, payload in tagged(source, legacy.signature_tag(digest), legacy.SIMPLE_SIGNING, MAX_SIGNATURE, say):
        try:
            signature, named = legacy.read_signature(layer), read_legacy_payload(payload)
        except PluginError as error:
            say(Fault(LEGACY, layer.digest, error.message))
            continue
        if named != digest:
            say(Fault(LEGACY, layer.digest, "it is for another digest", is_signature=True))
        elif signer := next((name for name, key in keys.items() if key.verifies(payload, signature)), ""):
            yield Signature(signer, LEGACY, layer.digest)
        else:
            say(_stranger(LEGACY, layer.digest, is_keyless=legacy.CERTIFICATE in layer.annotations))


def _counts(entry: _Judged, say: Report) -> bool:
    if not entry.signer:
        say(_stranger(entry.layout, entry.place, is_keyless=entry.is_keyless))
    return bool(entry.signer)


def _stranger(layout: str, place: str, *, is_keyless: bool) -> Fault:
    reason = "it was made with a certificate (keyless), and only signatures by keys are supported" if is_keyless else \
        "it is not by any of the wanted keys"
    return Fault(layout, place, reason, is_signature=True)
