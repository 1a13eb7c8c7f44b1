"""Taking archives in: received in pieces, verified, judged by this machine's policy, then put into the registry."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fuseml_core.adapters.extensions.airgap import archive
from fuseml_core.adapters.extensions.airgap.blobs import Blobs
from fuseml_core.adapters.extensions.airgap.contents import Contents, open_contents
from fuseml_core.adapters.extensions.airgap.judging import Judge
from fuseml_core.adapters.extensions.airgap.placing import place, place_catalog
from fuseml_core.adapters.extensions.airgap.relocations import Relocation, Relocations
from fuseml_core.adapters.extensions.airgap.wheels import WheelFolder
from fuseml_core.adapters.extensions.errors import translated
from fuseml_core.domain.errors import Conflict, Failed, Invalid, Refused
from fuseml_core.domain.extensions import TrustDecision
from fuseml_core.service.extensions.care_ports import Admission, ImportedBundle
from fuseml_core.service.extensions.ports import Progress
from fuseml_oci.bundles.references import NAMESPACE
from fuseml_oci.client import RegistryClient
from fuseml_sdk.durable import sync_directory

_DIGEST = re.compile(r"[0-9a-f]{64}")
#: Bytes that must stay free on the disk beside what an archive takes.
_RESERVE = 256 << 20


class LayoutImports:
    """Implements the port `Imports` with OCI image layouts.

    Args:
        folder: For files that were received and what is unpacked of them, such as `<home>/extensions/imports`.
        connect: Returns a client for the embedded registry.
        judge: Asks the trust policy.
        relocations: Where imported bundles came from.
        wheels: Where imported wheels lie.
    """

    def __init__(self, folder: Path, connect: Callable[[], RegistryClient], judge: Judge, relocations: Relocations,
                 wheels: WheelFolder) -> None:
        self._folder, self._connect, self._judge = folder, connect, judge
        self._relocations, self._wheels = relocations, wheels

    def received(self, digest: str) -> int:
        """Bytes that are here; see the port."""
        try:
            return self._file(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def receive(self, digest: str, offset: int, data: bytes) -> int:
        """Append to the file; see the port."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._file(digest).open("ab") as file:
            there = file.tell()
            if offset != there:
                raise Conflict(f"{there} bytes of the archive are here, and these begin at {offset}",
                               details={"received": there})
            if shutil.disk_usage(self._folder).free < len(data) + _RESERVE:
                raise Failed(f"there is no room for the archive in {self._folder}",
                             hint="Free space, then import again: it goes on where it ended.")
            file.write(data)
        return there + len(data)

    def admit(self, digest: str, terms: Admission, progress: Progress) -> Sequence[ImportedBundle]:
        """Verify, judge and place everything; see the port."""
        with translated(), self._unpacked(digest, progress) as contents:
            decisions = self._decide(contents, terms, progress)
            with self._connect() as client:
                for bundle in contents.document.bundles:
                    progress(f"placing {bundle.name} {bundle.version}")
                    # Before the bundle itself: no moment may show it as one of this server's own.
                    wheels = list(contents.wheels(bundle))
                    self._relocations.add([Relocation(
                        bundle.digest, bundle.reference, f"{NAMESPACE}/{bundle.name}", bundle.version, terms.keys,
                        tuple(digest for _name, _path, digest in wheels))])
                    for filename, path, wheel in wheels:
                        self._wheels.put(filename, path, wheel)
                    place(contents, bundle, client)
                for catalog in contents.document.catalogs:
                    here = f"oci://{client.registry}/{place_catalog(contents, catalog, client)}"
                    progress(f"the catalog of {catalog.name} can be followed: fuseml marketplace add {catalog.name} "
                             f"{here} --key KEY.pub")
            return [ImportedBundle(bundle.name, bundle.version, bundle.digest, bundle.reference,
                                   f"{bundle.name}@{bundle.digest}", bundle.requested, decision)
                    for bundle, decision in zip(contents.document.bundles, decisions, strict=True)]

    def discard(self, digest: str) -> None:
        """Forget the file and what was unpacked of it."""
        self._file(digest).unlink(missing_ok=True)
        shutil.rmtree(self._layout(digest), ignore_errors=True)

    @contextmanager
    def _unpacked(self, digest: str, progress: Progress) -> Iterator[Contents]:
        """The contents of a file, all verified; unpacked once, in a folder that nothing else reads."""
        file = self._file(digest)
        self._check(file, digest)
        layout = self._layout(digest)
        needed = file.stat().st_size
        if shutil.disk_usage(self._folder).free < needed + _RESERVE:
            raise Failed(f"there is no room to unpack the archive in {self._folder}: it takes {needed} bytes",
                         hint="Free space, then import again.")
        progress("verifying the archive")
        os.utime(file)  # it is in use: collection goes by the age of files
        try:
            archive.unpack(file, Blobs(layout))
            sync_directory(layout)
            yield open_contents(layout)
        except BaseException:
            shutil.rmtree(layout, ignore_errors=True)
            raise

    def _check(self, file: Path, digest: str) -> None:
        try:
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            raise Invalid("the archive was not sent, or was cleaned away", hint="Import it again.") from None
        if found != digest:
            file.unlink()
            raise Invalid(f"the archive was received with the digest {found[:12]}… instead of {digest[:12]}…",
                          hint="It changed while it was sent; import it again.")

    def _decide(self, contents: Contents, terms: Admission, progress: Progress) -> list[TrustDecision]:
        decisions = []
        for bundle in contents.document.bundles:
            progress(f"asking the policy about {bundle.name} {bundle.version}")
            decisions.append(self._judge.decide(bundle.reference, bundle.digest, contents.source, terms.keys,
                                                allow_unsigned=terms.allow_unsigned))
        refused = [(bundle, decision) for bundle, decision in zip(contents.document.bundles, decisions, strict=True)
                   if not decision.allowed]
        if refused:
            bundle, decision = refused[0]
            names = ", ".join(f"{b.name} {b.version}" for b, _ in refused)
            raise Refused(f"the policy of this machine does not let in {names}: {decision.reason}",
                          hint="Give the public key of whoever signed it, if you trust them: fuseml extension import "
                               f"FILE --key KEY.pub\n{decision.hint}".strip(),
                          details={"refused": [{"name": b.name, "version": b.version, "reference": b.reference,
                                                "reason": d.reason, "rule": d.rule} for b, d in refused]})
        return decisions

    def _file(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise Invalid(f"{digest[:80]!r} is not the SHA-256 digest of a file")
        return self._folder / f"{digest}.tar"

    def _layout(self, digest: str) -> Path:
        return self._file(digest).with_suffix(".layout")


