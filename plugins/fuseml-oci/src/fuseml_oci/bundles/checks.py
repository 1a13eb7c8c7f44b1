"""What must agree between the parts of a bundle, checked before it is made."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable

import jsonschema
from jsonschema.validators import validator_for

from fuseml_oci.bundles.documents import Document
from fuseml_oci.bundles.wheels import Wheel
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import NAME, ExtensionManifest
from fuseml_sdk.types import EnvironmentSpec, RunnableDescriptor
from fuseml_sdk.versions import parse_range

SOURCE = "extension.toml"
_PLACEHOLDER = re.compile(r"\{(input|output|parameter|python)\.([^{}]*)\}")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?\s*(==|@|;|$)")


def check_manifest(manifest: ExtensionManifest) -> None:
    """Check ranges, the configuration schema and the names of dependencies and components.

    Raises:
        InvalidInput: Something is wrong; the message names the field.
    """
    _check_range(manifest.requires_fuseml, "requires_fuseml")
    for field, dependencies in (("dependencies", manifest.dependencies), ("conflicts", manifest.conflicts)):
        for dependency in dependencies:
            _check_range(dependency.range, f"{field}: {dependency.name}")
            if not NAME.match(dependency.name) or dependency.name == manifest.name:
                raise InvalidInput(f"{SOURCE}: {field}: {dependency.name!r} is not the name of another extension")
        _refuse_twins(field, [dependency.name for dependency in dependencies])
    for family in ("store", "agent", "builder"):
        _refuse_twins(f"components ({family})", [c.name for c in manifest.components if c.family == family])
    if any(component.plugin for component in manifest.components) and manifest.environment is None:
        raise InvalidInput(f"{SOURCE}: environment: an extension with a `plugin` needs an [environment]",
                           hint="Name the project folder of the plugin in `wheels`.")
    if manifest.environment is not None:
        _check_range(manifest.environment.python, "environment.python")
    if manifest.config_schema:
        _check_schema(manifest.config_schema)


def check_components(manifest: ExtensionManifest, wheels: list[Wheel], lock: str) -> None:
    """Check that every plugin's module lies in a wheel of the bundle, and the SDK in a wheel or the lock.

    Raises:
        InvalidInput: A module or the SDK is missing.
    """
    names = {name for wheel in wheels for name in wheel.names()}
    plugins = [component for component in manifest.components if component.plugin]
    for component in plugins:
        path = component.plugin.partition(":")[0].replace(".", "/")
        if not {f"{path}.py", f"{path}/__init__.py"} & names:
            near = difflib.get_close_matches(path, {name.removesuffix(".py").removesuffix("/__init__") for name in names
                                                    if name.endswith(".py")}, 1)
            raise InvalidInput(f"{SOURCE}: components: {component.name}: plugin: no wheel of the bundle holds the "
                               f"module of {component.plugin!r}", hint="Add its project folder to environment.wheels"
                               + (f", or name the module {near[0].replace('/', '.')!r}." if near else "."))
    carried = {wheel.distribution for wheel in wheels}
    if plugins and "fuseml-sdk" not in carried and not re.search(r"(?m)^fuseml[-_.]sdk\b", lock):
        raise InvalidInput(f"{SOURCE}: environment: wheels: fuseml-sdk is missing, and the plugins need it",
                           hint="Add the folder or wheel of the fuseml-sdk that the extension was tested with.")


def check_lock(text: str, file: str) -> None:
    """Check that a lock holds hashed requirements only: no index, no URL, so that it works with anybody's index.

    Raises:
        InvalidInput: A line is something else; the message names its number.
    """
    lines = text.replace("\\\n", " \n").splitlines()
    hashed, current = True, 0
    for number, raw in enumerate([*lines, "end==0 --hash"], start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("--hash="):
            hashed = True
            continue
        if not hashed:
            raise InvalidInput(f"{file}: line {current}: the requirement has no --hash",
                               hint="Make the lock with `uv pip compile --universal --generate-hashes`.")
        if not _REQUIREMENT.match(line) or "://" in line.partition("#")[0]:
            raise InvalidInput(f"{file}: line {number}: {line.split()[0]!r} is not a pinned requirement",
                               hint="Locks name no index, URL or option, so that they work with any index.")
        hashed, current = "--hash" in line, number


def check_runnables(runnables: list[Document[RunnableDescriptor]], paths: Collection[str]) -> None:
    """Check commands and environments of runnables against what they declare and what the bundle holds.

    Raises:
        InvalidInput: A placeholder, file or input is not there; the message names file and field.
    """
    for document in runnables:
        runnable, file = document.model, document.file
        if not NAME.match(runnable.name):
            raise InvalidInput(f"{file}: name: {runnable.name!r} is not a name: use lower-case letters, digits and "
                               "single hyphens")
        declared = {"input": [i.name for i in runnable.inputs], "output": [o.name for o in runnable.outputs],
                    "parameter": [p.name for p in runnable.parameters], "python": list(runnable.environments)}
        for argument in [*runnable.command, *runnable.env.values()]:
            for what, name in _PLACEHOLDER.findall(argument):
                if name not in declared[what] and not (what == "parameter" and runnable.open_parameters):
                    raise InvalidInput(f"{file}: command: {{{what}.{name}}}: there is no {_called(what)} {name!r}")
        _check_environment(document, "environment", runnable.environment, paths)
        for name, environment in runnable.environments.items():
            _check_environment(document, f"environments.{name}", environment, paths)


def _called(what: str) -> str:
    return "environment" if what == "python" else what


def _check_environment(document: Document[RunnableDescriptor], field: str, environment: EnvironmentSpec,
                       paths: Collection[str]) -> None:
    file = document.file
    if environment.lock and environment.lock not in paths:
        raise InvalidInput(f"{file}: {field}.lock: the bundle has no file {environment.lock!r}")
    if environment.wheels and not any(path.startswith(environment.wheels.rstrip("/") + "/") for path in paths):
        raise InvalidInput(f"{file}: {field}.wheels: the bundle has no folder {environment.wheels!r}")
    if environment.from_input and environment.from_input not in {i.name for i in document.model.inputs}:
        raise InvalidInput(f"{file}: {field}.from_input: there is no input {environment.from_input!r}")


def _check_range(text: str, field: str) -> None:
    try:
        parse_range(text)
    except InvalidInput as error:
        raise InvalidInput(f"{SOURCE}: {field}: {error.message}", hint=error.hint) from None


def _check_schema(schema: dict[str, object]) -> None:
    try:
        validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)
    except jsonschema.SchemaError as error:
        where = ".".join(str(part) for part in error.absolute_path) or "document"
        raise InvalidInput(f"{SOURCE}: config_schema: {where}: {error.message}") from None


def _refuse_twins(field: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidInput(f"{SOURCE}: {field}: {name!r} is listed twice")
        seen.add(name)
