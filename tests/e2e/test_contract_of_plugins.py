"""Installed extensions and the server speak of their contract."""

from __future__ import annotations

from fuseml_sdk.contract import digest


def test_r133_installed_plugins_are_held_against_the_server(shared):
    """`mlflow` and `kserve` were built with the SDK of this server, and the environment of each says so."""
    found = {each["extension"]: each for each in shared.json("plugin", "contract", "diff")}
    assert {"git", "files", "oci", "process", "mlflow", "kserve"} <= found.keys()
    for name, each in found.items():
        assert each["verdict"] == "compatible", name
        assert each["agreement"]["theirs"]["digest"] == digest(), name
    assert {each["component"] for each in shared.json("plugin", "contract", "diff", "mlflow")} == {
        found["mlflow"]["component"]}
    table = shared("plugin", "contract", "diff", "mlflow", "--exit-code").out
    assert "the same on both sides" in table
