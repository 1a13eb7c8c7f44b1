"""CORE41 to CORE49: the wire, which a plugin in Python gets from the runtime and others write themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fuseml_sdk.contract import Operation, operations
from fuseml_sdk.errors import BY_TYPE
from fuseml_sdk.hookspecs import PROTOCOL
from fuseml_sdk.problems import MEDIA_TYPE
from fuseml_sdk.testing.bench import Bench
from fuseml_sdk.testing.exchanges import Answer
from fuseml_sdk.testing.expectations import expect
from fuseml_sdk.testing.rules import Condition, Rulebook
from fuseml_sdk.testing.schemas import misfits, published
from fuseml_sdk.testing.tours import tour

BOOK = Rulebook()
_HOOKS = f"/v{PROTOCOL}/hooks/"
#: Bytes of a large request.
LARGE = 1 << 20


@BOOK.rule("CORE41", "Every result fits the published schema, without fields that it does not name.",
           why="Callers in other languages read by the schema; a field that nobody knows is a misspelled one.",
           fix="Return the types of fuseml_sdk.types, or validate what you write against the JSON Schema of the hook.")
def _results_fit(bench: Bench) -> None:
    tour(bench, bench.plugin)
    wrong = []
    for exchange in bench.plugin.observed:
        if exchange.path.startswith(_HOOKS) and exchange.answer.status == 200:
            hook = exchange.path.removeprefix(_HOOKS)
            found = _json(exchange.answer)
            wrong += [f"{hook}: {text}" for text in misfits(found, published(hook)["result"])]
    expect(not wrong, "; ".join(list(dict.fromkeys(wrong))[:3]))


@BOOK.rule("CORE42", "Fields of arguments that it does not know are ignored.",
           why="A newer server sends more than this version of the plugin knows.",
           fix="Read what you know, and leave the rest alone.")
def _unknown_fields_are_ignored(bench: Bench) -> None:
    for family in bench.families:
        hook = f"{family}_describe"
        _expect_answer(f"{hook} with an unknown argument", _post(bench, hook, {"x_unheard_of": {"nested": True}}), 200)
    for hook, arguments in _nested(bench):
        known, more = _post(bench, hook, arguments), _post(bench, hook, _with_more(arguments))
        expect(known.status == more.status,
               f"{hook} with an unknown field inside is answered with {_brief(more)}, without it {_brief(known)}")


@BOOK.rule("CORE43", "Arguments that do not fit are invalid input.",
           why="Callers are told by invalid-input to change the call; anything else is retried, or reported as a "
               "defect.",
           fix="Check arguments before you use them; answer status 400 with a problem of the type invalid-input.")
def _misfits_are_invalid(bench: Bench) -> None:
    for operation in _offered(bench):
        bodies = [b"{not json", b"[]", b'"text"']
        if any(parameter.required for parameter in operation.parameters):
            bodies += [b"{}", json.dumps({parameter.name: [[1]] for parameter in operation.parameters}).encode()]
        for body in bodies:
            answer = bench.plugin.ask("POST", operation.route, body)
            _expect_answer(f"{operation.hook} with the body {body[:60]!r}", answer, 400, "invalid-input")


@BOOK.rule("CORE44", "Errors are problem documents of a known type.",
           why="The type tells the caller what to do next: retry, change the call, or tell a person.",
           fix=f"Answer errors as {MEDIA_TYPE} with type, title, status and detail; see the reference of the wire.")
def _errors_are_problems(bench: Bench) -> None:
    tour(bench, bench.plugin)
    bench.plugin.ask("POST", f"{_HOOKS}x_unheard_of", b"{}")
    for exchange in bench.plugin.observed:
        answer = exchange.answer
        if answer.status >= 400:
            found = _json(answer)
            where = _said(f"{exchange.method} {exchange.path}", answer)
            expect(isinstance(found, dict) and _type(answer) in BY_TYPE, where)
            expect(answer.headers.get("content-type", "").partition(";")[0] == MEDIA_TYPE,
                   f"{where}, as {answer.headers.get('content-type')!r}")
            expect(found.get("status") == answer.status and found.get("title") and found.get("detail"), where)


@BOOK.rule("CORE45", "Hooks that do not exist are not found, those not offered unsupported.",
           why="A caller asks another plugin when something is unsupported, and gives up otherwise.",
           fix="Answer 404 not-found to unknown routes, and 501 unsupported to hooks that you do not implement.")
def _other_hooks_are_refused(bench: Bench) -> None:
    _expect_answer("an unknown hook", bench.plugin.ask("POST", f"{_HOOKS}x_unheard_of", b"{}"), 404, "not-found")
    missing = [name for name in operations() if name not in bench.hooks and not name.startswith("fuseml_")]
    answer = bench.plugin.ask("POST", f"{_HOOKS}{missing[0]}", _sample(operations()[missing[0]]))
    _expect_answer(f"{missing[0]}, which it does not implement,", answer, 501, "unsupported")


@BOOK.rule("CORE46", "A deadline that has passed cancels the call.", level="silver",
           why="Nobody waits for the answer any more; work for nobody keeps others waiting.",
           fix="Read fuseml-deadline-ms, and answer 499 cancelled when it is over; a header that is no number is "
               "invalid input.")
def _deadlines_are_read(bench: Bench) -> None:
    hook = f"{bench.families[0]}_describe"
    for deadline, status, kind in (("0", 499, "cancelled"), ("soon", 400, "invalid-input"), ("60000", 200, "")):
        answer = bench.plugin.ask("POST", f"{_HOOKS}{hook}", b"{}", {"fuseml-deadline-ms": deadline})
        _expect_answer(f"{hook} with fuseml-deadline-ms: {deadline}", answer, status, kind)


@BOOK.rule("CORE47", "A request of more than 1 MiB is read.",
           why="Listings of large codesets and statuses of many workloads are that large.",
           fix="Read bodies up to 64 MiB.")
def _large_requests_are_read(bench: Bench) -> None:
    hook = f"{bench.families[0]}_describe"
    _expect_answer(f"{hook} with {LARGE} characters", _post(bench, hook, {"x_padding": "ü" * LARGE}), 200)


@BOOK.rule("CORE48", "Other methods are refused, with those that are allowed.", level="silver",
           why="A GET that did something would be repeated by proxies and browsers.",
           fix="Answer 405 with the header allow.")
def _other_methods_are_refused(bench: Bench) -> None:
    for method, path, allowed in (("GET", f"{_HOOKS}{bench.families[0]}_describe", "POST"),
                                  ("POST", f"/v{PROTOCOL}/describe", "GET")):
        answer = bench.plugin.ask(method, path)
        expect(answer.status == 405, _said(f"{method} {path}", answer))
        expect(allowed in answer.headers.get("allow", ""), f"the header allow is {answer.headers.get('allow')!r}")


@BOOK.rule("CORE49", "Odd text is carried unharmed, or refused; it never makes a defect.",
           why="Names come from people and programs of all languages; a defect is shown to them as a crash.",
           fix="Check names and cursors before you use them as paths or numbers; raise InvalidInput or NotFound.",
           only=[Condition("has hooks which take names", "none of its hooks takes names",
                           lambda bench: any(hook in bench.hooks for hook, _ in _ODD))])
def _odd_text_is_no_defect(bench: Bench) -> None:
    for hook, make in _ODD:
        if hook in bench.hooks:
            for text in _TEXTS:
                arguments = make(text)
                if "ref" in arguments:
                    arguments["ref"] = {**_ref(bench), **arguments["ref"]}
                answer = _post(bench, hook, arguments)
                expect(answer.status == 200 or _type(answer) not in ("internal", ""),
                       _said(f"{hook} with {text[:40]!r}", answer))


_TEXTS = ("", " ", ".", "..", "../../etc/passwd", "/etc/passwd", "a/b", "-rf", "näme-日本-🦀", "a\u0000b", "a\nb",
          "%2e%2e%2f", "x" * 5000, "con", "'; drop table x; --", "\u202egnp.exe")
_ODD: tuple[tuple[str, Callable[[str], dict[str, Any]]], ...] = (
    ("store_get", lambda text: {"ref": {"name": text}}),
    ("store_get", lambda text: {"ref": {"project": text}}),
    ("store_get", lambda text: {"ref": {"digest": text}}),
    ("store_get", lambda text: {"ref": {"kind": text}}),
    ("store_delete", lambda text: {"ref": {"name": text or "x", "digest": text}}),
    ("store_locate", lambda text: {"ref": {"name": text}, "accepts": [text]}),
    ("store_search", lambda text: {"query": {"name": text, "project": text}}),
    ("store_search", lambda text: {"query": {"cursor": text}}),
    ("store_events", lambda text: {"cursor": text, "wait": 0.0}),
    ("agent_status", lambda text: {"names": [text]}),
    ("agent_logs", lambda text: {"name": text, "cursor": text, "limit": 10}),
    ("agent_cancel", lambda text: {"name": text, "grace": 0.0}),
    ("agent_collect", lambda text: {"name": text}),
    ("agent_events", lambda text: {"cursor": text, "wait": 0.0}),
    ("builder_detect", lambda text: {"listing": {
        "files": [{"path": text, "size": 0, "digest": "sha256:0"}], "contents": {text: text}}}),
)


def _expect_answer(asked: str, answer: Answer, status: int, kind: str = "") -> None:
    """Say what a request was answered with unless status and type of the problem are those."""
    expect((answer.status, _type(answer)) == (status, kind), _said(asked, answer))


def _said(asked: str, answer: Answer) -> str:
    return f"{asked} is answered with {_brief(answer)}"


def _ref(bench: Bench) -> dict[str, Any]:
    missing = bench.once("missing", lambda: bench.samples.missing(bench.plugin))
    return dict(missing.model_dump())


def _nested(bench: Bench) -> list[tuple[str, dict[str, Any]]]:
    """Calls whose arguments hold an object."""
    calls: list[tuple[str, dict[str, Any]]] = []
    if "store_get" in bench.hooks:
        calls.append(("store_get", {"ref": _ref(bench)}))
    if "builder_detect" in bench.hooks:
        calls.append(("builder_detect", {"listing": {"files": [], "contents": {}}}))
    return calls


def _with_more(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: {**value, "x_unheard_of": 1} for name, value in arguments.items()}


def _offered(bench: Bench) -> list[Operation]:
    return [each for name, each in operations().items() if name in bench.hooks and each.family != "fuseml"]


def _sample(operation: Operation) -> bytes:
    """Arguments of any hook that fit well enough to get past checks of types where there are some."""
    values: dict[str, Any] = {
        "ref": {"kind": "model", "project": "p", "name": "n"}, "names": [], "name": "n", "cursor": "", "wait": 0.0,
        "accepts": [], "query": {}, "listing": {}, "read": [], "max_bytes": 0, "keep": [], "dry_run": True, "limit": 1,
        "grace": 0.0, "change": {}}
    return json.dumps({p.name: values.get(p.name, {}) for p in operation.parameters}).encode()


def _post(bench: Bench, hook: str, arguments: dict[str, Any]) -> Answer:
    return bench.plugin.ask("POST", f"{_HOOKS}{hook}", json.dumps(arguments).encode())


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError:
        return answer.body.decode(errors="replace")


def _type(answer: Answer) -> str:
    found = _json(answer)
    return str(found.get("type", "")).rsplit("/", 1)[-1] if answer.status >= 400 and isinstance(found, dict) else ""


def _brief(answer: Answer) -> str:
    return f"{answer.status} {answer.body[:200].decode(errors='replace')}"
