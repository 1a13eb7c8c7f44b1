"""The documents of a catalog (`docs/reference/catalog-format.md`): packages, namespaces, history, root and relocation.

All are canonical JSON: keys sorted, no spaces, fields that have their default left out, so that equal contents have
equal digests. Unknown fields are passed over when read, so that a later version may add some.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from fuseml_oci.descriptor import canonical_json
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import explain
from fuseml_sdk.types import WireModel
from fuseml_sdk.versions import parse_range, parse_version

API_VERSION = "fuseml.io/catalog/v1"
#: Bytes that one document may have.
MAX_DOCUMENT = 1 << 20
#: Bytes from which a document is stored as gzip.
_PACKED_FROM = 2048
#: What one catalog may have.
MAX_PACKAGES, MAX_VERSIONS, MAX_NAMESPACES = 100_000, 2_000, 2_000

#: From what everybody gets to what only the curious want; who subscribes to one sees those before it as well.
CHANNELS = ("stable", "candidate", "edge")
Channel = Literal["stable", "candidate", "edge"]
#: What an extension may bring; a facet of the search.
Kind = Literal["store", "agent", "builder", "runnable", "template"]


def _moment(text: str) -> str:
    datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    return text


def _range(text: str) -> str:
    try:
        parse_range(text)
    except InvalidInput as error:
        raise ValueError(error.message) from None
    return text


Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$", max_length=100)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Fingerprint = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", description="SHA-256 of the key's SPKI DER")]
SemVer = Annotated[str, Field(max_length=128, pattern=(
    r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?$"))]
VersionRange = Annotated[str, Field(max_length=200), AfterValidator(_range)]
Moment = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
                              description="UTC, to the second"), AfterValidator(_moment)]
Line = Annotated[str, Field(max_length=300)]
Text = Annotated[str, Field(max_length=20_000)]
Who = Annotated[str, Field(min_length=1, max_length=200, description="a person or a team")]
#: A repository without tag and digest.
Repository = Annotated[str, Field(pattern=r"^oci://[a-z0-9.:\[\]-]+/[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$", max_length=400)]


class Blob(WireModel):
    """Another document of the catalog, by what it contains."""

    digest: Digest
    size: int = Field(ge=0, le=MAX_DOCUMENT, description="bytes")


class SignerKey(WireModel):
    """A public key, ECDSA P-256, as cosign writes it."""

    fingerprint: Fingerprint
    pem: str = Field(max_length=4096, description="SubjectPublicKeyInfo in PEM")
    name: Line = ""

    @model_validator(mode="after")
    def _fits(self) -> SignerKey:
        if fingerprint_of(self.pem) != self.fingerprint:
            msg = "the fingerprint is not that of the key"
            raise ValueError(msg)
        return self


class SignerRule(WireModel):
    """Whose signatures a package's bundles must have."""

    keys: tuple[SignerKey, ...] = Field(min_length=1, max_length=50)
    threshold: int = Field(1, ge=1, description="how many of the keys must have signed")

    @model_validator(mode="after")
    def _possible(self) -> SignerRule:
        if self.threshold > len({key.fingerprint for key in self.keys}):
            msg = f"{self.threshold} signatures are wanted of {len(self.keys)} keys"
            raise ValueError(msg)
        return self


class Need(WireModel):
    """Another extension that a version depends on or conflicts with."""

    name: Name
    range: VersionRange = "*"


class PermissionNote(WireModel):
    """Something a version wants to do."""

    name: Line
    reason: Line = ""


class Yank(WireModel):
    """A version that must not be installed anew."""

    reason: Line
    by: Who
    at: Moment


class PackageVersion(WireModel):
    """One version of a package. What it says of needs overrides what the bundle itself says."""

    version: SemVer
    digest: Digest = Field(description="of the bundle's OCI manifest")
    size: int = Field(0, ge=0, description="bytes of all layers")
    requires_fuseml: VersionRange = "*"
    dependencies: tuple[Need, ...] = Field((), max_length=200)
    conflicts: tuple[Need, ...] = Field((), max_length=200)
    permissions: tuple[PermissionNote, ...] = Field((), max_length=100)
    patched: tuple[Line, ...] = Field((), description="fields that a curator changed after publication")
    published_at: Moment
    published_by: Who
    yanked: Yank | None = None


class ChannelEntry(WireModel):
    """A version in a channel. The other fields are for upgrade graphs: written as given, not used yet."""

    version: SemVer
    replaces: str = Field("", max_length=128, description="the version that this one follows")
    skips: tuple[str, ...] = Field((), description="versions that an upgrade to this one passes over")
    skip_range: str = Field("", max_length=200, description="the same as a range")


class Deprecation(WireModel):
    """Advice against a package, a channel of it (`channel` set) or a version (`version` set)."""

    message: Line
    replacement: Line = ""
    channel: Channel | None = None
    version: SemVer | None = None
    by: Who
    at: Moment


class Package(WireModel):
    """Everything a catalog says about an extension."""

    api_version: Literal["fuseml.io/catalog/v1"]
    name: Name
    namespace: Name
    repository: Repository
    summary: Line = ""
    description: Text = ""
    keywords: tuple[Line, ...] = Field((), max_length=50)
    licence: Line = ""
    kinds: tuple[Kind, ...] = ()
    links: dict[str, Line] = Field(default_factory=dict)
    default_channel: Channel = "stable"
    channels: dict[Channel, tuple[ChannelEntry, ...]] = Field(default_factory=dict)
    versions: tuple[PackageVersion, ...] = Field((), max_length=MAX_VERSIONS)
    deprecations: tuple[Deprecation, ...] = Field((), max_length=MAX_VERSIONS)
    signers: SignerRule | None = None
    history: Blob | None = Field(None, description="a History")

    @model_validator(mode="after")
    def _coherent(self) -> Package:
        known = {entry.version for entry in self.versions}
        if len(known) != len(self.versions):
            msg = "a version is listed twice"
            raise ValueError(msg)
        for channel, entries in self.channels.items():
            listed = [entry.version for entry in entries]
            if len(set(listed)) != len(listed) or not known.issuperset(listed):
                msg = f"channel {channel} lists a version twice or one that the package does not have"
                raise ValueError(msg)
        return self

    def find(self, version: str) -> PackageVersion | None:
        """One version."""
        return next((entry for entry in self.versions if entry.version == version), None)

    def in_channel(self, channel: str) -> list[PackageVersion]:
        """What a subscriber of a channel sees: its versions and those of steadier channels, the highest first.

        Raises:
            InvalidInput: There is no such channel.
        """
        if channel not in CHANNELS:
            raise InvalidInput(f"there is no channel {channel!r}", hint=f"There are {', '.join(CHANNELS)}.")
        seen = CHANNELS[:CHANNELS.index(channel) + 1]
        wanted = {entry.version for name, entries in self.channels.items() if name in seen for entry in entries}
        found = [entry for entry in self.versions if entry.version in wanted]
        return sorted(found, key=lambda entry: parse_version(entry.version), reverse=True)

    def advice(self, version: str, channel: str | None = None) -> list[Deprecation]:
        """The deprecations that somebody who takes this version from this channel should read."""
        return [entry for entry in self.deprecations
                if entry.version in (None, version) and entry.channel in (None, channel)]


class Check(WireModel):
    """Result of one check of a submission."""

    name: Line
    outcome: Literal["passed", "warned", "failed", "skipped"]
    text: str = Field("", max_length=4000)


class Decision(WireModel):
    """Something that was done to a package: who, when and why."""

    action: Literal["added", "submitted", "accepted", "rejected", "promoted", "demoted", "deprecated", "undeprecated",
                    "yanked", "unyanked", "patched"]
    by: Who
    at: Moment
    why: str = Field("", max_length=4000)
    version: str = Field("", max_length=128)
    channel: str = Field("", max_length=20)
    digest: str = Field("", max_length=100, description="of the bundle")
    submission: str = Field("", max_length=100, description="digest of the submission")
    signer: str = Field("", max_length=100, description="fingerprint of the key that signed the submission")
    checks: tuple[Check, ...] = ()


class History(WireModel):
    """All decisions about a package, the oldest first."""

    api_version: Literal["fuseml.io/catalog/v1"]
    package: Name
    decisions: tuple[Decision, ...] = ()


class Owner(WireModel):
    """Somebody who may submit to a namespace."""

    name: Who
    keys: tuple[SignerKey, ...] = Field((), max_length=50)


class Namespace(WireModel):
    """A part of the catalog with its own people."""

    name: Name
    summary: Line = ""
    owners: tuple[Owner, ...] = Field((), max_length=500)


class Namespaces(WireModel):
    """All namespaces of a catalog."""

    api_version: Literal["fuseml.io/catalog/v1"]
    namespaces: tuple[Namespace, ...] = Field((), max_length=MAX_NAMESPACES)

    def find(self, name: str) -> Namespace | None:
        """One namespace."""
        return next((entry for entry in self.namespaces if entry.name == name), None)


class Node(WireModel):
    """A node of the tree of packages: either `packages` by name or `children` by one hexadecimal digit."""

    children: dict[Annotated[str, Field(pattern=r"^[0-9a-f]$")], Blob] = Field(default_factory=dict)
    packages: dict[Name, Blob] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _either(self) -> Node:
        if self.children and self.packages:
            msg = "a node has children or packages, not both"
            raise ValueError(msg)
        return self


class Submission(WireModel):
    """What an author asks the curators for; the config blob of an artifact beside the catalog."""

    api_version: Literal["fuseml.io/catalog/v1"]
    name: Name
    version: SemVer
    reference: Line = Field(description="where the bundle lies, with digest")
    digest: Digest = Field(description="of the bundle's OCI manifest")
    namespace: Name
    channel: Channel = "edge"
    message: str = Field("", max_length=4000)
    by: Who
    at: Moment


class Root(WireModel):
    """The config blob of a catalog: one published state of it."""

    api_version: Literal["fuseml.io/catalog/v1"]
    name: Name
    summary: Line = ""
    version: int = Field(ge=1, le=1 << 53, description="counts publications; never goes back")
    issued: Moment
    expires: Moment
    tree: Blob = Field(description="a Node: the packages")
    count: int = Field(ge=0, le=MAX_PACKAGES, description="of packages")
    namespaces: Blob = Field(description="a Namespaces")
    tuf: dict[str, Any] = Field(default_factory=dict, description="reserved for The Update Framework")


class Relocation(WireModel):
    """Where a mirror keeps the repositories that a catalog names."""

    api_version: Literal["fuseml.io/catalog/v1"]
    catalog: Digest = Field(description="of the catalog that was mirrored")
    repositories: dict[Repository, Repository] = Field(max_length=MAX_PACKAGES)


Document = TypeVar("Document", bound=WireModel)


def encode(document: WireModel) -> bytes:
    """Canonical JSON of a document."""
    return canonical_json(document.model_dump(mode="json", exclude_defaults=True))


def packed(data: bytes) -> bytes:
    """A document as it is stored: long ones as gzip, because subscribers fetch them again after every change.

    The bytes may differ between builds of zlib; a document is known by the digest of what is stored, so that costs at
    most a second copy.
    """
    return gzip.compress(data, 9, mtime=0) if len(data) >= _PACKED_FROM else data


def unpacked(data: bytes, source: str) -> bytes:
    """The document in what is stored.

    Raises:
        InvalidInput: It is damaged, or larger than a document may be.
    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    reader = zlib.decompressobj(wbits=31)
    try:
        found = reader.decompress(data, MAX_DOCUMENT + 1)
    except zlib.error as error:
        raise InvalidInput(f"{source} is damaged gzip: {error}") from None
    if len(found) <= MAX_DOCUMENT and (not reader.eof or reader.unused_data):
        raise InvalidInput(f"{source} is damaged gzip")
    return found


def decode(model: type[Document], data: bytes, source: str) -> Document:
    """Read a document of unknown origin whose digest has been verified.

    Args:
        model: What it shall be.
        data: Its bytes.
        source: What to call it in errors.

    Raises:
        InvalidInput: It is too large, no JSON, has a key twice, or a field is missing or wrong.
    """
    data = unpacked(data, source)
    if len(data) > MAX_DOCUMENT:
        raise InvalidInput(f"{source} has {len(data)} bytes; at most {MAX_DOCUMENT} are allowed")
    try:
        return model.model_validate(json.loads(data, object_pairs_hook=_unique, parse_constant=_no_number))
    except ValidationError as error:
        raise InvalidInput(explain(error, source), hint="Something newer or something else wrote it.") from None
    except RecursionError:
        raise InvalidInput(f"{source} is nested too deeply") from None
    except ValueError as error:
        raise InvalidInput(f"{source} is not JSON: {error}"[:500]) from None


def json_schema() -> dict[str, Any]:
    """The JSON Schemas of all documents, by name."""
    models: tuple[type[WireModel], ...] = (Root, Node, Package, History, Namespaces, Submission, Relocation)
    return {model.__name__: model.model_json_schema() for model in models}


def moment(at: datetime | None = None) -> str:
    """A time as documents write it; by default now."""
    return (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_moment(text: str) -> datetime:
    """A time of a document."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def fingerprint_of(pem: str) -> str:
    """`sha256:<hex>` over the DER inside a public key's PEM.

    Raises:
        ValueError: It is not a public key in PEM.
    """
    lines = [line.strip() for line in pem.strip().splitlines()]
    if len(lines) < 3 or lines[0] != "-----BEGIN PUBLIC KEY-----" or lines[-1] != "-----END PUBLIC KEY-----":
        msg = "not a public key in PEM"
        raise ValueError(msg)
    try:
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error:
        msg = "not a public key in PEM: the lines between are not base64"
        raise ValueError(msg) from None
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def _no_number(text: str) -> Any:
    msg = f"{text} is not a number"
    raise ValueError(msg)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            msg = f"the key {key[:100]!r} is written twice"
            raise ValueError(msg)
        found[key] = value
    return found
