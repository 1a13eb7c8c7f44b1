"""ST21 to ST31: what artifact stores promise about changes: deleting, updating, events, garbage, crashes."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from fuseml_sdk.errors import InvalidInput, NotFound, PluginError, Unsupported
from fuseml_sdk.testing.bench import Bench
from fuseml_sdk.testing.expectations import at_once, brief, expect, until, within
from fuseml_sdk.testing.faults import full_disk, on_small_disk
from fuseml_sdk.testing.rules import NotApplicable, Rulebook, offers
from fuseml_sdk.testing.store_rules import registered
from fuseml_sdk.types import DescriptorChange, Location, StoreEvents

BOOK = Rulebook("store")
#: Bytes that do not fit on the full disk of the kit.
_TOO_MUCH = 2 << 20
#: Bytes of that disk; it is in memory, and full while it is looked at.
_DISK = 32 << 20


@BOOK.rule("ST21", "What was deleted is gone, and deleting it again says so.",
           why="A delete is repeated after a lost connection; it must not fail the second time.",
           fix="Return True if something was deleted and False if nothing was there; then store_get raises NotFound.",
           only=[offers("store_register"), offers("store_delete")])
def _deletes(bench: Bench) -> None:
    made = registered(bench, "deleted", name="deleted")
    bench.done_once("store_delete", ref=made.ref.model_copy(update={"digest": ""}))
    bench.refused("store_get", NotFound, ref=made.ref)


@BOOK.rule("ST22", "Deleting one artifact leaves others with the same contents alone.",
           why="Equal contents are stored once; others still need them.",
           fix="Remove contents when the last artifact that has them is deleted.",
           only=[offers("store_register"), offers("store_delete")])
def _deletes_alone(bench: Bench) -> None:
    gone, stays = (registered(bench, "shared", name=name) for name in ("shared-a", "shared-b"))
    bench.plugin.call("store_delete", ref=gone.ref.model_copy(update={"digest": ""}))
    expect(bench.plugin.call("store_get", ref=stays.ref).digest == stays.digest, "the other one is gone, too")
    bench.plugin.call("store_locate", ref=stays.ref, accepts=bench.about("store").schemes)


@BOOK.rule("ST23", "An update sets what it names, and leaves the rest and the contents alone.",
           why="Stages such as `production` are moved by it while others set labels.",
           fix="Treat None as: leave it alone; return the descriptor as store_get will.",
           only=[offers("store_register"), offers("store_update")])
def _updates(bench: Bench) -> None:
    made = registered(bench, "updated", name="updated")
    bench.plugin.call("store_update", ref=made.ref, change=DescriptorChange(labels={"stage": "ü"}))
    bench.plugin.call("store_update", ref=made.ref, change=DescriptorChange(aliases=["champion"]))
    found = bench.plugin.call("store_get", ref=made.ref)
    expect(found.digest == made.digest, f"the digest became {found.digest}")
    expect(found.aliases == ["champion"], f"the aliases are {found.aliases!r}")
    expect(found.labels.get("stage") == "ü", f"the labels are {found.labels!r}")


@BOOK.rule("ST24", "Registering shows in the events after a cursor, once.",
           why="Pipelines start by events; a missing one is a run that never happens, a second one a run too many.",
           fix="Let a cursor name a place in the store's history, and return what came after it.",
           only=[offers("store_register"), offers("store_events")])
def _tells_events(bench: Bench) -> None:
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
           fix="Return an empty list with the same cursor when `wait` seconds have passed.", level="silver",
           only=[offers("store_events")])
def _events_return(bench: Bench) -> None:
    cursor = _events(bench, "").cursor
    with within(15.0, "with wait=0.5"):
        found = _events(bench, cursor, 0.5)
    expect(not found.events or found.cursor != cursor, "it told events without moving the cursor")


@BOOK.rule("ST26", "Reporting garbage removes nothing.",
           why="The report is shown to people before they decide.",
           fix="With dry_run, return what would be removed and leave it.",
           only=[offers("store_register"), offers("store_collect_garbage")])
def _reports_garbage(bench: Bench) -> None:
    made = registered(bench, "garbage", name="garbage")
    bench.plugin.call("store_collect_garbage", keep=[], dry_run=True)
    bench.plugin.call("store_get", ref=made.ref)
    bench.plugin.call("store_locate", ref=made.ref, accepts=bench.about("store").schemes)


@BOOK.rule("ST27", "Collecting garbage leaves what is kept.",
           why="What is in `keep` is used by pipelines and models in service.",
           fix="Remove only contents whose digest is not in `keep`.",
           only=[offers("store_register"), offers("store_collect_garbage")])
def _keeps_what_is_kept(bench: Bench) -> None:
    made = registered(bench, "kept", name="kept")
    report = bench.plugin.call("store_collect_garbage", keep=[made.digest], dry_run=False)
    expect(made.digest not in report.removed, f"it removed {made.digest}, which was in keep")
    bench.plugin.call("store_locate", ref=made.ref, accepts=bench.about("store").schemes)


@BOOK.rule("ST28", "What was registered is there after kill -9 and a new start.", needs=["process", "restart"],
           why="The answer to store_register is a promise: the run that made the artifact is over.",
           fix="Put contents and descriptor on disk (fuseml_sdk.durable), or into the back-end, before you answer.",
           only=[offers("store_register")])
def _keeps_across_kill(bench: Bench) -> None:
    with bench.killed(lambda plugin: registered(bench, "durable", name="durable", plugin=plugin)) as (plugin, made):
        found = plugin.call("store_get", ref=made.ref)
        expect(found.digest == made.digest, f"it found {brief(found)}")
        plugin.call("store_locate", ref=made.ref, accepts=plugin.call("store_describe").schemes)


@BOOK.rule("ST29", "A full disk fails the call in a documented way, and loses nothing.", level="gold",
           needs=["process"], why="Disks do fill up; what is there already must survive, and the reason must be told.",
           fix="Turn OSError into Retryable or Permanent with the reason, and remove what is half-written.",
           only=[offers("store_register")])
def _survives_full_disk(bench: Bench) -> None:
    with bench.fresh(host=None if bench.samples.touch_state else on_small_disk(bench.host, _DISK)) as plugin:
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
           fix="Write contents under a name of your own and rename them; whoever comes second finds them there.",
           only=[offers("store_register")])
def _registers_at_once(bench: Bench) -> None:
    requests = [bench.samples.artifact(bench.plugin, bench.folder(), "at once", name="at-once") for _ in range(4)]
    made, failures = at_once([partial(bench.plugin.call, "store_register", request=each) for each in requests], 4)
    expect(not failures, f"{len(failures)} of {len(requests)} failed, such as {failures[:1]}")
    digests = sorted({each.digest for each in made})
    expect(len(digests) == 1, f"the digests are {digests}")


@BOOK.rule("ST31", "Contents that do not exist are refused.",
           why="A descriptor without contents fails the step that wants them, far from the cause.",
           fix="Look at `source` before you answer; raise NotFound if nothing is there.",
           only=[offers("store_register")])
def _refuses_missing_contents(bench: Bench) -> None:
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
