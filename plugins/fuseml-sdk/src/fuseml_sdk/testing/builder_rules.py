"""BU: what builders promise."""

from __future__ import annotations

from fuseml_sdk.testing.bench import Bench, brief, expect
from fuseml_sdk.testing.rules import Rulebook
from fuseml_sdk.types import FileEntry, FileListing

BOOK = Rulebook("builder")
_EMPTY = f"sha256:{'0' * 64}"


@BOOK.rule("BU01", "The description names the types that it recognises and what it makes of them.",
           why="Templates refer to both; a builder without them cannot be used in one.",
           fix="List codeset types in `types` and the names of runnables in `makes`.")
def _says_what_it_makes(bench: Bench) -> None:
    about = bench.about("builder")
    for field in ("name", "types", "makes"):
        expect(getattr(about, field), f"{field} is empty")


@BOOK.rule("BU02", "An empty codeset is nobody's.",
           why="The first push of a codeset is often empty; a builder that claims it breaks the pipeline.",
           fix="Match only if a file is there that makes the type certain.")
def _empty_is_not_matched(bench: Bench) -> None:
    found = bench.plugin.call("builder_detect", listing=FileListing())
    expect(not found.matches, f"it answered {brief(found)}")


@BOOK.rule("BU03", "Detection says why, in one short sentence, whatever the answer.",
           why="The person who pushed is shown the reason, and nothing else.",
           fix="Write into `why` what you found or missed, without line breaks, in at most 200 characters.")
def _detection_says_why(bench: Bench) -> None:
    for listing in (FileListing(), FileListing(files=[FileEntry(path="README.md", size=0, digest=_EMPTY)])):
        why = bench.plugin.call("builder_detect", listing=listing).why
        expect(why.strip() and "\n" not in why and len(why) <= 200, f"why is {why!r}")
