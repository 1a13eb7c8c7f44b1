"""Hooks of an artifact store: models, data sets, code or whatever an extension keeps."""

from __future__ import annotations

from fuseml_sdk.hookspecs.marker import hookspec
from fuseml_sdk.types import (
    ArtifactDescriptor,
    ArtifactRef,
    DescriptorChange,
    FileListing,
    GarbageReport,
    Location,
    RegisterRequest,
    StoreDescription,
    StoreEvents,
    StorePage,
    StoreQuery,
)


class StoreSpecs:
    """Hooks of an artifact store. All but describe, get and locate are optional and declared in describe."""

    @hookspec(firstresult=True)
    def store_describe(self) -> StoreDescription:
        """Say which kinds this store keeps and which hooks it offers.

        The answer is kept; it must not change while the plugin runs.

        Returns:
            Kinds of artifacts, location schemes, and the capabilities: hooks beside describe, get and locate.

        Raises:
            NotReady: The back-end cannot be asked now.

        Example:
            >>> class Store:
            ...     @hookimpl
            ...     def store_describe(self):
            ...         return StoreDescription(name="shelf", kinds=["model"], schemes=["https"],
            ...                                 capabilities=["register", "search"])
            >>> Store().store_describe().kinds
            ['model']
        """

    @hookspec(firstresult=True)
    def store_register(self, request: RegisterRequest) -> ArtifactDescriptor:
        r"""Take in contents, or point at them, as a new version. Same contents, same descriptor: it may be repeated.

        Args:
            request: What it is called, and `source`, where its contents lie; a directory may be moved from there.

        Returns:
            The canonical descriptor, with the digest that identifies the version from now on.

        Raises:
            InvalidInput: The contents are not what the request says.
            NotFound: `source`, or the commit of a codeset, does not exist.
            Unsupported: The store takes in nothing, or not this kind.

        Example:
            >>> class Store:
            ...     @hookimpl
            ...     def store_register(self, request):
            ...         contents = Path(request.source.uri.removeprefix("file://"))
            ...         if not contents.is_file():
            ...             raise NotFound(f"there is no {request.source.uri}")
            ...         digest = f"sha256:{sha256(contents.read_bytes()).hexdigest()}"
            ...         return ArtifactDescriptor(kind=request.kind, project=request.project, name=request.name,
            ...                                   digest=digest, size=contents.stat().st_size)
            >>> path = Path(tempfile.mkdtemp(), "data.csv")
            >>> _ = path.write_text("a,b\n1,2\n")
            >>> request = RegisterRequest(kind="dataset", project="p", name="wine", source=Location(uri=path.as_uri()))
            >>> Store().store_register(request) == Store().store_register(request)
            True
        """

    @hookspec(firstresult=True)
    def store_get(self, ref: ArtifactRef) -> ArtifactDescriptor:
        """Return the descriptor of one version.

        Args:
            ref: The version; its `digest` may be an alias of the back-end, such as `latest`.

        Returns:
            The descriptor, with the digest that the alias stands for now.

        Raises:
            NotFound: There is no such version.

        Example:
            >>> class Store:
            ...     aliases = {"latest": "sha256:2"}
            ...     @hookimpl
            ...     def store_get(self, ref):
            ...         digest = self.aliases.get(ref.digest, ref.digest)
            ...         if digest != "sha256:2":
            ...             raise NotFound(f"there is no version {digest} of {ref.name}")
            ...         return ArtifactDescriptor(kind=ref.kind, project=ref.project, name=ref.name, digest=digest)
            >>> Store().store_get(ArtifactRef(kind="model", project="p", name="wine", digest="latest")).digest
            'sha256:2'
        """

    @hookspec(firstresult=True)
    def store_search(self, query: StoreQuery) -> StorePage:
        """Return descriptors that match, page by page, in an order that does not change between pages.

        Args:
            query: Kind, project and name (a glob) to restrict to, entries on a page, and the cursor of the last page.

        Returns:
            One page, and the cursor of the next; an empty cursor on the last page.

        Raises:
            InvalidInput: The cursor is not one that this store gave.

        Example:
            >>> class Store:
            ...     names = ["iris", "wine-red", "wine-white"]
            ...     @hookimpl
            ...     def store_search(self, query):
            ...         found = [name for name in self.names if fnmatch(name, query.name or "*")]
            ...         start = int(query.cursor or 0)
            ...         end = start + query.limit
            ...         items = [ArtifactDescriptor(kind="dataset", project="p", name=name, digest="sha256:1")
            ...                  for name in found[start:end]]
            ...         return StorePage(items=items, cursor=str(end) if end < len(found) else "")
            >>> page = Store().store_search(StoreQuery(name="wine*", limit=1))
            >>> [item.name for item in page.items], page.cursor
            (['wine-red'], '1')
        """

    @hookspec(firstresult=True)
    def store_update(self, ref: ArtifactRef, change: DescriptorChange) -> ArtifactDescriptor:
        """Set aliases and labels of a version in the back-end. Contents never change.

        Args:
            ref: The version.
            change: What to set; fields that are None stay as they are.

        Returns:
            The descriptor after the change.

        Raises:
            NotFound: There is no such version.
            Unsupported: The back-end has neither aliases nor labels.

        Example:
            >>> class Store:
            ...     kept = ArtifactDescriptor(kind="model", project="p", name="wine", digest="sha256:1",
            ...                               labels={"a": "1"})
            ...     @hookimpl
            ...     def store_update(self, ref, change):
            ...         self.kept = self.kept.model_copy(update=change.model_dump(exclude_none=True))
            ...         return self.kept
            >>> after = Store().store_update(Store.kept.ref, DescriptorChange(aliases=["production"]))
            >>> after.aliases, after.labels
            (['production'], {'a': '1'})
        """

    @hookspec(firstresult=True)
    def store_delete(self, ref: ArtifactRef) -> bool:
        """Delete one version, or every version of a name when `ref.digest` is empty.

        Args:
            ref: What to delete.

        Returns:
            False if nothing was there.

        Raises:
            Unsupported: The store deletes nothing.

        Example:
            >>> class Store:
            ...     def __init__(self):
            ...         self.kept = {("wine", "sha256:1"), ("wine", "sha256:2")}
            ...     @hookimpl
            ...     def store_delete(self, ref):
            ...         gone = {key for key in self.kept if key[0] == ref.name and ref.digest in ("", key[1])}
            ...         self.kept -= gone
            ...         return bool(gone)
            >>> store, wine = Store(), ArtifactRef(kind="model", project="p", name="wine")
            >>> store.store_delete(wine), store.store_delete(wine)
            (True, False)
        """

    @hookspec(firstresult=True)
    def store_locate(self, ref: ArtifactRef, accepts: list[str]) -> Location:
        """Say where an agent can fetch the contents, with short-lived credentials if it needs any.

        Args:
            ref: The version.
            accepts: Schemes that the agent can fetch, preferred first, such as `file` or `s3`.

        Returns:
            The location in the first of these schemes that the store can serve.

        Raises:
            NotFound: There is no such version.
            Unsupported: The store can serve none of the schemes.

        Example:
            >>> class Store:
            ...     @hookimpl
            ...     def store_locate(self, ref, accepts):
            ...         if "https" not in accepts:
            ...             raise Unsupported(f"only https is served, not {', '.join(accepts)}")
            ...         return Location(uri=f"https://models.example/{ref.digest}",
            ...                         headers={"authorization": "Bearer x"}, expires_at=time.time() + 600)
            >>> ref = ArtifactRef(kind="model", project="p", name="wine", digest="sha256:1")
            >>> Store().store_locate(ref, ["s3", "https"]).uri
            'https://models.example/sha256:1'
        """

    @hookspec(firstresult=True)
    def store_files(self, ref: ArtifactRef, read: list[str], max_bytes: int) -> FileListing:
        """List the files of a version, with the text of those that were asked for and are small enough.

        Args:
            ref: The version.
            read: Globs of the files whose text is wanted, matched without regard to case.
            max_bytes: Files larger than this many bytes are listed without their text.

        Returns:
            Every file with size and digest, and texts by path.

        Raises:
            NotFound: There is no such version.

        Example:
            >>> class Store:
            ...     files = {"README.md": b"# Wine", "model.bin": b"..."}
            ...     @hookimpl
            ...     def store_files(self, ref, read, max_bytes):
            ...         entries = [FileEntry(path=path, size=len(data), digest=f"sha256:{sha256(data).hexdigest()}")
            ...                    for path, data in self.files.items()]
            ...         wanted = {path: data for path, data in self.files.items() if len(data) <= max_bytes
            ...                   and any(fnmatch(path.lower(), glob.lower()) for glob in read)}
            ...         return FileListing(files=entries, contents={p: data.decode() for p, data in wanted.items()})
            >>> ref = ArtifactRef(kind="model", project="p", name="wine", digest="sha256:1")
            >>> Store().store_files(ref, ["readme*"], 1000).contents
            {'README.md': '# Wine'}
        """

    @hookspec(firstresult=True)
    def store_events(self, cursor: str, wait: float) -> StoreEvents:
        """Return what happened in the back-end since a cursor, whoever did it; the server follows stores with this.

        A store that cannot wait returns at once and says in `store_describe().events_interval` how often to ask.
        While waiting it should look at `calls.current().cancelled`.

        Args:
            cursor: From the last answer; empty: everything there is, as `created`.
            wait: Seconds to wait for an event if there is none yet, at most 30.

        Returns:
            Events, oldest first, and the cursor for the next call.

        Raises:
            InvalidInput: The cursor is not known any more; the server begins again with an empty one.

        Example:
            >>> class Store:
            ...     log = [StoreEvent(type="created", kind="model", project="p", name="wine", digest="sha256:1"),
            ...            StoreEvent(type="alias-moved", kind="model", project="p", name="wine", aliases=["best"])]
            ...     @hookimpl
            ...     def store_events(self, cursor, wait):
            ...         return StoreEvents(events=self.log[int(cursor or 0):], cursor=str(len(self.log)))
            >>> [event.type for event in Store().store_events("1", 0.0).events]
            ['alias-moved']
        """

    @hookspec(firstresult=True)
    def store_ui_url(self, ref: ArtifactRef) -> str:
        """Return the address of a page about the artifact, for people.

        Args:
            ref: The version, or all versions when its digest is empty.

        Returns:
            An absolute `http:` or `https:` URL, without credentials.

        Raises:
            NotFound: There is no such artifact.

        Example:
            >>> class Store:
            ...     @hookimpl
            ...     def store_ui_url(self, ref):
            ...         return f"https://models.example/{quote(ref.project)}/{quote(ref.name)}"
            >>> Store().store_ui_url(ArtifactRef(kind="model", project="p", name="red wine"))
            'https://models.example/p/red%20wine'
        """

    @hookspec(firstresult=True)
    def store_collect_garbage(self, keep: list[str], dry_run: bool) -> GarbageReport:
        """Remove contents that no version needs any more; called from time to time, also beside registrations.

        Args:
            keep: Digests of everything that is still needed, of what is being registered included.
            dry_run: Only report what would be removed.

        Returns:
            Digests that were (or would be) removed, and how many bytes they take.

        Example:
            >>> class Store:
            ...     def __init__(self):
            ...         self.sizes = {"sha256:1": 10, "sha256:2": 20}
            ...     @hookimpl
            ...     def store_collect_garbage(self, keep, dry_run):
            ...         gone = sorted(self.sizes.keys() - set(keep))
            ...         report = GarbageReport(removed=gone, bytes=sum(self.sizes[digest] for digest in gone))
            ...         if not dry_run:
            ...             for digest in gone:
            ...                 del self.sizes[digest]
            ...         return report
            >>> Store().store_collect_garbage(["sha256:2"], dry_run=True)
            GarbageReport(removed=['sha256:1'], bytes=10)
        """
