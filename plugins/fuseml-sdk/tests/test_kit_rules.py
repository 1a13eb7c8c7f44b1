"""R134: every rule of the kit fails for a plugin that breaks it, and for no plugin that keeps it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fuseml_sdk.testing import InProcessHost, Samples, SubprocessHost, Suite, all_rules, conformance
from fuseml_sdk.testing.exchanges import Answer

sys.path.insert(0, str(Path(__file__).parent / "kit"))
RULES = {rule.id: rule for rule in all_rules()}
#: Statements at the top of a module, by the rule that they break.
IMPORTS = {
    "CORE11": "import time\nwhile time.process_time() < 1.8: pass",
    "CORE12": "import socket\ntry: socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError: pass",
    "CORE13": "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
    "CORE14": "open('stray', 'w').close()",
    "CORE15": "print('hello')",
}
#: Rules whose plugin takes longer than five seconds to show what is wrong with it.
SLOW = {"ST25", "AG08", "BU05", "CORE11", "CORE32", "CORE33", "CORE34", "CORE36", "CORE37"}


class Codesets(Samples):
    """Codesets of the builder above."""

    def codeset(self, folder):
        (folder / "kit.txt").write_text("whole")
        return folder

    def broken_codeset(self, folder):
        (folder / "kit.txt").write_text("broken")
        return folder


@dataclass(frozen=True)
class Tampered(InProcessHost):
    """A host in which somebody changes requests or answers on their way, as other runtimes might."""

    change: object = None

    def start(self, folder, config):
        served = super().start(folder, config)
        inner = served.exchange
        served.exchange = lambda *request: self.change(inner, *request)
        return served


def _digest(inner, method, path, *rest):
    answer = inner(method, path, *rest)
    return replace(answer, body=json.dumps({**json.loads(answer.body), "contract_digest": "sha256:0"}).encode()) \
        if path == "/v1/describe" else answer


def _old(inner, method, path, *rest):
    answer = inner(method, path, *rest)
    document = {**json.loads(answer.body), "deprecations": [{"text": "store_get(name) goes on 2027-01-01"}]}
    return replace(answer, body=json.dumps(document).encode()) if path == "/v1/describe" else answer


def _more(inner, method, path, *rest):
    answer = inner(method, path, *rest)
    if path.endswith("builder_describe") and answer.status == 200:
        return replace(answer, body=json.dumps({**json.loads(answer.body), "x_more": 1}).encode())
    return answer


def _known_only(inner, method, path, body, *rest):
    if body and b"x_unheard_of" in body:
        return _problem("invalid-input", 400)
    return inner(method, path, body, *rest)


def _defects(inner, *request):
    answer = inner(*request)
    return _problem("internal", 500) if answer.status == 400 else answer


def _plain(inner, *request):
    answer = inner(*request)
    return replace(answer, headers={**answer.headers, "content-type": "text/plain"}) if answer.status >= 400 else answer


def _all_missing(inner, *request):
    answer = inner(*request)
    return _problem("not-found", 404) if answer.status == 501 else answer


def _timeless(inner, method, path, body, headers, seconds):
    return inner(method, path, body, {k: v for k, v in headers.items() if k != "fuseml-deadline-ms"}, seconds)


def _small(inner, method, path, body, *rest):
    return _problem("invalid-input", 413) if body and len(body) > 1_500_000 else inner(method, path, body, *rest)


def _any_method(inner, *request):
    answer = inner(*request)
    return _problem("not-found", 404) if answer.status == 405 else answer


def _problem(kind, status):
    document = {"type": kind, "title": "T", "status": status, "detail": "d", "hint": "", "details": {}}
    return Answer(status, json.dumps(document).encode(), {"content-type": "application/problem+json"})


TAMPERED = {"CORE05": _digest, "CORE08": _old, "CORE41": _more, "CORE42": _known_only, "CORE43": _defects, "CORE44": _plain,
            "CORE45": _all_missing, "CORE46": _timeless, "CORE47": _small, "CORE48": _any_method}
#: What else cannot hold of a plugin that breaks a rule.
ALSO = {
    "CORE02": {"BU08", "BU09"}, "CORE04": {"CORE35"}, "CORE06": {"CORE07"}, "ST02": {"ST21"},
    "ST05": {"ST13", "ST30"},
    "CORE43": {"BU09", "CORE46"}, "CORE36": {"CORE07"}, "CORE32": {"CORE07"}, "CORE42": set(),
}
#: Plugins that do not work at all any more.
HOPELESS = {"CORE01", "CORE36", "CORE38"}
BUILDERS = "kit_builder"


def hosts_of(rule, tmp_path, monkeypatch):
    """The hosts in which the bad plugin of a rule runs."""
    if rule in TAMPERED:
        return [Tampered(f"{BUILDERS}:Builder", change=TAMPERED[rule])]
    if rule in IMPORTS:
        (tmp_path / f"bad_{rule.lower()}.py").write_text(f"{IMPORTS[rule]}\nfrom kit_builder import Builder\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        return [SubprocessHost(f"bad_{rule.lower()}:Builder")]
    module = {"ST": "kit_store", "AG": "kit_agent"}.get(rule[:2], BUILDERS)
    if rule == "CORE03":
        return [InProcessHost("kit_store:CORE03")]
    own = RULES[rule].needs - {"restart"}
    return [(SubprocessHost if own else InProcessHost)(f"{module}:{rule}")]


@pytest.mark.parametrize("rule", [pytest.param(rule, marks=pytest.mark.full) if rule in SLOW else rule for rule in RULES])
def test_r134_a_plugin_that_breaks_a_rule_fails_it(rule, tmp_path, monkeypatch):
    suite = Suite(hosts_of(rule, tmp_path, monkeypatch), samples=Codesets())
    try:
        outcome = suite.check(RULES[rule], suite.hosts[0])
    finally:
        suite.close()
    assert outcome.kind == "failed", f"{rule} is {outcome.kind}: {outcome.text}"
    assert "the check itself failed" not in outcome.text
    text = outcome.explain()
    assert all(part in text for part in (rule, RULES[rule].title, RULES[rule].fix, f"#{rule.lower()}", outcome.text))


@pytest.mark.full
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in HOPELESS])
def test_r134_a_plugin_that_breaks_a_rule_fails_no_other(rule, tmp_path, monkeypatch):
    config = {"mode": "any"} if rule == "CORE21" else {}
    outcomes = Suite(hosts_of(rule, tmp_path, monkeypatch), config=config, samples=Codesets()).run()
    failed = {outcome.rule.id: outcome.text for outcome in outcomes if outcome.bad}
    assert rule in failed
    assert set(failed) <= {rule} | ALSO.get(rule, set()), failed


TestGoodStore = conformance("kit_store:Store", hosts=["in-process"])
TestGoodStoreElsewhere = pytest.mark.full(conformance("kit_store:Store", hosts=["subprocess", "asgi"]))
TestGoodBuilder = pytest.mark.full(conformance("kit_builder:Builder", samples=Codesets()))
TestGoodAgent = pytest.mark.full(conformance("kit_agent:Agent"))
