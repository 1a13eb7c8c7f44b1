"""The contract as data: one operation for each hook, its JSON Schemas and the digest of them all.

Everything that puts a hook on the wire (the serve runtime, the proxies of the host, the schema files) is generated
from here, and this is generated from the hookspecs, so a hook is written down once.

`python -m fuseml_sdk.contract --write` writes the schemas under `schemas/v1/`; `--release` freezes them all for ever as
the contract of this version of the SDK, with which later ones are compared (:mod:`fuseml_sdk.compatibility`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NotRequired, Required, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypedDict

from fuseml_sdk.errors import BY_TYPE, Internal, InvalidInput
from fuseml_sdk.hookspecs import FAMILIES, IDEMPOTENT, PROTOCOL, REQUIRED

#: Folder with the frozen schemas of this protocol version.
SCHEMAS = Path(__file__).parent / "schemas" / f"v{PROTOCOL}"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Parameter:
    """One named argument of a hook.

    Attributes:
        name: As in the hookspec.
        annotation: Its type: a pydantic model, a scalar, a list or a dict.
        default: What a caller may leave out; `inspect.Parameter.empty` if it may not.
    """

    name: str
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether a caller must give it."""
        return self.default is inspect.Parameter.empty

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Validates and serialises values of this parameter."""
        return TypeAdapter(self.annotation)


@dataclass(frozen=True)
class Operation:
    """One hook as it travels: parameters, result and what may be done about a lost answer.

    Attributes:
        hook: Name in the hookspecs, such as `store_get`.
        family: store, agent, builder, or fuseml for the life cycle.
        parameters: In the order of the hookspec.
        result: Type of the result; `NoneType` for hooks that return nothing.
        idempotent: Whether the call may be repeated after a lost connection.
        required: Whether a plugin of the family must implement it.
    """

    hook: str
    family: str
    parameters: tuple[Parameter, ...]
    result: Any
    idempotent: bool
    required: bool = False

    @property
    def route(self) -> str:
        """Path of the hook on the wire."""
        return f"/v{PROTOCOL}/hooks/{self.hook}"

    @property
    def returns_nothing(self) -> bool:
        """Whether the hook is called for its effect only."""
        return self.result is type(None)

    @cached_property
    def arguments_adapter(self) -> TypeAdapter[Any]:
        """Validates and serialises all arguments at once, as an object of named values."""
        make: Any = TypedDict  # A type checker only understands the literal form.
        shape = make(f"{self.hook}_arguments", {
            p.name: Required[p.annotation] if p.required else NotRequired[p.annotation] for p in self.parameters})
        shape.__pydantic_config__ = ConfigDict(extra="ignore")
        return TypeAdapter(shape)

    @cached_property
    def result_adapter(self) -> TypeAdapter[Any]:
        """Validates and serialises the result."""
        return TypeAdapter(self.result)

    def check_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Validate arguments of a call in the same process and fill in defaults.

        Raises:
            InvalidInput: An argument is missing or of the wrong type; the message names hook and argument.
        """
        try:
            return self._complete(self.arguments_adapter.validate_python(dict(arguments), extra="ignore"))
        except ValidationError as error:
            raise InvalidInput(_explain(error, self.hook)) from None

    def encode_arguments(self, arguments: Mapping[str, Any]) -> bytes:
        """Turn arguments into the JSON object that travels.

        Raises:
            InvalidInput: A value cannot be JSON, such as an object hidden in `metadata`.
        """
        try:
            return self.arguments_adapter.dump_json(dict(arguments), by_alias=True, warnings="error")
        except PydanticSerializationError as error:
            raise InvalidInput(f"{self.hook}: the arguments cannot be written as JSON: {error}") from None

    def decode_arguments(self, body: bytes) -> dict[str, Any]:
        """Read arguments from the wire; unknown ones are ignored, missing ones with a default are filled in.

        Raises:
            InvalidInput: Not JSON, or an argument is missing or of the wrong type.
        """
        try:
            return self._complete(self.arguments_adapter.validate_json(body or b"{}", extra="ignore"))
        except ValidationError as error:
            raise InvalidInput(_explain(error, self.hook)) from None

    def check_result(self, result: Any) -> Any:
        """Validate what a hook returned.

        Raises:
            Internal: It is not of the type that the contract promises.
        """
        try:
            return self.result_adapter.validate_python(result, extra="ignore")
        except ValidationError as error:
            raise Internal(_explain(error, f"the result of {self.hook}")) from None

    def encode_result(self, result: Any) -> bytes:
        """Turn a result into JSON.

        Raises:
            Internal: It is not of the type that the contract promises, or cannot be JSON.
        """
        try:
            return self.result_adapter.dump_json(self.check_result(result), by_alias=True, warnings="error")
        except PydanticSerializationError as error:
            raise Internal(f"the result of {self.hook} cannot be written as JSON: {error}") from None

    def decode_result(self, body: bytes) -> Any:
        """Read a result from the wire.

        Raises:
            Internal: It is not JSON of the promised type.
        """
        try:
            return self.result_adapter.validate_json(body, extra="ignore")
        except ValidationError as error:
            raise Internal(_explain(error, f"the result of {self.hook}")) from None

    def schema(self) -> dict[str, Any]:
        """The JSON Schemas of arguments and result, with what a caller must know about the hook."""
        return {
            "$schema": _DIALECT,
            "hook": self.hook,
            "family": self.family,
            "route": self.route,
            "idempotent": self.idempotent,
            "required": self.required,
            "arguments": _open(self._arguments_schema()),
            "result": _open(self.result_adapter.json_schema(mode="serialization")),
        }

    def _arguments_schema(self) -> dict[str, Any]:
        schema = self.arguments_adapter.json_schema(mode="validation")
        for parameter in self.parameters:
            if not parameter.required:
                schema["properties"][parameter.name]["default"] = parameter.adapter.dump_python(
                    parameter.default, mode="json")
        return schema

    def _complete(self, arguments: dict[str, Any]) -> dict[str, Any]:
        for parameter in self.parameters:
            if not parameter.required:
                arguments.setdefault(parameter.name, parameter.default)
        return arguments


@cache
def operations() -> dict[str, Operation]:
    """Every hook of the contract by name, in the order of the hookspecs."""
    table: dict[str, Operation] = {}
    for family, specs in FAMILIES.items():
        for name, function in vars(specs).items():
            if name.startswith(f"{family}_") and inspect.isfunction(function):
                table[name] = _operation(family, name, function)
    return table


def _operation(family: str, name: str, function: Any) -> Operation:
    hints = get_type_hints(function, include_extras=True)
    parameters = tuple(
        Parameter(p.name, hints[p.name], p.default)
        for p in inspect.signature(function).parameters.values() if p.name != "self"
    )
    return Operation(name, family, parameters, hints["return"], name in IDEMPOTENT,
                     name in REQUIRED.get(family, frozenset()))


def documents() -> dict[str, dict[str, Any]]:
    """Every frozen file by name: one per hook, those of the file formats, and `contract.json`."""
    from fuseml_sdk.manifest import ExtensionManifest
    from fuseml_sdk.templates import PipelineTemplate
    from fuseml_sdk.types import RunnableDescriptor

    hooks = {name: operation.schema() for name, operation in operations().items()}
    files = {f"{name}.json": schema for name, schema in hooks.items()}
    for name, model in (("extension-manifest", ExtensionManifest), ("pipeline-template", PipelineTemplate),
                        ("runnable-descriptor", RunnableDescriptor)):
        files[f"{name}.json"] = {"$schema": _DIALECT, **model.model_json_schema(by_alias=True)}
    files["contract.json"] = {
        "protocol": PROTOCOL,
        "digest": _digest(hooks),
        "errors": {name: {"status": error.status, "retryable": error.retryable} for name, error in BY_TYPE.items()},
        "hooks": {name: {"family": each.family, "route": each.route, "idempotent": each.idempotent,
                         "required": each.required, "digest": _digest(hooks[name])}
                  for name, each in operations().items()},
    }
    return files


def digest() -> str:
    """The digest of the contract as it is in the code; texts for people do not count, so documenting is no change."""
    return _digest({name: operation.schema() for name, operation in operations().items()})


@cache
def frozen() -> dict[str, Any]:
    """`contract.json` as it was frozen with this version of the SDK; reads a file and computes nothing."""
    loaded: dict[str, Any] = json.loads((SCHEMAS / "contract.json").read_bytes())
    return loaded


def differences() -> list[str]:
    """Names of frozen files that are missing, left over or differ from the code."""
    wanted = {name: render(document) for name, document in documents().items()}
    found = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def render(document: Mapping[str, Any]) -> str:
    """The text of a frozen file."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Compare the schemas on disk with the code, or write them. Returns the exit code."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m fuseml_sdk.contract", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    parser.add_argument("--release", action="store_true",
                        help="freeze the contract under this version of the SDK, once and for ever")
    wish = parser.parse_args(arguments)
    changed = differences()
    for name in changed:
        print(("wrote " if wish.write else "differs: ") + name, file=sys.stderr)
    if changed and not wish.write:
        return 1
    _write(changed)
    return _release() if wish.release else 0


def _write(names: list[str]) -> None:
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    wanted = documents()
    for name in names:
        if name in wanted:
            (SCHEMAS / name).write_text(render(wanted[name]), encoding="utf-8")
        else:
            (SCHEMAS / name).unlink()


def _release() -> int:
    from fuseml_sdk.compatibility.documents import release

    try:
        print(f"froze {release().name}", file=sys.stderr)
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _open(value: Any) -> Any:
    """A schema in which objects may have other fields: on the wire every reader ignores what it does not know."""
    if isinstance(value, dict):
        return {k: _open(v) for k, v in value.items() if not (k == "additionalProperties" and v is False)}
    return [_open(v) for v in value] if isinstance(value, list) else value


def _digest(value: Any) -> str:
    canonical = json.dumps(without_texts(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def without_texts(value: Any) -> Any:
    """A document without titles and descriptions: what is left is what programs rely on."""
    if isinstance(value, dict):
        return {k: without_texts(v) for k, v in value.items()
                if not (k in ("title", "description") and isinstance(v, str))}
    return [without_texts(v) for v in value] if isinstance(value, list) else value


def _explain(error: ValidationError, what: str) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "value"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{what}: {where}: {first['msg']}{more}"


if __name__ == "__main__":
    sys.exit(main())
