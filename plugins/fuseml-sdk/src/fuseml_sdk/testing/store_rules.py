"""ST: what artifact stores promise about finding, reading and listing."""

from __future__ import annotations

from fuseml_sdk.errors import NotFound, Unsupported
from fuseml_sdk.testing.bench import Bench, brief, expect
from fuseml_sdk.testing.rules import Rulebook
from fuseml_sdk.testing.served import ServedPlugin
from fuseml_sdk.types import ArtifactDescriptor

BOOK = Rulebook("store")


@BOOK.rule("ST01", "The description names kinds and schemes.",
           why="Servers choose a store by kind, and agents by scheme; without them the store is never used.",
           fix="List in store_describe what the store keeps and how it hands it out, preferred scheme first.")
def _says_what_it_keeps(bench: Bench) -> None:
    about = bench.about("store")
    expect(about.name, "the name is empty")
    expect(about.kinds and all(about.kinds), f"kinds is {about.kinds!r}")
    expect(about.schemes and all(about.schemes), f"schemes is {about.schemes!r}")


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
           fix="Keep kind, project, name, type, labels and metadata of the request with the contents.")
def _registered_is_found(bench: Bench) -> None:
    made = registered(bench, "found again")
    found = bench.plugin.call("store_get", ref=made.ref)
    expect(found.digest, "the descriptor has no digest")
    for field in ("kind", "project", "name", "digest", "type", "labels"):
        expect(getattr(found, field) == getattr(made, field),
               f"{field} is {getattr(found, field)!r} in store_get and {getattr(made, field)!r} in store_register")


@BOOK.rule("ST05", "The same contents, registered twice, are the same version.",
           why="A call is repeated after a lost connection; two versions of one thing would confuse every pipeline.",
           fix="Derive the digest from the contents alone.")
def _registering_is_idempotent(bench: Bench) -> None:
    first, second = registered(bench, "twice"), registered(bench, "twice")
    expect(first.digest == second.digest, f"the digests are {first.digest} and {second.digest}")


@BOOK.rule("ST06", "A location has the first accepted scheme that the store can serve.",
           why="An agent cannot read a location of a scheme that it did not name.",
           fix="Go through `accepts` in its order and answer for the first scheme that you have.")
def _locations_are_acceptable(bench: Bench) -> None:
    made = registered(bench, "located")
    for scheme in bench.about("store").schemes:
        found = bench.plugin.call("store_locate", ref=made.ref, accepts=["x-unheard-of", scheme])
        expect(found.uri.startswith(f"{scheme}:"), f"asked for {scheme}, it answered {found.uri!r}")


@BOOK.rule("ST07", "If it can serve none of the accepted schemes, it says so.",
           why="The server asks another store, or explains to the user that agent and store do not fit.",
           fix="Raise Unsupported in store_locate, naming the schemes that you have.")
def _other_schemes_are_unsupported(bench: Bench) -> None:
    made = registered(bench, "located")
    bench.refused("store_locate", Unsupported, ref=made.ref, accepts=["x-unheard-of"])


def registered(bench: Bench, text: str, *, name: str = "sample", plugin: ServedPlugin | None = None,
               ) -> ArtifactDescriptor:
    """Register sample contents and return their descriptor."""
    bench.require("store_register")
    target = plugin or bench.plugin
    request = bench.samples.artifact(target, bench.folder(), text, name=name)
    made: ArtifactDescriptor = target.call("store_register", request=request)
    expect((made.kind, made.project, made.name) == (request.kind, request.project, request.name),
           f"store_register answered {brief(made)} to {brief(request)}")
    return made
