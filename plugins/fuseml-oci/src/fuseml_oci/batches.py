"""Many blobs at once: a few threads, one meter, and the first failure ends it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.digests import digest_file, split_digest
from fuseml_oci.progress import Meter, Report
from fuseml_oci.sections import Source
from fuseml_sdk.errors import Cancelled, InvalidInput

#: Transfers at the same time unless somebody asks for others, and the most that are allowed. A quarter of a mebibyte
#: to a few mebibytes of memory each.
CONCURRENCY, MAX_CONCURRENCY = 8, 16
Item = TypeVar("Item")


def in_parallel(work: Callable[[Item], None], items: Sequence[Item], concurrency: int, meter: Meter) -> None:
    """Do something with every item in several threads.

    Args:
        work: Called once for each item.
        items: In the order in which they are begun.
        concurrency: Threads, 1 to 16.
        meter: Stopped at the first failure or Ctrl-C, so that the other threads end in the middle of a blob.

    Raises:
        InvalidInput: `concurrency` is out of range.
        Exception: The first one of `work`.
    """
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise InvalidInput(f"{concurrency} transfers at once are not possible", hint=f"use 1 to {MAX_CONCURRENCY}")
    with ThreadPoolExecutor(concurrency, thread_name_prefix="transfer") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            wait(futures, return_when="FIRST_EXCEPTION")
            failed = [f.exception() for f in futures if f.done() and not f.cancelled() and f.exception()]
            for error in sorted(failed, key=lambda e: isinstance(e, Cancelled)):
                if error:
                    raise error
        finally:
            if not all(future.done() for future in futures):
                meter.stop()
                pool.shutdown(wait=False, cancel_futures=True)


def upload_all(client: RegistryClient, repository: str, blobs: Iterable[tuple[Source, Descriptor]], *,
               concurrency: int = CONCURRENCY, report: Report | None = None) -> int:
    """Upload blobs; what the repository has is not sent again.

    Args:
        client: For the registry.
        repository: Name within it.
        blobs: What to send, with descriptors to check it against. The same digest may occur several times.
        concurrency: Uploads at the same time.
        report: Told how far it is.

    Returns:
        How many were sent.

    Raises:
        PluginError: As `RegistryClient.push_blob` raises it; the first failure ends the others.
    """
    wanted = {descriptor.digest: (source, descriptor) for source, descriptor in blobs}
    meter, sent = Meter(report), list[str]()
    meter.expect(len(wanted), sum(descriptor.size for _, descriptor in wanted.values()))

    def work(item: tuple[Source, Descriptor]) -> None:
        source, descriptor = item
        watch = meter.blob()
        if client.has_blob(repository, descriptor.digest):
            meter.skipped(watch, descriptor.size)
            return
        client.send_blob(repository, source, descriptor.digest, watch)
        sent.append(descriptor.digest)
        meter.finished(watch, descriptor.size)

    in_parallel(work, _largest_first(wanted.values()), concurrency, meter)
    return len(sent)


def download_all(client: RegistryClient, repository: str, blobs: Iterable[tuple[Descriptor, Path]], *,
                 concurrency: int = CONCURRENCY, report: Report | None = None) -> int:
    """Download blobs into files; a file that has the right bytes already is not fetched again.

    What has arrived when the connection is lost stays beside the destination and is used by the next try.

    Args:
        client: For the registry.
        repository: Name within it.
        blobs: What to fetch and where to; folders are made.
        concurrency: Downloads at the same time.
        report: Told how far it is.

    Returns:
        How many were fetched.

    Raises:
        PluginError: As `RegistryClient.pull_blob` raises it; the first failure ends the others.
    """
    wanted = {path: (path, descriptor) for descriptor, path in blobs}
    meter, fetched = Meter(report), list[Path]()
    meter.expect(len(wanted), sum(descriptor.size for _, descriptor in wanted.values()))

    def work(item: tuple[Path, Descriptor]) -> None:
        path, descriptor = item
        watch = meter.blob()
        if is_whole(path, descriptor):
            meter.skipped(watch, descriptor.size)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        client.pull_blob(repository, descriptor, path, keep=True, watch=watch)
        fetched.append(path)
        meter.finished(watch, descriptor.size)

    in_parallel(work, _largest_first(wanted.values()), concurrency, meter)
    return len(fetched)


def is_whole(path: Path, descriptor: Descriptor) -> bool:
    """Tell whether a file has the size and the digest of a descriptor; reads all of it."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size != descriptor.size:
        return False
    return digest_file(path, split_digest(descriptor.digest)[0])[0] == descriptor.digest


def _largest_first(items: Iterable[tuple[Item, Descriptor]]) -> list[tuple[Item, Descriptor]]:
    """In an order that keeps all threads busy until the end."""
    return sorted(items, key=lambda item: -item[1].size)
