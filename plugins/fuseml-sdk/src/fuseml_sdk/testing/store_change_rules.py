"""ST21 to ST31: what artifact stores promise about changes: deleting, updating, events, garbage, crashes."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from fuseml_sdk.errors import InvalidInput, NotFound, PluginError, Unsupported
from fuseml_sdk.testing.bench import Bench, brief, expect, until
from fuseml_sdk.testing.faults import full_disk, kill9
from fuseml_sdk.testing.rules import NotApplicable, Rulebook, Violation
from fuseml_sdk.testing.store_rules import registered
from fuseml_sdk.types import DescriptorChange, Location, StoreEvents

BOOK = Rulebook("store")
#: Bytes that do not fit on the full disk of the kit.
_TOO_MUCH = 2 << 20


@BOOK.rule("ST21", "What was deleted is gone, and deleting it again says so.",
           why="A delete is repeated after a lost connection; it must not fail the second time.",
           fix="Return True if something was deleted and False if nothing was there; then store_get raises NotFound.")
def _deletes(bench: Bench) -> None:
    bench.require("store_delete")
    made = registered(bench, "deleted", name="deleted")
    whole = made.ref.model_copy(update={"digest": ""})
    first, second = bench.plugin.call("store_delete", ref=whole), bench.plugin.call("store_delete", ref=whole)
    expect((first, second) == (True, False), f"store_delete answered {first} and then {second}")
    bench.refused("store_get", NotFound, ref=made.ref)


@BOOK.rule("ST22", "Deleting one artifact leaves others with the same contents alone.",
           why="Equal contents are stored once; others still need them.",
           fix="Remove contents when the last artifact that has them is deleted.")
def _deletes_alone(bench: Bench) -> None:
    bench.require("store_delete")
    gone, stays = (registered(bench, "shared", name=name) for name in ("shared-a", "shared-b"))
    bench.plugin.call("store_delete", ref=gone.ref.model_copy(update={"digest": ""}))
    expect(bench.plugin.call("store_get", ref=stays.ref).digest == stays.digest, "the other one is gone, too")
    bench.plugin.call("store_locate", ref=stays.ref, accepts=bench.about("store").schemes)


@BOOK.rule("ST23", "An update sets what it names, and leaves the rest and the contents alone.",
           why="Stages such as `production` are moved by it while others set labels.",
           fix="Treat None as: leave it alone; return the descriptor as store_get will.")
def _updates(bench: Bench) -> None:
    bench.require("store_update")
    made = registered(bench, "updated", name="updated")
    bench.plugin.call("store_update", ref=made.ref, change=DescriptorChange(labels={"stage": "ü"}))
    bench.plugin.call("store_update", ref=made.ref, change=DescriptorChange(aliases=["champion"]))
    found = bench.plugin.call("store_get", ref=made.ref)
    expect(found.digest == made.digest, f"the digest became {found.digest}")
    expect(found.aliases == ["champion"], f"the aliases are {found.aliases!r}")
    expect(found.labels.get("stage") == "ü", f"the labels are {found.labels!r}")


@BOOK.rule("ST24", "Registering shows in the events after a cursor, once.",
           why="Pipelines start by events; a missing one is a run that never happens, a second one a run too many.",
           fix="Let a cursor name a place in the store's history, and return what came after it.")
def _tells_events(bench: Bench) -> None:
    bench.require("store_events")
    before = _events(bench, "").cursor
    made = registered(bench, f"event {time.monotonic_ns()}", name="events")
    seen: list[StoreEvents] = []

    def look() -> bool:
        seen.append(_events(bench, seen[-1].cursor if seen else before, 1.0))
        return any(event.name == made.name for batch in seen for event in batch.events)

    until(look, 30.0, lambda: f"after the cursor {before!r} there were {brief([batch.events for batch in seen])}")
    again = _events(bench, seen[-1].cursor)
    expect(not [event for event in again.events if event.name == made.name],
           f"after its own cursor it told {brief(again.events)} once more")


@BOOK.rule("ST25", "Events wait no longer than they are told to.",
           why="The server that asks wants to stop, or to ask somebody else.",
           fix="Return an empty list with the same cursor when `wait` seconds have passed.", level="silver")
def _events_return(bench: Bench) -> None:
    bench.require("store_events")
    cursor = _events(bench, "").cursor
    begun = time.monotonic()
    found = _events(bench, cursor, 0.5)
    took = time.monotonic() - begun
    expect(took < 15.0, f"with wait=0.5 it took {took:.1f} s")
    expect(not found.events or found.cursor != cursor, "it told events without moving the cursor")


@BOOK.rule("ST26", "Reporting garbage removes nothing.",
           why="The report is shown to people before they decide.",
           fix="With dry_run, return what would be removed and leave it.")
def _reports_garbage(bench: Bench) -> None:
    bench.require("store_collect_garbage")
    made = registered(bench, "garbage", name="garbage")
    bench.plugin.call("store_collect_garbage", keep=[], dry_run=True)
    bench.plugin.call("store_get", ref=made.ref)
    bench.plugin.call("store_locate", ref=made.ref, accepts=bench.about("store").schemes)


@BOOK.rule("ST27", "Collecting garbage leaves what is kept.",
           why="What is in `keep` is used by pipelines and models in service.",
           fix="Remove only contents whose digest is not in `keep`.")
def _keeps_what_is_kept(bench: Bench) -> None:
    bench.require("store_collect_garbage")
    made = registered(bench, "kept", name="kept")
    report = bench.plugin.call("store_collect_garbage", keep=[made.digest], dry_run=False)
    expect(made.digest not in report.removed, f"it removed {made.digest}, which was in keep")
    bench.plugin.call("store_locate", ref=made.ref, accepts=bench.about("store").schemes)


@BOOK.rule("ST28", "What was registered is there after kill -9 and a new start.", needs=["process", "restart"],
           why="The answer to store_register is a promise: the run that made the artifact is over.",
           fix="Put contents and descriptor on disk (fuseml_sdk.durable), or into the back-end, before you answer.")
def _keeps_across_kill(bench: Bench) -> None:
    bench.require("store_register")
    folder = bench.folder()
    first = bench.start(folder)
    try:
        made = registered(bench, "durable", name="durable", plugin=first)
        kill9(first)
    finally:
        first.close()
    second = bench.start(folder)
    try:
        found = second.call("store_get", ref=made.ref)
        expect(found.digest == made.digest, f"it found {brief(found)}")
        second.call("store_locate", ref=made.ref, accepts=second.call("store_describe").schemes)
    except PluginError as error:
        raise Violation(f"after the new start it failed with {error.type}: {error}") from None
    finally:
        second.close()


@BOOK.rule("ST29", "A full disk fails the call in a documented way, and loses nothing.", level="gold",
           needs=["process"], why="Disks do fill up; what is there already must survive, and the reason must be told.",
           fix="Turn OSError into Retryable or Permanent with the reason, and remove what is half-written.")
def _survives_full_disk(bench: Bench) -> None:
    bench.require("store_register")
    with bench.fresh() as plugin:
        made = registered(bench, "before", name="before", plugin=plugin)
        request = bench.samples.artifact(plugin, bench.folder(), "x" * _TOO_MUCH, name="large")
        try:
            with full_disk(plugin):
                plugin.call("store_register", request=request)
        except Unsupported as error:
            raise NotApplicable(str(error)) from None
        except PluginError as error:
            expect(error.type != "internal", f"store_register failed with {error.type}: {error}")
        expect(plugin.call("store_get", ref=made.ref).digest == made.digest, "what was there before is lost")
        registered(bench, "after", name="after", plugin=plugin)


@BOOK.rule("ST30", "The same contents, registered by several at once, become one version.", level="silver",
           why="Two steps of a pipeline may end with the same result in the same second.",
           fix="Write contents under a name of your own and rename them; whoever comes second finds them there.")
def _registers_at_once(bench: Bench) -> None:
    bench.require("store_register")
    requests = [bench.samples.artifact(bench.plugin, bench.folder(), "at once", name="at-once") for _ in range(4)]
    digests: list[str] = []
    failures: list[str] = []

    def work(number: int) -> None:
        try:
            digests.append(bench.plugin.call("store_register", request=requests[number]).digest)
        except PluginError as error:
            failures.append(f"{error.type}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not failures, f"{len(failures)} of {len(threads)} failed, such as {failures[:1]}")
    expect(len(set(digests)) == 1, f"the digests are {sorted(set(digests))}")


@BOOK.rule("ST31", "Contents that do not exist are refused.",
           why="A descriptor without contents fails the step that wants them, far from the cause.",
           fix="Look at `source` before you answer; raise NotFound if nothing is there.")
def _refuses_missing_contents(bench: Bench) -> None:
    bench.require("store_register")
    request = bench.samples.artifact(bench.plugin, bench.folder(), "missing", name="missing")
    if request.source is None:
        request = request.model_copy(update={"digest": bench.samples.missing(bench.plugin).digest})
    else:
        nowhere = Location(uri=f"{request.source.uri.rstrip('/')}-{Path(request.source.uri).name}-missing")
        request = request.model_copy(update={"source": nowhere, "digest": ""})
    bench.refused("store_register", NotFound, InvalidInput, request=request)


def _events(bench: Bench, cursor: str, wait: float = 0.0) -> StoreEvents:
    found: StoreEvents = bench.plugin.call("store_events", cursor=cursor, wait=wait)
    return found
