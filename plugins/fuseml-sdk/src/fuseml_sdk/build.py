"""The build step: `python -m fuseml_sdk.build module:attribute` runs a builder inside a job.

It reads what a workload agent gives every job and leaves one directory with `runnable.json` per output:

- `FUSEML_INPUT_CODE`, `FUSEML_INPUT_CODE_INFO`: the checked-out codeset, and its descriptor;
- `FUSEML_CONFIG`, `FUSEML_PARAMETER_<NAME>`: parameters;
- `FUSEML_OUTPUT_<NAME>`, `FUSEML_OUTPUT_<NAME>_INFO`: where the runnable of that name and the facts about it go.

Exit code 2 means that the codeset is wrong: standard error says what and where. 1 means that the build failed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fuseml_sdk import loading
from fuseml_sdk.contract import operations
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, PluginError
from fuseml_sdk.types import BuildRequest, BuildResult, BuiltRunnable

#: File that makes a directory a runnable's contents.
DESCRIPTOR_FILE = "runnable.json"
_PREFIX = "FUSEML_PARAMETER_"


def main(arguments: list[str], environ: Mapping[str, str] | None = None) -> int:
    """Run the builder that `arguments` names. Returns the exit code: 0, 1 (failed) or 2 (the codeset is wrong)."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m fuseml_sdk.build MODULE:ATTRIBUTE", file=sys.stderr)
        return 2
    env = os.environ if environ is None else environ
    try:
        with tempfile.TemporaryDirectory(prefix="fuseml-build-", dir=env.get("TMPDIR") or None) as temporary:
            _build(arguments[0], env, Path(temporary))
    except InvalidInput as error:
        print(f"The codeset cannot be built: {error}", file=sys.stderr)
        return 2
    except PluginError as error:
        print(f"The build failed: {error}", file=sys.stderr)
        return 1
    return 0


def _build(address: str, env: Mapping[str, str], temporary: Path) -> None:
    request = _request(env, temporary / "output")
    Path(request.output).mkdir()
    manager = loading.manager_for(loading.load(address))
    if manager.hook.fuseml_configure.get_hookimpls():
        state = temporary / "state"
        state.mkdir()
        loading.call(manager, "fuseml_configure", {"config": {}, "state_dir": str(state)})
    operation = operations()["builder_build"]
    result: BuildResult = operation.check_result(loading.call(manager, operation.hook, {"request": request}))
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for built in result.runnables:
        _deliver(built, request, env)


def _request(env: Mapping[str, str], output: Path) -> BuildRequest:
    directory = env.get("FUSEML_INPUT_CODE", "")
    if not Path(directory).is_dir() or not directory:
        raise InvalidInput("FUSEML_INPUT_CODE does not name the directory of a codeset",
                           hint="The runnable of a builder needs an input `code` of kind codeset.")
    info = _read_json(env.get("FUSEML_INPUT_CODE_INFO", ""))
    return BuildRequest(
        project=str(info.get("project") or env.get("FUSEML_PROJECT", "")),
        name=str(info.get("name") or Path(directory).name),
        digest=str(info.get("digest") or ""),
        directory=str(Path(directory).absolute()),
        output=str(output),
        parameters=_parameters(env),
    )


def _parameters(env: Mapping[str, str]) -> dict[str, Any]:
    """Parameters from variables, with names in lower case, and from the config file, which keeps names and types."""
    given: dict[str, Any] = {name.removeprefix(_PREFIX).lower(): value for name, value in env.items()
                             if name.startswith(_PREFIX)}
    return {**given, **_read_json(env.get("FUSEML_CONFIG", ""))}


def _deliver(built: BuiltRunnable, request: BuildRequest, env: Mapping[str, str]) -> None:
    variable = f"FUSEML_OUTPUT_{built.output.upper().replace('-', '_').replace('.', '_')}"
    target = env.get(variable, "")
    if not target:
        print(f"the builder made {built.output!r}, which this step does not ask for", file=sys.stderr)
        return
    destination = Path(target)
    destination.mkdir(parents=True, exist_ok=True)
    source = Path(request.output) / built.output
    for entry in sorted(source.iterdir()) if source.is_dir() else ():
        shutil.move(entry, destination / entry.name)
    descriptor = built.descriptor.model_dump(mode="json", by_alias=True)
    _write_json(destination / DESCRIPTOR_FILE, descriptor)
    if env.get(f"{variable}_INFO"):
        _write_json(Path(env[f"{variable}_INFO"]), {
            "name": f"{request.name}-{built.output}",
            "type": built.descriptor.kind,
            "labels": {},
            "metadata": {**built.descriptor.metadata, "code": {"project": request.project, "name": request.name,
                                                               "digest": request.digest}},
        })


def _read_json(name: str) -> dict[str, Any]:
    if not name or not Path(name).is_file():
        return {}
    try:
        document = json.loads(Path(name).read_bytes())
    except ValueError as error:
        raise InvalidInput(f"{name} is not JSON: {error}") from None
    return document if isinstance(document, dict) else {}


def _write_json(path: Path, document: Any) -> None:
    """Write canonical JSON, so that the same build gives the same bytes and digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    write_durably(path, text.encode(), mode=0o644)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
