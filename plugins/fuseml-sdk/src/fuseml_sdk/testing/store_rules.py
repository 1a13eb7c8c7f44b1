"""ST: what artifact stores promise about finding, reading and listing."""

from __future__ import annotations

from fuseml_sdk.errors import InvalidInput, NotFound, Unsupported
from fuseml_sdk.testing.bench import Bench
from fuseml_sdk.testing.expectations import brief, expect, expect_filled, expect_same
from fuseml_sdk.testing.rules import Rulebook, Violation, offers
from fuseml_sdk.testing.samples import PROJECT
from fuseml_sdk.testing.served import ServedPlugin
from fuseml_sdk.types import ArtifactDescriptor, StoreQuery

BOOK = Rulebook("store")


@BOOK.rule("ST01", "The description names kinds and schemes.",
           why="Servers choose a store by kind, and agents by scheme; without them the store is never used.",
           fix="List in store_describe what the store keeps and how it hands it out, preferred scheme first.")
def _says_what_it_keeps(bench: Bench) -> None:
    expect_filled(bench.about("store"), "name", "kinds", "schemes")


@BOOK.rule("ST02", "A version that does not exist is not found.",
           why="Callers tell by not-found that they may register it; any other error stops the run.",
           fix="Raise NotFound in store_get when there is no such version.")
def _missing_is_not_found(bench: Bench) -> None:
    bench.refused("store_get", NotFound, ref=bench.samples.missing(bench.plugin))


@BOOK.rule("ST03", "What does not exist cannot be located.",
           why="An agent that is sent to contents that are not there fails later, with a worse message.",
           fix="Look the version up in store_locate before you make a location of it.")
def _missing_is_not_located(bench: Bench) -> None:
    bench.refused("store_locate", NotFound, ref=bench.samples.missing(bench.plugin),
                  accepts=bench.about("store").schemes)


@BOOK.rule("ST04", "What was registered is found again, as it was registered.",
           why="The whole product rests on getting back what was put in.",
           fix="Keep kind, project, name and type of the request with the contents, and find them by the digest.",
           only=[offers("store_register")])
def _registered_is_found(bench: Bench) -> None:
    made = registered(bench, "found again")
    found = bench.plugin.call("store_get", ref=made.ref)
    expect(found.digest, "the descriptor has no digest")
    for field in ("kind", "project", "name", "digest", "type"):
        expect(getattr(found, field) == getattr(made, field),
               f"{field} is {getattr(found, field)!r} in store_get and {getattr(made, field)!r} in store_register")


@BOOK.rule("ST05", "The same contents, registered twice, are the same version.",
           why="A call is repeated after a lost connection; two versions of one thing would confuse every pipeline.",
           fix="Derive the digest from the contents alone.", only=[offers("store_register")])
def _registering_is_idempotent(bench: Bench) -> None:
    expect_same("the digests are", registered(bench, "twice").digest, registered(bench, "twice").digest)


@BOOK.rule("ST06", "A location has the first accepted scheme that the store can serve.",
           why="An agent cannot read a location of a scheme that it did not name.",
           fix="Go through `accepts` in its order and answer for the first scheme that you have.",
           only=[offers("store_register")])
def _locations_are_acceptable(bench: Bench) -> None:
    made = registered(bench, "located")
    for scheme in bench.about("store").schemes:
        found = bench.plugin.call("store_locate", ref=made.ref, accepts=["x-unheard-of", scheme])
        expect(found.uri.startswith(f"{scheme}:"), f"asked for {scheme}, it answered {found.uri!r}")


@BOOK.rule("ST07", "If it can serve none of the accepted schemes, it says so.",
           why="The server asks another store, or explains to the user that agent and store do not fit.",
           fix="Raise Unsupported in store_locate, naming the schemes that you have.", only=[offers("store_register")])
def _other_schemes_are_unsupported(bench: Bench) -> None:
    made = registered(bench, "located")
    bench.refused("store_locate", Unsupported, ref=made.ref, accepts=["x-unheard-of"])


@BOOK.rule("ST08", "A search finds what was registered.",
           why="What is not found is not there, for everybody who looks at the list.",
           fix="Return every descriptor that matches, as store_get would, whoever registered it.",
           only=[offers("store_register"), offers("store_search")])
def _search_finds(bench: Bench) -> None:
    made = registered(bench, "searched", name="searched")
    found = searched(bench, StoreQuery(kind=made.kind, project=made.project, name=made.name))
    expect(any(item.digest == made.digest for item in found), f"it found {brief([item.ref for item in found])}")


@BOOK.rule("ST09", "A search gives the same order every time.",
           why="Pages are read one after the other; when the order changes, some things are read twice and some never.",
           fix="Sort by kind, project, name and digest, or by something else that does not change.",
           only=[offers("store_register"), offers("store_search")])
def _search_is_stable(bench: Bench) -> None:
    several(bench)
    first, second = (searched(bench, StoreQuery(project=PROJECT)) for _ in range(2))
    expect([item.ref for item in first] == [item.ref for item in second], "two searches gave different orders")


@BOOK.rule("ST10", "Pages together hold everything once.",
           why="Lists with many entries lose some, or never end.",
           fix="Let the cursor name the last entry of the page, and leave it empty on the last page.",
           only=[offers("store_register"), offers("store_search")])
def _pages_are_whole(bench: Bench) -> None:
    several(bench)
    whole = [item.ref for item in searched(bench, StoreQuery(project=PROJECT))]
    paged, cursor = [], ""
    for _ in range(len(whole) + 2):
        page = bench.plugin.call("store_search", query=StoreQuery(project=PROJECT, limit=1, cursor=cursor))
        paged += [item.ref for item in page.items]
        cursor = page.cursor
        if not cursor:
            break
    expect(not cursor, f"after {len(whole) + 2} pages of one there is still a cursor, for {len(whole)} entries")
    expect(sorted(map(str, paged)) == sorted(map(str, whole)),
           f"page by page there are {len(paged)} entries, at once {len(whole)}")


@BOOK.rule("ST11", "A search returns only what matches kind, project and name.",
           why="Whoever asks for one project must not be shown another.",
           fix="Apply every field of the query that is not empty; `name` is a glob.",
           only=[offers("store_register"), offers("store_search")])
def _search_filters(bench: Bench) -> None:
    several(bench)
    for query, holds in ((StoreQuery(kind="x-unheard-of"), lambda _: False),
                         (StoreQuery(project="x-unheard-of"), lambda _: False),
                         (StoreQuery(project=PROJECT, name="several-1"), lambda item: item.name == "several-1"),
                         (StoreQuery(project=PROJECT, name="several-*"), lambda item: "several-" in item.name)):
        wrong = [item.ref for item in searched(bench, query) if not holds(item)]
        expect(not wrong, f"{brief(query)} found {brief(wrong)}")
    expect({item.name for item in searched(bench, StoreQuery(project=PROJECT, name="several-*"))} >= {
        "several-0", "several-1", "several-2"}, "the glob several-* did not find all three that match")


@BOOK.rule("ST12", "Files are listed with their sizes, and read only as far as was asked.",
           why="Builders decide by the list; text that nobody asked for may be large or private.",
           fix="List every file; put into `contents` those that match `read` and have at most `max_bytes`.",
           only=[offers("store_register"), offers("store_files")])
def _lists_files(bench: Bench) -> None:
    made = registered(bench, "twelve chars", name="listed")
    found = bench.plugin.call("store_files", ref=made.ref, read=["*"], max_bytes=1000)
    expect(found.files, "no file is listed")
    sizes = {entry.path: entry.size for entry in found.files}
    wrong = [path for path, text in found.contents.items() if sizes.get(path) != len(text.encode())]
    expect(found.contents and not wrong, f"of {brief(sizes)} it read {brief(found.contents)}")
    largest = max(sizes.values())
    small = bench.plugin.call("store_files", ref=made.ref, read=["*"], max_bytes=largest - 1)
    expect(len(small.files) == len(found.files), "with a smaller max_bytes fewer files are listed")
    expect(all(sizes[path] < largest for path in small.contents), "it read a file larger than max_bytes")
    none = bench.plugin.call("store_files", ref=made.ref, read=[], max_bytes=1000)
    expect(not none.contents, f"nobody asked for text, and it read {brief(sorted(none.contents))}")


@BOOK.rule("ST13", "Text of all languages, empty contents and a file of 1 MiB come back as they were.",
           why="Data is what it is; a store that changes or refuses it is of no use.",
           fix="Keep contents as bytes, and everything that is text as UTF-8.", only=[offers("store_register")])
def _keeps_any_text(bench: Bench) -> None:
    for name, text in (("unicode", "näme,日本,🦀\n"), ("empty", ""), ("large", "x" * ((1 << 20) + 1))):
        made = registered(bench, text, name=f"text-{name}")
        again = registered(bench, text, name=f"text-{name}")
        expect_same(f"{name} text got the digests", made.digest, again.digest)
        if "store_files" in bench.hooks:
            found = bench.plugin.call("store_files", ref=made.ref, read=["*"], max_bytes=2 << 20)
            expect(text in found.contents.values(), f"{name} text is not among {brief(found.contents)}")


@BOOK.rule("ST14", "Pages about artifacts have an address that a browser can open.",
           why="It is shown as a link.", fix="Return an absolute http or https address.", level="silver",
           only=[offers("store_register"), offers("store_ui_url")])
def _links_to_pages(bench: Bench) -> None:
    made = registered(bench, "linked", name="linked")
    found = bench.plugin.call("store_ui_url", ref=made.ref)
    expect(found.startswith(("http://", "https://")), f"it answered {found!r}")


@BOOK.rule("ST15", "A kind that it does not keep is refused.",
           why="Contents of another kind would be found by nobody.",
           fix="Raise InvalidInput or Unsupported when `kind` is not among those of store_describe.",
           only=[offers("store_register")])
def _refuses_other_kinds(bench: Bench) -> None:
    request = bench.samples.artifact(bench.plugin, bench.folder(), "other", name="other")
    bench.refused("store_register", InvalidInput, Unsupported,
                  request=request.model_copy(update={"kind": "x-unheard-of"}))


def searched(bench: Bench, query: StoreQuery) -> list[ArtifactDescriptor]:
    """Everything that a search finds, over all pages."""
    found: list[ArtifactDescriptor] = []
    cursor = ""
    for _ in range(1000):
        page = bench.plugin.call("store_search", query=query.model_copy(update={"cursor": cursor}))
        found += page.items
        cursor = page.cursor
        if not cursor:
            return found
    raise Violation(f"a search over {brief(query)} gave 1000 pages and no end")


def several(bench: Bench) -> None:
    """Three artifacts to search among."""
    bench.once("several", lambda: [registered(bench, f"one of several: {n}", name=f"several-{n}") for n in range(3)])


def registered(bench: Bench, text: str, *, name: str = "sample", plugin: ServedPlugin | None = None,
               ) -> ArtifactDescriptor:
    """Register sample contents and return their descriptor."""
    target = plugin or bench.plugin
    request = bench.samples.artifact(target, bench.folder(), text, name=name)
    made: ArtifactDescriptor = target.call("store_register", request=request)
    expect((made.kind, made.project, made.name) == (request.kind, request.project, request.name),
           f"store_register answered {brief(made)} to {brief(request)}")
    return made
