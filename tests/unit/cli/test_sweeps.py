"""Reading the grid of a sweep, and comparing its trials."""

from __future__ import annotations

import click
import pytest

from fuseml_core.cli.sweeps import columns, compare, metrics_of, read_grid


def trial(number: int, alpha: float, state: str = "succeeded", **metrics: float) -> dict[str, object]:
    return {"name": f"t/{number}", "state": state,
            "parameters": [{"name": "alpha", "value": alpha}, {"name": "seed", "value": 7}],
            "outputs": [{"name": "model", "short": f"model://p/{number}"}] if metrics else [],
            "steps": [{"metrics": []}, {"metrics": [{"key": k, "value": v} for k, v in metrics.items()]}]}


TRIALS = [trial(1, 0.1, **{"r2": 0.3, "val.loss": 2.0}), trial(2, 0.5, state="failed"), trial(3, 0.9, r2=0.4)]


def test_r91_values_are_separated_by_commas() -> None:
    assert read_grid({"alpha": "0.1, 0.5,,0.1", "solver": "lbfgs"}) == {"alpha": ["0.1", "0.5"], "solver": ["lbfgs"]}


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_a_parameter_without_values_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="--param alpha has no values"):
        read_grid({"alpha": text})


def test_of_a_series_the_last_value_counts() -> None:
    run = {"steps": [{"metrics": [{"key": "loss", "value": 3.0}, {"key": "loss", "value": 1.0}]}]}
    assert metrics_of(run) == {"loss": 1.0}


@pytest.mark.parametrize(("metric", "lowest", "order"), [
    (None, False, ["t/1", "t/2", "t/3"]), ("r2", False, ["t/3", "t/1", "t/2"]), ("r2", True, ["t/1", "t/3", "t/2"]),
    ("nothing", False, ["t/1", "t/2", "t/3"])])
def test_r91_trials_are_ordered_and_those_without_the_metric_come_last(metric: str | None, lowest: bool,
                                                                       order: list[str]) -> None:
    assert [row["run"] for row in compare(TRIALS, ["alpha"], metric, lowest=lowest)] == order


def test_the_table_has_what_was_varied_and_the_deciding_metric_first() -> None:
    headers, cells = columns(compare(TRIALS, ["alpha"], "val.loss", lowest=True), "val.loss")
    assert headers == ["Run", "State", "alpha", "val.loss", "r2", "Outputs"]
    assert cells[0] == ["t/1", "succeeded", "0.1", "2", "0.3", ["model://p/1"]]
    assert cells[1] == ["t/2", "failed", "0.5", "-", "-", "-"]
