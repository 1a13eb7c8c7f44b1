"""The one command: everything from nothing to a prediction, and again."""

from __future__ import annotations

import json
import re

import pytest


def test_r183_the_quickstart_needs_a_checkout(fuseml, tmp_path, monkeypatch):
    """Away from the repository there is nothing to build; the message says what to do."""
    from fuseml_core.cli import quickstart
    from fuseml_core.domain.errors import Invalid

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "__file__", str(tmp_path / "lib" / "fuseml_core" / "cli" / "quickstart.py"))
    with pytest.raises(Invalid, match="bundles and examples"):
        quickstart.repository()


def test_the_quickstart_refuses_a_remote_server(fuseml):
    """It starts, builds and installs on this machine; doing so elsewhere would surprise."""
    fuseml.environment["FUSEML_URL"] = "http://127.0.0.1:9"
    refused = fuseml("quickstart", code=2)
    assert "FUSEML_URL" in refused.err
    del fuseml.environment["FUSEML_URL"]


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_r174_r175_r176_r177_r178_r183_r186_the_quickstart_works_and_can_be_repeated(fuseml):
    """It prints every command, the results and a prediction; the second time there is nothing new."""
    first = fuseml("quickstart", timeout=1500)

    for command in ("project create quickstart", "project set quickstart",
                    "pipeline add mlflow-training --name training-pipeline --input 'mlflow_code=code://*'",
                    "pipeline add kserve-serving --name serving-pipeline --input 'model=model://*'",
                    "codeset push examples/diabetes --name diabetes --wait",
                    "pipeline results show --current-code --recursive"):
        assert f"$ fuseml {command}" in first.out
    assert re.search(r"^training-pipeline/1 +mlflow_code: code://quickstart/diabetes/[0-9a-f]{7}", first.out, re.MULTILINE)
    assert "predictor: sklearn (default)" in first.out
    prediction = next(line for line in first.out.splitlines() if line.startswith("{"))
    assert json.loads(prediction)["predictions"]
    assert "Stop        fuseml server stop" in first.out

    runs = [run["name"] for run in fuseml.json("run", "list", "--project", "quickstart")]
    second = fuseml("quickstart", timeout=600)
    assert "Project quickstart exists already." in second.out
    assert "unchanged: no new version" in second.out
    assert "predictor: sklearn (default)" in second.out
    assert [run["name"] for run in fuseml.json("run", "list", "--project", "quickstart")] == runs
