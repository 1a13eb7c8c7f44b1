"""What came of a suite, for machines: `scorecard.json` and JUnit XML."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fuseml_sdk import __version__
from fuseml_sdk.contract import frozen
from fuseml_sdk.testing.rules import LEVELS, Rule
from fuseml_sdk.testing.suite import Outcome, Suite

#: What a scorecard is called on its referrer and in its own first lines.
SCORECARD = "https://fuseml.io/scorecard/v1"
_WORST = ("failed", "stale", "exempt", "passed", "not-applicable")


def scorecard(suites: Iterable[tuple[str, Suite]], *, extension: Mapping[str, str] | None = None,
              wheels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the kit saw, computed from the outcomes and from nothing else.

    Args:
        suites: What was checked, each with the address of the plugin; a plugin may have several.
        extension: Name and version of what was tested.
        wheels: Digests (`sha256:…`) of the wheels that were tested, by file name.
    """
    plugins: dict[str, list[Outcome]] = {}
    unchecked: dict[str, list[Rule]] = {}
    for plugin, suite in suites:
        plugins.setdefault(plugin, []).extend(suite.outcomes)
        unchecked.setdefault(plugin, []).extend(suite.unchecked())
    judged = [_plugin(plugin, outcomes, unchecked[plugin]) for plugin, outcomes in plugins.items()]
    return {
        "type": SCORECARD,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sdk_version": __version__,
        "contract_digest": frozen()["digest"],
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}".lower(),
        "extension": dict(extension or {}),
        "wheels": dict(wheels or {}),
        "level": min((each["level"] for each in judged), key=_height, default="none"),
        "plugins": judged,
        "checks": [check for plugin, outcomes in plugins.items() for check in _checks(plugin, outcomes)],
    }


def level_of(outcomes: Iterable[Outcome], unchecked: Iterable[Rule] = ()) -> str:
    """The highest level all of whose rules, and of those below it, are kept: none, bronze, silver, gold, platinum.

    An exempt rule does not count against bronze, silver and gold, because its reason is shown; platinum has none.
    A rule that was not checked is not known to be kept.
    """
    left = {rule.level for rule in unchecked}
    kept = list(outcomes)
    reached = "none"
    for level in LEVELS:
        if not kept or level in left or any(outcome.bad for outcome in kept if outcome.rule.level == level):
            return reached
        reached = level
    whole = {"in-process", "subprocess"} <= {outcome.host for outcome in kept}
    return "platinum" if whole and not any(outcome.kind == "exempt" for outcome in kept) else reached


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a report so that it is whole or not there."""
    draft = path.with_name(f".{path.name}.draft")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)


def junit(components: Mapping[str, Sequence[tuple[Outcome, float]]]) -> bytes:
    """JUnit XML with one test case for each rule in each host.

    Args:
        components: Outcomes with their seconds, by address of the plugin.
    """
    root = ElementTree.Element("testsuites")
    for plugin, outcomes in components.items():
        suite = ElementTree.SubElement(
            root, "testsuite", name=plugin, tests=str(len(outcomes)), errors="0",
            failures=str(sum(each.bad for each, _ in outcomes)),
            skipped=str(sum(each.kind in ("exempt", "not-applicable") for each, _ in outcomes)),
            time=f"{sum(seconds for _, seconds in outcomes):.3f}")
        for outcome, seconds in outcomes:
            case = ElementTree.SubElement(suite, "testcase", classname=plugin, time=f"{seconds:.3f}",
                                          name=f"{outcome.rule.name}[{outcome.host}]")
            if outcome.bad:
                ElementTree.SubElement(case, "failure", message=outcome.rule.title).text = _legal(outcome.explain())
            elif outcome.kind != "passed":
                ElementTree.SubElement(case, "skipped", message=_legal(outcome.text))
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _checks(plugin: str, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One entry for each rule: the worst that came of it in any host."""
    checks: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        check = checks.setdefault(outcome.rule.id, {
            "name": f"{outcome.rule.id} {outcome.rule.title}", "id": outcome.rule.id, "plugin": plugin,
            "level": outcome.rule.level, "outcome": "", "hosts": {}, "reason": ""})
        check["hosts"][outcome.host] = min(outcome.kind, check["hosts"].get(outcome.host, outcome.kind),
                                           key=_WORST.index)
        if outcome.kind != "passed":
            check["reason"] = outcome.text
    for check in checks.values():
        check["outcome"] = min(check["hosts"].values(), key=_WORST.index)
    return list(checks.values())


def _plugin(plugin: str, outcomes: Sequence[Outcome], unchecked: Sequence[Rule]) -> dict[str, Any]:
    kinds = [check["outcome"] for check in _checks(plugin, outcomes)]
    return {
        "plugin": plugin,
        "level": level_of(outcomes, unchecked),
        "hosts": list(dict.fromkeys(outcome.host for outcome in outcomes)),
        "passed": kinds.count("passed"),
        "failed": kinds.count("failed") + kinds.count("stale"),
        "exempt": kinds.count("exempt"),
        "not_applicable": kinds.count("not-applicable"),
        "unchecked": len({rule.id for rule in unchecked}),
    }


def _height(level: str) -> int:
    return ("none", *LEVELS, "platinum").index(level)


def _legal(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c if c in "\n\t" or (ord(c) >= 32 and not 0xD800 <= ord(c) <= 0xDFFF and c not in "￾￿") else "�"
                   for c in text)
