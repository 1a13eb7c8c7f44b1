"""CORE: what holds for every plugin, whatever its family."""

from __future__ import annotations

from functools import partial

from fuseml_sdk.contract import frozen
from fuseml_sdk.errors import PluginError
from fuseml_sdk.hookspecs import PROTOCOL
from fuseml_sdk.negotiation import negotiate
from fuseml_sdk.testing.bench import Bench, optional_hooks, required_hooks
from fuseml_sdk.testing.expectations import at_once, brief, expect, expect_same
from fuseml_sdk.testing.rules import Condition, Rulebook, Violation

BOOK = Rulebook()


@BOOK.rule("CORE01", "The plugin starts and describes itself.",
           why="What cannot be described cannot be called: the server shows the extension as failed.",
           fix="Raise nothing while the plugin is imported, made and configured; the log has the stack.")
def _describes_itself(bench: Bench) -> None:
    try:
        description = bench.plugin.describe()
    except PluginError as error:
        raise Violation(f"GET /v{PROTOCOL}/describe: {error}") from None
    failure = description.get("failure") or {}
    reason = ". ".join(filter(None, (failure.get("detail"), failure.get("hint"))))
    expect(not failure, f"it does not start: {reason}")
    expect(PROTOCOL in (description.get("protocols") or ()),
           f"protocols is {description.get('protocols')!r}; this kit speaks {PROTOCOL}")
    hooks = description.get("hooks")
    expect(isinstance(hooks, dict) and hooks, f"hooks is {brief(hooks)}, not a map of hook names")


@BOOK.rule("CORE02", "It implements every hook that its family requires.",
           why="Servers call these hooks of every store, agent and builder without asking first.",
           fix="Implement the hooks that are named, and mark each with @hookimpl.")
def _family_is_whole(bench: Bench) -> None:
    expect(bench.families, "it implements no hook of a store, an agent or a builder")
    missing = [hook for family in bench.families for hook in sorted(required_hooks(family) - bench.hooks)]
    expect(not missing, f"it does not implement {', '.join(missing)}")


@BOOK.rule("CORE03", "Optional hooks are implemented exactly if they are declared.",
           why="A hook that is declared and missing fails when somebody needs it; one that is not declared is never "
               "called.",
           fix="Write the same names into `capabilities` of store_describe as there are hooks.",
           only=[Condition("is a store", "only stores have optional hooks",
                           lambda bench: "store_describe" in bench.hooks)])
def _capabilities_are_true(bench: Bench) -> None:
    declared = {f"store_{name}" for name in bench.about("store").capabilities}
    offered = optional_hooks("store") & bench.hooks
    wrong = [f"{hook} is declared but not implemented" for hook in sorted(declared - offered)]
    wrong += [f"{hook} is implemented but not declared" for hook in sorted(offered - declared)]
    expect(not wrong, "; ".join(wrong))


@BOOK.rule("CORE04", "It answers that it is alive and ready.",
           why="Calls are only sent to a plugin that is ready; one that never is cannot be used.",
           fix="Let fuseml_health raise NotReady only while the back-end cannot be reached, and nothing else.")
def _is_ready(bench: Bench) -> None:
    for path, wanted in (("/healthz", "alive"), ("/readyz", "ready")):
        try:
            found = bench.plugin.document("GET", path)
        except PluginError as error:
            raise Violation(f"GET {path} failed with {error.type}: {error}") from None
        expect(found.get("status") == wanted, f"GET {path} answered {brief(found)}, without status {wanted!r}")


@BOOK.rule("CORE05", "It speaks this version of the contract.",
           why="A plugin that was made for another version misreads arguments that have changed.",
           fix="Lock the plugin with the fuseml-sdk of the server, or use the kit of the plugin's version.")
def _contract_is_the_same(bench: Bench) -> None:
    found = bench.description.get("contract_digest")
    if not found and not bench.description.get("sdk_version"):
        # A program without the SDK has no digest to tell; that it keeps the contract is what the other rules show.
        agreement = negotiate(bench.description)
        expect(agreement.accepted, agreement.reason)
        return
    expect(found == frozen()["digest"], f"its contract digest is {found!r}, the kit's is {frozen()['digest']!r}")


@BOOK.rule("CORE06", "Descriptions do not change from one call to the next.",
           why="Servers keep what a plugin says about itself; what changes by chance is used wrongly.",
           fix="Return the same description until the configuration changes; nothing in it may be a time or a count.")
def _descriptions_are_stable(bench: Bench) -> None:
    for family in bench.families:
        expect_same(f"{family}_describe answered", bench.about(family), bench.about(family))


@BOOK.rule("CORE07", "It serves as many calls at once as it declares.",
           why="A server sends that many; a plugin that is not safe for threads mixes up answers or fails.",
           fix="Guard what calls share with a lock, or declare a smaller `concurrency`.", level="silver")
def _calls_run_at_once(bench: Bench) -> None:
    for family in bench.families:
        expected = bench.about(family)
        callers = min(expected.concurrency, 32)
        answers, failures = at_once([partial(bench.about, family)] * (5 * callers), callers)
        wrong = [*failures, *(f"another answer: {brief(answer)}" for answer in answers if answer != expected)]
        expect(not wrong, f"{len(wrong)} of {5 * callers} calls of {family}_describe went wrong with {callers} at "
                          f"once, such as {wrong[:1]}")


@BOOK.rule("CORE08", "It uses nothing that is going to be removed.", level="gold",
           why="What is deprecated has a date; after it the plugin does not load any more.",
           fix="Do what the notice says; `fuseml plugin contract diff` shows what has changed.")
def _uses_nothing_deprecated(bench: Bench) -> None:
    found = negotiate(bench.description).deprecations
    expect(not found, "; ".join(found[:3]))
