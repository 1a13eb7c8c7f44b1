"""Installed extensions and the server speak of their contract."""

from __future__ import annotations

from fuseml_sdk.contract import digest


def test_r133_installed_plugins_are_held_against_the_server(shared):
    """`mlflow` and `kserve` were built with the SDK of this server, and the environment of each says so."""
    found = {each["component"]: each for each in shared.json("plugin", "contract", "diff")}
    assert {"store/git", "store/files", "store/oci", "agent/process", "builder/mlflow"} <= found.keys()
    for component, each in found.items():
        assert each["verdict"] == "compatible", component
        assert each["agreement"]["theirs"]["digest"] == digest(), component
    assert [each["component"] for each in shared.json("plugin", "contract", "diff", "mlflow")] == ["builder/mlflow"]
    assert "the same on both sides" in shared("plugin", "contract", "diff", "mlflow", "--exit-code").out
