"""BU: what builders promise."""

from __future__ import annotations

from pathlib import Path

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.testing.bench import Bench
from fuseml_sdk.testing.expectations import brief, expect, expect_filled, expect_same, within
from fuseml_sdk.testing.rules import NotApplicable, Rulebook
from fuseml_sdk.testing.samples import listing_of
from fuseml_sdk.types import BuildRequest, FileEntry, FileListing

BOOK = Rulebook("builder")
#: Seconds that the contract gives to detection.
MAX_DETECT = 10.0
_EMPTY = f"sha256:{'0' * 64}"


@BOOK.rule("BU01", "The description names the types that it recognises and what it makes of them.",
           why="Templates refer to both; a builder without them cannot be used in one.",
           fix="List codeset types in `types` and the names of runnables in `makes`.")
def _says_what_it_makes(bench: Bench) -> None:
    expect_filled(bench.about("builder"), "name", "types", "makes")


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


@BOOK.rule("BU04", "The same listing gives the same answer, in whatever order its files come.",
           why="A codeset that is recognised today and not tomorrow breaks pipelines by chance.",
           fix="Decide by names and contents alone: no clock, no network, no memory of former calls.")
def _detection_is_deterministic(bench: Bench) -> None:
    for found in (_sample(bench), _many(50)):
        reverse = FileListing(files=list(reversed(found.files)), contents=found.contents)
        answers = [bench.plugin.call("builder_detect", listing=each) for each in (found, found, reverse)]
        expect_same("it answered", answers[0], answers[1])
        expect(answers[0].matches == answers[2].matches and answers[0].type == answers[2].type,
               f"with the files in another order it answered {brief(answers[2])} instead of {brief(answers[0])}")


@BOOK.rule("BU05", "It decides within ten seconds, also about ten thousand files.",
           why="Detection runs at every push, while somebody waits.", level="silver",
           fix="Look at names first; do not read what `describe().reads` did not ask for.")
def _detection_is_quick(bench: Bench) -> None:
    listing = _many(10_000)
    with within(MAX_DETECT):
        bench.plugin.call("builder_detect", listing=listing)


@BOOK.rule("BU06", "It recognises its own kind of codeset, by one of its types.",
           why="A builder that recognises nothing is never used.",
           fix="Answer with matches and with a type of builder_describe; give `Samples.codeset` an example.")
def _recognises_its_own(bench: Bench) -> None:
    listing = _own(bench)
    found = bench.plugin.call("builder_detect", listing=listing)
    expect(found.matches, f"it does not match the sample: {found.why}")
    expect(found.type in bench.about("builder").types, f"the type is {found.type!r}")


@BOOK.rule("BU07", "It decides without the text of files, too.",
           why="Files larger than a limit come without their text.", level="silver",
           fix="Do not take for granted that `contents` holds a file of the list.")
def _decides_without_text(bench: Bench) -> None:
    listing = _own(bench).model_copy(update={"contents": {}})
    found = bench.plugin.call("builder_detect", listing=listing)
    expect(found.why.strip(), "it gives no reason")


@BOOK.rule("BU08", "It makes what it says, each in a folder of its own.",
           why="Templates wait for runnables of these names.",
           fix="Return one BuiltRunnable per name of `makes`, with its files in `<output>/<name>/`.")
def _makes_what_it_says(bench: Bench) -> None:
    request = _request(bench, bench.samples.codeset(bench.folder()) if bench.samples.builds() else None)
    made = bench.plugin.call("builder_build", request=request, seconds=600.0)
    names = [each.output for each in made.runnables]
    makes = bench.about("builder").makes
    expect(names and set(names) <= set(makes), f"it made {names}, of {makes}")
    expect(len(names) == len(set(names)), f"it made {names}")
    for each in made.runnables:
        expect((Path(request.output) / each.output).is_dir(), f"there is no folder {each.output} in the output")


@BOOK.rule("BU09", "A broken codeset is invalid input, and the message names what is broken.",
           why="The person who pushed it has to find the place.",
           fix="Raise InvalidInput with file, place and remedy.")
def _explains_broken_codesets(bench: Bench) -> None:
    folder = bench.samples.broken_codeset(bench.folder())
    request = _request(bench, folder)
    error = bench.refused("builder_build", InvalidInput, request=request)
    names = [path.name for path in Path(request.directory).rglob("*") if path.is_file()]
    expect(any(name in str(error) for name in names), f"{str(error)!r} names none of {names}")


def _sample(bench: Bench) -> FileListing:
    """The listing of the sample, or of something else without one."""
    folder = bench.samples.codeset(bench.folder())
    return listing_of(folder, bench.about("builder").reads) if folder else _many(3)


def _own(bench: Bench) -> FileListing:
    folder = bench.samples.codeset(bench.folder())
    if folder is None:
        raise NotApplicable("the samples have no codeset")
    return listing_of(folder, bench.about("builder").reads)


def _request(bench: Bench, folder: Path | None) -> BuildRequest:
    if folder is None:
        raise NotApplicable("the samples have no such codeset, or it cannot be built here")
    return BuildRequest(project="conformance", name="sample", digest=f"git:{'0' * 40}", directory=str(folder),
                        output=str(bench.folder()))


def _many(count: int) -> FileListing:
    return FileListing(files=[FileEntry(path=f"folder-{n % 17}/file-{n}.txt", size=n, digest=_EMPTY)
                              for n in range(count)])
