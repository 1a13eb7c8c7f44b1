"""A store that keeps every rule, small enough to be read, and for each rule one that breaks it alone."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import random
import threading
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fuseml_sdk import hookimpl
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, NotFound, NotReady, Retryable, Unsupported
from fuseml_sdk.globs import matches
from fuseml_sdk.types import (
    ArtifactDescriptor,
    FileEntry,
    FileListing,
    GarbageReport,
    Location,
    StoreDescription,
    StoreEvent,
    StoreEvents,
    StorePage,
)


class Store:
    """One file of contents for each artifact, and one JSON file with everything else."""

    capabilities = ("register", "search", "update", "delete", "events", "files", "ui_url", "collect_garbage")

    def __init__(self):
        self.state, self.lock = None, threading.Lock()

    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.state = Path(state_dir)
        if not (self.state / "index.json").exists():
            self.write({"items": {}, "events": []})

    @hookimpl
    def fuseml_health(self):
        return {"state": str(self.state)}

    @hookimpl
    def store_describe(self):
        return StoreDescription(name="kit", kinds=["model"], schemes=["file", "x-kit"], capabilities=list(self.capabilities))

    @hookimpl
    def store_register(self, request):
        if request.kind != "model":
            raise Unsupported(f"{request.kind} is not kept here")
        text = self.contents(request)
        digest = self.digest(text)
        made = ArtifactDescriptor(kind="model", project=request.project, name=request.name, digest=digest,
                                  type=request.type, labels=request.labels, aliases=request.aliases)
        with self.lock:
            try:
                write_durably(self.state / digest.partition(":")[2], text)
                index = self.read()
                index["items"][self.key(made)] = made.model_dump()
                index["events"].append({"type": "created", "kind": "model", "project": made.project, "name": made.name,
                                        "digest": digest})
                self.write(index)
            except OSError as error:
                raise Retryable(f"not stored: {error}") from error
        return made

    def contents(self, request):
        folder = Path(unquote(urlsplit(request.source.uri).path)) if request.source else Path("/nowhere")
        if not (folder / "data.csv").is_file():
            raise NotFound(f"there is no {folder}")
        return (folder / "data.csv").read_bytes()

    def digest(self, text):
        return "sha256:" + hashlib.sha256(text).hexdigest()

    @hookimpl
    def store_get(self, ref):
        found = self.read()["items"].get(self.key(ref))
        if found is None:
            raise NotFound(f"there is no {ref.name!r}")
        return ArtifactDescriptor(**found)

    @hookimpl
    def store_search(self, query):
        found = [ArtifactDescriptor(**self.read()["items"][key]) for key in sorted(self.read()["items"])
                 if key > query.cursor]
        found = [item for item in found if self.wanted(item, query)]
        page = found[:query.limit]
        return StorePage(items=page, cursor=self.key(page[-1]) if len(found) > len(page) else "")

    def wanted(self, item, query):
        return (query.kind in ("", item.kind) and query.project in ("", item.project)
                and fnmatch.fnmatchcase(item.name, query.name or "*"))

    @hookimpl
    def store_update(self, ref, change):
        with self.lock:
            index, key = self.read(), self.key(ref)
            if key not in index["items"]:
                raise NotFound(f"there is no {ref.name!r}")
            index["items"][key].update(change.model_dump(exclude_none=True))
            self.write(index)
        return self.store_get(ref)

    @hookimpl
    def store_delete(self, ref):
        with self.lock:
            index = self.read()
            gone = [key for key, item in index["items"].items() if (item["project"], item["name"]) == (ref.project, ref.name)
                    and ref.digest in ("", item["digest"])]
            digests = {index["items"].pop(key)["digest"] for key in gone}
            self.discard(digests, {item["digest"] for item in index["items"].values()})
            self.write(index)
        return bool(gone)

    def discard(self, digests, used):
        for digest in digests - used:
            self.file(digest).unlink(missing_ok=True)

    @hookimpl
    def store_locate(self, ref, accepts):
        if not self.file(self.store_get(ref).digest).exists():
            raise NotFound("the contents are gone")
        for scheme in accepts:
            if scheme in ("file", "x-kit"):
                return Location(uri=f"{scheme}://{self.file(ref.digest)}")
        raise Unsupported(f"none of {accepts}")

    @hookimpl
    def store_files(self, ref, read, max_bytes):
        data = self.file(self.store_get(ref).digest).read_bytes()
        wanted = read and matches("data.csv", read) and len(data) <= max_bytes
        return FileListing(files=[FileEntry(path="data.csv", size=len(data), digest=ref.digest)],
                           contents={"data.csv": data.decode()} if wanted else {})

    @hookimpl
    def store_events(self, cursor, wait):
        if cursor and not cursor.isdigit():
            raise InvalidInput("no cursor")
        end = time.monotonic() + min(wait, 30)
        while True:
            events = self.read()["events"]
            fresh = events[int(cursor or 0):]
            if fresh or time.monotonic() > end:
                return StoreEvents(events=[StoreEvent(**each) for each in fresh], cursor=str(len(events)))
            time.sleep(0.05)

    @hookimpl
    def store_ui_url(self, ref):
        return f"https://example.com/{ref.name}"

    @hookimpl
    def store_collect_garbage(self, keep, dry_run):
        used = {item["digest"].partition(":")[2] for item in self.read()["items"].values()}
        kept = used | {digest.partition(":")[2] for digest in keep}
        gone = [path for path in self.state.iterdir() if len(path.name) == 64 and path.name not in kept]
        for path in gone if not dry_run else []:
            path.unlink()
        return GarbageReport(removed=[f"sha256:{path.name}" for path in gone])

    def key(self, ref):
        return f"{ref.project}/{ref.name}/{ref.digest}"

    def file(self, digest):
        return self.state / digest.partition(":")[2]

    def read(self):
        if self.state is None:
            raise NotReady("not configured")
        return json.loads((self.state / "index.json").read_text())

    def write(self, index):
        write_durably(self.state / "index.json", json.dumps(index).encode())


class ST01(Store):
    @hookimpl
    def store_describe(self):
        return super().store_describe().model_copy(update={"name": ""})


class ST02(Store):
    @hookimpl
    def store_get(self, ref):
        try:
            return super().store_get(ref)
        except NotFound as error:
            raise Retryable(str(error)) from None

    @hookimpl
    def store_locate(self, ref, accepts):
        if self.key(ref) not in self.read()["items"]:
            raise NotFound("nothing")
        return super().store_locate(ref, accepts)

    @hookimpl
    def store_delete(self, ref):
        return super().store_delete(ref)


class ST03(Store):
    @hookimpl
    def store_locate(self, ref, accepts):
        if self.key(ref) not in self.read()["items"]:
            return Location(uri="file:///nothing")
        return super().store_locate(ref, accepts)


class ST04(Store):
    @hookimpl
    def store_get(self, ref):
        return super().store_get(ref).model_copy(update={"type": "another"})


class ST05(Store):
    def digest(self, text):
        return "sha256:" + hashlib.sha256(text + os.urandom(4)).hexdigest()


class ST06(Store):
    @hookimpl
    def store_locate(self, ref, accepts):
        return super().store_locate(ref, ["file", *accepts] if "x-kit" in accepts else accepts)


class ST07(Store):
    @hookimpl
    def store_locate(self, ref, accepts):
        return super().store_locate(ref, [*accepts, "file"])


class ST08(Store):
    def wanted(self, item, query):
        return super().wanted(item, query) and item.name != "searched"


class ST09(Store):
    @hookimpl
    def store_search(self, query):
        page = super().store_search(query)
        items = list(page.items)
        random.shuffle(items)
        turned = items if items != list(self.__dict__.get("last", ())) else items[::-1]
        self.last = turned
        return page.model_copy(update={"items": turned}) if query.limit > 1 else page


class ST10(Store):
    @hookimpl
    def store_search(self, query):
        page = super().store_search(query)
        return page.model_copy(update={"cursor": ""}) if query.limit == 1 else page


class ST11(Store):
    def wanted(self, item, query):
        return super().wanted(item, query.model_copy(update={"name": ""}))


class ST12(Store):
    @hookimpl
    def store_files(self, ref, read, max_bytes):
        return super().store_files(ref, read, max_bytes + 100)


class ST13(Store):
    @hookimpl
    def store_files(self, ref, read, max_bytes):
        found = super().store_files(ref, read, max_bytes)
        return found.model_copy(update={"contents": {path: text.encode("ascii", "replace").decode()
                                                     for path, text in found.contents.items()}})


class ST14(Store):
    @hookimpl
    def store_ui_url(self, ref):
        return f"/models/{ref.name}"


class ST15(Store):
    @hookimpl
    def store_register(self, request):
        return super().store_register(request.model_copy(update={"kind": "model"})).model_copy(
            update={"kind": request.kind})


class ST21(Store):
    @hookimpl
    def store_delete(self, ref):
        return super().store_delete(ref) or True


class ST22(Store):
    def discard(self, digests, used):
        super().discard(digests, set())


class ST23(Store):
    @hookimpl
    def store_update(self, ref, change):
        return super().store_update(ref, change.model_copy(update={"labels": change.labels or {}}))


class ST24(Store):
    @hookimpl
    def store_events(self, cursor, wait):
        found = super().store_events(cursor, wait)
        return found.model_copy(update={"cursor": cursor or found.cursor})


class ST25(Store):
    @hookimpl
    def store_events(self, cursor, wait):
        if 0 < wait < 1:
            time.sleep(16)
        return super().store_events(cursor, wait)


class ST26(Store):
    @hookimpl
    def store_collect_garbage(self, keep, dry_run):
        if dry_run:
            self.write({"items": {}, "events": self.read()["events"]})
        return super().store_collect_garbage(keep, dry_run)


class ST27(Store):
    @hookimpl
    def store_collect_garbage(self, keep, dry_run):
        for digest in keep if not dry_run else []:
            self.file(digest).unlink()
        return super().store_collect_garbage(keep, dry_run)


class ST28(Store):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        super().fuseml_configure(config, state_dir)
        self.write({"items": {}, "events": []})


class ST29(Store):
    @hookimpl
    def store_register(self, request):
        text = self.contents(request)
        self.file(self.digest(text)).write_bytes(text)
        return super().store_register(request)


class ST30(Store):
    busy = threading.Lock()

    @hookimpl
    def store_register(self, request):
        if not self.busy.acquire(blocking=False):
            raise Retryable("busy")
        try:
            time.sleep(0.2 if request.name == "at-once" else 0)
            return super().store_register(request)
        finally:
            self.busy.release()


class ST31(Store):
    def contents(self, request):
        try:
            return super().contents(request)
        except NotFound:
            return b""


class CORE03(Store):
    capabilities = tuple(name for name in Store.capabilities if name != "ui_url")
