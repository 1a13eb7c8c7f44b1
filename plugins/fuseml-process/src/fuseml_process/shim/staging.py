"""Bringing inputs to where the workload finds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fuseml_process.directories import WorkDirectory, write_json
from fuseml_process.shim.failures import StepFailed

#: Location schemes that can be staged, preferred first.
SCHEMES = ("file", "git+file", "git+http", "git+https", "oci")


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
        parts = urlsplit(uri)
        if parts.scheme == "file":
            return self._file(Path(unquote(parts.path)), target, private)
        if parts.scheme == "oci":
            from fuseml_process.shim.oci import fetch_runnable

            return fetch_runnable(uri, self._cache / "runnables", {**headers})
        if parts.scheme in ("git+file", "git+http", "git+https"):
            self.warnings += self._git(uri, target, headers)
            return target
        raise StepFailed("Staging", f"this agent cannot fetch {parts.scheme}: locations; "
                         f"it can fetch {', '.join(SCHEMES)}")

    def _git(self, uri: str, target: Path, headers: Mapping[str, str]) -> list[str]:
        from fuseml_process.shim.git import Checkout

        parts = urlsplit(uri.removeprefix("git+"))
        commit = (parse_qs(parts.query).get("commit") or [""])[0]
        checkout = Checkout(self._directory.path / "tmp", self._network)
        if parts.scheme == "file":
            return checkout.from_repository(Path(unquote(parts.path)), commit, target)
        return checkout.from_url(parts._replace(query="", fragment="").geturl(), commit, target, headers)

    @staticmethod
    def _file(source: Path, target: Path, private: bool) -> Path:
        """Contents that lie on this machine: given in place, read-only by agreement, unless private."""
        if not source.exists():
            raise StepFailed("Staging", f"{source} does not exist")
        if not private:
            return source
        import shutil  # slow to import, seldom needed

        shutil.copytree(source, target, symlinks=True, copy_function=_copy)
        return target


def _copy(source: str, target: str) -> None:
    if not Path(source).is_symlink() and not Path(source).is_file():
        raise StepFailed("Staging", f"{source} is neither file nor directory")
    import shutil

    shutil.copy2(source, target, follow_symlinks=False)
