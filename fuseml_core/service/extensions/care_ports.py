"""What looking after extensions needs from outside: archives across an air gap, leftovers, checks of the machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from fuseml_core.domain.extensions import InstalledExtension, TrustDecision
from fuseml_core.service.extensions.ports import FoundBundle, Progress


@dataclass(frozen=True, slots=True)
class Target:
    """The machine that an archive is for.

    Attributes:
        platform: Such as `linux-x86_64`, as the package installer calls it; empty: like this machine.
        python: Minor version such as `3.12`; empty: what the environments of this server have.
    """

    platform: str = ""
    python: str = ""


@dataclass(frozen=True, slots=True)
class ExportItem:
    """One bundle to export, and whether somebody asked for it rather than another bundle."""

    found: FoundBundle
    requested: bool


@dataclass(frozen=True, slots=True)
class Export:
    """An archive that is ready to be sent.

    Attributes:
        id: 64 hexadecimal digits over its contents: equal exports have equal ids.
        size: Bytes of the tar file.
        bundles: Name, version, digest and reference of each.
        blobs: How many blobs it holds.
    """

    id: str
    size: int
    bundles: tuple[dict[str, Any], ...]
    blobs: int


class Exports(Protocol):
    """Makes archives; what was fetched is kept, so that making one again goes on where it ended."""

    def make(self, items: Sequence[ExportItem], lock: str, target: Target, progress: Progress) -> Export:
        """Fetch everything that belongs to some bundles.

        Args:
            items: Dependencies before what needs them.
            lock: Text of the lock file that goes with them.
            target: The machine that the wheels are for.
            progress: Told what is being done.

        Raises:
            NotFound, Invalid, Unavailable, Failed: Something cannot be had; try again goes on.
        """
        ...

    def open(self, identifier: str) -> tuple[int, Iterator[bytes]]:
        """Size and bytes of an archive that :meth:`make` made.

        Raises:
            NotFound: There is none, or it was cleaned away.
        """
        ...


@dataclass(frozen=True, slots=True)
class Admission:
    """How an archive is let in.

    Attributes:
        keys: Public keys in PEM that the importing person trusts for what is in it.
        allow_unsigned: Take bundles that are not signed, as for `extension install`.
    """

    keys: tuple[str, ...] = ()
    allow_unsigned: bool = False


@dataclass(frozen=True, slots=True)
class ImportedBundle:
    """A bundle of an archive, now in the embedded registry.

    Attributes:
        name: Of the extension.
        version: Semantic version.
        digest: Of its OCI manifest.
        original: Where the exporting machine had it.
        local: Where it lies now, as one would install it.
        requested: Somebody asked for it on the exporting machine.
        trust: What the policy of this machine says.
    """

    name: str
    version: str
    digest: str
    original: str
    local: str
    requested: bool
    trust: TrustDecision


class Imports(Protocol):
    """Takes archives in: received in pieces, verified, judged, then put into the embedded registry."""

    def received(self, digest: str) -> int:
        """Bytes that are here of the file with this SHA-256 digest (64 hexadecimal digits)."""
        ...

    def receive(self, digest: str, offset: int, data: bytes) -> int:
        """Append to the file; returns how many bytes are here.

        Raises:
            Conflict: `offset` is not where the file ends.
        """
        ...

    def admit(self, digest: str, terms: Admission, progress: Progress) -> Sequence[ImportedBundle]:
        """Verify and judge everything in the file, then put it into the embedded registry.

        Raises:
            Refused: The policy does not let a bundle in; nothing was changed.
            Invalid: The file is damaged or hostile; nothing was changed.
        """
        ...

    def discard(self, digest: str) -> None:
        """Forget the file and what was unpacked of it."""
        ...


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something on disk that nothing needs.

    Attributes:
        kind: `bundle`, `environment`, `layer`, `wheel`, `workload`, `runnable`, `content`, `transfer`, `generation`,
            `scratch`, `state`.
        name: What it is called: a digest, a workload, a file.
        why: Why nothing needs it, one clause.
        bytes: What removing it frees, as far as that is known.
        age: Seconds since its last use.
        key: What :meth:`Leftovers.remove` needs to find it again.
    """

    kind: str
    name: str
    why: str
    bytes: int
    age: float
    key: str = ""


class Leftovers(Protocol):
    """One kind of things that can be left over."""

    def find(self, older_than: float) -> Sequence[Leftover]:
        """What nothing needs and was not used for some seconds; changes nothing."""
        ...

    def remove(self, leftover: Leftover) -> bool:
        """Remove one, unless something has come to need it since; returns whether it was removed."""
        ...


class CheckState(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check of the machine.

    Attributes:
        id: Stable name, such as `registry`.
        state: How it ended.
        reason: What was found, one sentence.
        fix: What to do; empty when nothing is to be done.
        fixed: `--fix` did it.
    """

    id: str
    state: CheckState
    reason: str
    fix: str = ""
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Examination:
    """A check that can be made.

    Attributes:
        id: Name of the check.
        examine: Makes it.
        repair: Does what the fix says, where that cannot do harm; None where a person has to.
    """

    id: str
    examine: Callable[[], Check]
    repair: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that verification found wrong.

    Attributes:
        extension: Whose it is.
        part: `files`, `environment`, `signature` or `components`.
        problem: `changed`, `missing`, `added`, `refused`, `crashed`, …
        subject: Path or name of what is wrong.
        detail: One sentence.
        repairable: Whether fetching, unpacking or building again can mend it.
    """

    extension: str
    part: str
    problem: str
    subject: str
    detail: str
    repairable: bool = False


@dataclass(frozen=True, slots=True)
class Integrity:
    """What was verified of an extension, and what was found."""

    extension: str
    version: str
    files: int = 0
    environment_files: int = 0
    findings: tuple[Finding, ...] = field(default_factory=tuple)


class Inspection(Protocol):
    """Compares what lies on disk with what was written down about it."""

    def files(self, extension: InstalledExtension) -> tuple[int, Sequence[Finding]]:
        """Number of files of the unpacked bundle, and which differ from its descriptor."""
        ...

    def environment(self, extension: InstalledExtension) -> tuple[int, Sequence[Finding]]:
        """Number of files of its environment, and which differ from the records of the wheels."""
        ...


class Pins(Protocol):
    """What must stay."""

    def bundles(self) -> Collection[str]:
        """Digests of bundles that pipelines, services or runs need."""
        ...
