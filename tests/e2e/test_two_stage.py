"""The example of two stages: its README's commands work, and a data set reaches a program in every way there is."""

from __future__ import annotations

import functools
import http.server
import re
import shlex
import shutil
import threading
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/two-stage"


def _follow_readme(fuseml, blocks: int) -> str:
    """Run the commands of the first console blocks of the README; returns what the last one printed."""
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    printed = ""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[:blocks]:
        for command in block.splitlines():
            printed = fuseml(*shlex.split(command)[1:]).out
    return printed


def _push(fuseml, folder: Path, row: str) -> str:
    """Add a row to the measurements, push and wait."""
    with (folder / "measurements.csv").open("a") as table:
        table.write(f"{row}\n")
    return fuseml("codeset", "push", str(folder), "--name", "measurements", "--wait", "--project", "stages").out


def test_r90_r95_one_pipeline_makes_the_data_set_that_triggers_the_other(numbers, tmp_path):
    """The commands of the README; then new measurements, and measurements that change nothing."""
    table = _follow_readme(numbers, 1)

    (data,) = numbers.json("dataset", "list", "--project", "stages")
    assert (data["name"], data["type"], data["metadata"]["rows"]) == ("measurements", "csv", 6)
    assert (data["producer"]["run"], data["producer"]["step"]) == ("prepare/1", "prepare")
    assert re.search(rf"^prepare/1 +code: code://stages/measurements/[0-9a-f]{{7}} +dataset: {data['short']}$", table, re.M)
    assert re.search(rf"^fit/1 +dataset: {data['short']} +model: model://stages/[0-9a-f]{{12}}$", table, re.M)
    (model,) = numbers.json("model", "list", "--project", "stages")
    assert model["type"] == "line"
    assert model["metadata"]["metrics"]["mean_squared_error"] < 0.1

    folder = Path(shutil.copytree(EXAMPLE / "first", tmp_path / "first"))
    more = _push(numbers, folder, "9,18.9")
    assert "fit/2 succeeded" in more
    same = _push(numbers, folder, "10,")
    assert "prepare/3 succeeded" in same
    assert "came out again, so nothing follows from it" in same
    assert {r["name"] for r in numbers.json("run", "list", "--project", "stages")} == {
        "prepare/1", "prepare/2", "prepare/3", "fit/1", "fit/2"}


@pytest.fixture
def website(tmp_path):
    """A folder and the URL it is served at."""
    folder = tmp_path / "www"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_r90_r100_a_data_set_or_a_url_is_given_to_an_mlflow_project(shared, tmp_path, website):
    """By wildcard, by hand as an input, by hand as a parameter, and as a URL; lineage tells which."""
    table = _follow_readme(shared, 2)
    (first,) = shared.json("dataset", "list", "--project", "stages")
    assert len(re.findall(rf"^polynomial/\d +(mlflow_code|dataset): .*\n(?: .*\n)*? *dataset: {first['short']}|"
                          rf"^polynomial/\d +dataset: {first['short']}", table, re.M)) == 2
    folder, url = website
    (folder / "squares.csv").write_text("x,y\n0,0\n1,1\n2,4\n3,9\n4,16\n")
    pushed = _push(shared, Path(shutil.copytree(EXAMPLE / "first", tmp_path / "first")), "9,-500")
    assert "polynomial/3 succeeded" in pushed

    def started(*arguments: str):
        run = shared.json("run", "start", "polynomial", *arguments, "--wait", "--project", "stages")
        (step,) = (s for s in run["steps"] if s["name"] == "train")
        dataset = next(i["address"] for i in run["inputs"] if i["name"] == "dataset")
        return run["state"], dataset, {m["key"]: m["value"] for m in step["metrics"]}["r2"]

    newest = shared.json("dataset", "list", "--project", "stages")[0]
    assert newest["address"] != first["address"]
    assert started("--input", f"dataset={first['address']}")[:2] == ("succeeded", first["address"])
    assert started("--param", f"data={first['short']}")[:2] == ("succeeded", first["address"])
    assert started("--param", "data=dataset://measurements")[:2] == ("succeeded", newest["address"])
    assert started("--param", f"data={url}/squares.csv", "--param", "degree=2")[2] == pytest.approx(1.0)
    refused = shared("run", "start", "polynomial", "--param", "data=dataset://nothing", "--project", "stages", code=None)
    assert refused.code != 0
    assert "nothing" in refused.err
