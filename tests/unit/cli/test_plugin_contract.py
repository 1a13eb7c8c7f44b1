"""`fuseml plugin contract`: what it prints, and when it ends with an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fuseml_sdk.compatibility import current, releases
from fuseml_sdk.documentation import hook_texts

Api = Any
Run = Any
SAME = {"extension": "shelf", "version": "1.0.0", "component": "store/shelf", "hosting": "subprocess", "state": "ready",
        "started": True, "changes": [], "verdict": "compatible",
        "agreement": {"state": "same", "accepted": True, "theirs": {"sdk_version": "0.1.0"}, "deprecations": [],
                      "reason": "the same", "fix": ""}}
OLD = {**SAME, "extension": "past", "verdict": "incompatible",
       "changes": [{"verdict": "incompatible", "place": "store_old", "what": "removed"}],
       "agreement": {"state": "too-old", "accepted": False, "theirs": {"sdk_version": "0.0.1"},
                     "deprecations": ["the hook `a` is deprecated"], "reason": "it speaks protocol 0", "fix": "Upgrade."}}


def test_the_contract_is_shown_with_every_hook(run: Run) -> None:
    code, out, err = run("plugin", "contract", "show")
    assert (code, err) == (0, "")
    assert out.startswith(f"Protocol 1, SDK {current()['sdk_version']}, sha256:")
    assert all(f"\n{hook} " in out for hook in hook_texts())


@pytest.mark.parametrize("hook", hook_texts())
def test_a_hook_is_shown_with_everything_that_is_said_of_it(run: Run, hook: str) -> None:
    code, out, _ = run("plugin", "contract", "show", hook)
    text = hook_texts()[hook]
    assert code == 0
    assert out.startswith(text.signature)
    assert all(meaning in out for meaning in (*text.arguments.values(), text.returns, *text.raises.values()))
    assert text.code in out
    assert "Deadline:" in out


def test_a_hook_as_data(run: Run) -> None:
    shown = json.loads(run("plugin", "contract", "show", "store_register", "--output", "json")[1])
    assert (shown["hook"], shown["required"], shown["idempotent"]) == ("store_register", False, True)
    assert shown["deadline_seconds"] == 3600.0
    assert shown["raises"].keys() == {"InvalidInput", "NotFound", "Unsupported"}
    assert shown["deprecated"] == []


def test_a_hook_that_there_is_not(run: Run) -> None:
    code, _, err = run("plugin", "contract", "show", "store_dance")
    assert code == 3
    assert "there is no hook 'store_dance'" in err
    assert "fuseml plugin contract show" in err


def test_what_is_shown_can_be_compared(run: Run, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(run("plugin", "contract", "show", "-o", "json")[1])
    assert run("plugin", "contract", "diff", str(old)) == (0, "", "The contracts do not differ.\n")
    document = json.loads(old.read_text())
    del document["hooks"]["store_ui_url"]
    new = tmp_path / "new.json"
    new.write_text(json.dumps(document))
    code, out, _ = run("plugin", "contract", "diff", str(old), str(new))
    assert code == 0
    assert "incompatible   store_ui_url   hook    removed" in out
    assert run("plugin", "contract", "diff", str(old), str(new), "--exit-code")[0] == 1
    assert run("plugin", "contract", "diff", str(new), "--exit-code")[0] == 0
    found = json.loads(run("plugin", "contract", "diff", str(new), "-o", "json")[1])
    assert (found["verdict"], [change["place"] for change in found["changes"]]) == ("compatible", ["store_ui_url"])


def test_released_contracts_are_known_by_version(run: Run) -> None:
    for version in releases():
        assert run("plugin", "contract", "diff", version, version) == (0, "", "The contracts do not differ.\n")


def test_what_cannot_be_read_is_said(run: Run, tmp_path: Path) -> None:
    code, _, err = run("plugin", "contract", "diff", str(tmp_path / "absent.json"))
    assert code == 3
    assert "there is no" in err
    (tmp_path / "bad.json").write_text("{}")
    code, _, err = run("plugin", "contract", "diff", str(tmp_path / "bad.json"))
    assert code == 2
    assert "is not a contract" in err


def test_installed_plugins_are_held_against_the_server(api: Api, run: Run) -> None:
    api.on("GET /contract/plugins", [SAME, OLD])
    code, out, _ = run("plugin", "contract", "diff")
    assert code == 0
    assert "the same on both sides" in out
    for told in ("past 1.0.0", "0.0.1", "too-old", "it speaks protocol 0", "the hook `a` is deprecated",
                 "incompatible: store_old: removed", "Upgrade."):
        assert told in out
    assert run("plugin", "contract", "diff", "--exit-code")[0] == 1
    api.on("GET /contract/plugins", [SAME])
    assert run("plugin", "contract", "diff", "--exit-code")[0] == 0


def test_one_extension_is_asked_for_by_name(api: Api, run: Run) -> None:
    api.on("GET /contract/plugins", [{**SAME, "agreement": None}])
    code, out, _ = run("plugin", "contract", "diff", "shelf")
    assert code == 0
    assert "it says so when it is started" in out
    assert api.asked == [("GET /contract/plugins?extension=shelf", None)]


def test_no_plugins(api: Api, run: Run) -> None:
    api.on("GET /contract/plugins", [])
    assert run("plugin", "contract", "diff") == (0, "", "There are no plugins.\n")
