"""Bringing inputs to where the workload finds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fuseml_process.directories import WorkDirectory, write_json
from fuseml_process.shim.failures import StepFailed
from fuseml_sdk import fetching
from fuseml_sdk.errors import PluginError

#: Location schemes that can be staged, preferred first.
SCHEMES = (*fetching.SCHEMES, "oci")


class Stager:
    """Stages the contents and inputs of one workload.

    Args:
        directory: Of the workload.
        cache: Where contents of runnables are kept between workloads.
        network: Environment variables that say how to reach the network.
    """

    def __init__(self, directory: WorkDirectory, cache: Path, network: Mapping[str, str]) -> None:
        self._directory, self._cache, self._network = directory, cache, network
        self.warnings: list[str] = []

    def contents(self, location: dict[str, Any] | None) -> Path:
        """The directory of the runnable's own files; an empty one if it has none."""
        if location is None:
            empty = self._directory.path / "runnable"
            empty.mkdir(exist_ok=True)
            return empty
        return self._fetch(location, self._directory.path / "runnable")

    def inputs(self, inputs: list[dict[str, Any]]) -> dict[str, Path]:
        """Stage every input and write its INFO file; returns the path of each.

        Raises:
            StepFailed: Something is missing or cannot be fetched; the message names the input.
        """
        staged = {}
        for item in inputs:
            target = self._directory.input(item["name"])
            try:
                staged[item["name"]] = self._fetch(item["location"], target, private=item["kind"] == "codeset")
            except StepFailed as error:
                raise StepFailed(error.reason, f"input {item['name']}: {error.message}") from None
            facts = {"kind": item["kind"], "digest": item["digest"], **item["metadata"]}
            write_json(self._directory.info(f"input-{item['name']}"), facts)
        return staged

    def _fetch(self, location: dict[str, Any], target: Path, *, private: bool = False) -> Path:
        uri, headers = location["uri"], location.get("headers") or {}
        if urlsplit(uri).scheme == "oci":
            from fuseml_process.shim.oci import fetch_runnable

            return fetch_runnable(uri, self._cache / "runnables", {**headers})
        try:
            fetched = fetching.fetch(uri, target, headers=headers, private=private, environment=self._network)
        except PluginError as error:
            raise StepFailed("Staging", str(error)) from None
        self.warnings += fetched.warnings
        return fetched.path
