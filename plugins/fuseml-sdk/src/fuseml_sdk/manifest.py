"""The manifest of an extension (`extension.toml`) and of what its bundle contains."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.quantities import PATTERN, parse_bytes, show_bytes
from fuseml_sdk.types.model import StrictModel

#: Strict semantic version without build metadata (`+` is not allowed in OCI tags). https://semver.org
#: `\Z` and not `$`, here and below: the latter lets a line break follow.
SEMVER = re.compile(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
                    r"(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?\Z")
#: Stands for the value of a setting of the extension, in `address` and `token` of a component.
PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w-]*)\}")
NAME = re.compile(r"^[a-z0-9]+(?:-[a-z0-9]+)*\Z")


class Dependency(StrictModel):
    """Another extension that must be installed."""

    name: str
    range: str = Field("*", description="such as `>=0.1,<1`")


class Permission(StrictModel):
    """Something the extension wants to do, with the reason shown at install."""

    name: str = Field(description="one of those in the reference of permissions, such as network")
    reason: str = Field(min_length=1)


#: The least that a limit may be: with less, no component starts or answers.
LEAST = {"memory": 64 << 20, "open_files": 64, "processes": 16, "file_size": 1 << 20}
#: Limits that are amounts of bytes; the others are numbers.
IN_BYTES = frozenset({"memory", "file_size"})
_AMOUNT: dict[str, Any] = {"pattern": rf"{PATTERN}|^$"}


class ComponentLimits(StrictModel):
    """What processes of a component get along with; what is not said is up to the server."""

    memory: str = Field("", json_schema_extra=_AMOUNT, description="such as `512Mi`: of a process and all that it "
                        "starts, where the server can make control groups; else of each process alone")
    open_files: int = Field(0, ge=0, le=1 << 20, description="descriptors of one process")
    processes: int = Field(0, ge=0, le=1 << 22, description="processes and threads together")
    file_size: str = Field("", json_schema_extra=_AMOUNT, description="such as `2Gi`: of one file")

    @field_validator("memory", "file_size")
    @classmethod
    def _amount(cls, value: str) -> str:
        try:
            parse_bytes(value or "0")
        except InvalidInput as error:
            msg = f"{error.message}; {error.hint[0].lower()}{error.hint[1:]}"
            raise ValueError(msg) from None
        return value

    @model_validator(mode="after")
    def _enough_to_start(self) -> Self:
        for name, value in self.wanted().items():
            if value < LEAST[name]:
                msg = f"{name} is less than {show_limit(name, LEAST[name])}, with which no component works"
                raise ValueError(msg)
        return self

    def wanted(self) -> dict[str, int]:
        """The limits that are stated, in bytes or numbers."""
        stated = {"memory": parse_bytes(self.memory) if self.memory else None, "open_files": self.open_files or None,
                  "processes": self.processes or None,
                  "file_size": parse_bytes(self.file_size) if self.file_size else None}
        return {name: value for name, value in stated.items() if value is not None}


def show_limit(name: str, value: int) -> str:
    """The value of a limit as people write it: `512Mi`, `256`."""
    return show_bytes(value) if name in IN_BYTES else str(value)


class Component(StrictModel):
    """One plugin object of the extension, or one that somebody else runs: exactly one of `plugin` and `address`."""

    family: Literal["store", "agent", "builder"]
    name: str
    plugin: str = Field("", pattern=r"^([\w.]+:[\w.]+)?$", description="`module:attribute` of the plugin object")
    address: str = Field("", pattern=r"^((unix:/|https?://)[^\s@?#]+|\{[A-Za-z_][\w-]*\})?$", description="where "
                         "somebody else runs it, in any language: `unix:/path`, `http://host:port` or `https://…`; "
                         "`{setting}` stands for the value of a setting of the extension")
    token: str = Field("", pattern=r"^(\{[A-Za-z_][\w-]*\})?$", description="`{setting}` with the secret that is "
                       "sent to `address` as a bearer token; an empty setting sends none")
    summary: str = ""
    limits: ComponentLimits = Field(default_factory=ComponentLimits, description="what its processes get along with")

    @model_validator(mode="after")
    def _runs_somewhere(self) -> Self:
        if bool(self.plugin) == bool(self.address):
            msg = (f"the component {self.family} {self.name} needs either `plugin`, which FuseML runs, or `address`, "
                   "which somebody else runs")
            raise ValueError(msg)
        if self.token and not self.address:
            msg = f"the component {self.family} {self.name} has a `token` and no `address` to send it to"
            raise ValueError(msg)
        if self.address and self.limits.wanted():
            msg = f"the component {self.family} {self.name} has `limits`, and somebody else runs it at its `address`"
            raise ValueError(msg)
        return self

    def settings(self) -> list[str]:
        """Names of the settings that `address` and `token` are filled with."""
        return PLACEHOLDER.findall(self.address) + PLACEHOLDER.findall(self.token)


class EnvironmentSource(StrictModel):
    """How the extension's own environment is made."""

    python: str = Field(">=3.11", description="range of Python versions")
    lock: str = Field("requirements.lock", description="hashed requirements, without URLs")
    wheels: list[str] = Field(default_factory=list, description="in the source: project folders whose wheels are "
                              "bundled; in a bundle: the wheel file names")
    vendored: list[str] = Field(default_factory=list, description="in a bundle: file names of the wheels that it "
                                "carries so that the lock can be installed without an index; written by the build")


class ContentFile(StrictModel):
    """A runnable or a template that the bundle contains."""

    name: str
    file: str


class LintException(StrictModel):
    """A finding of `fuseml bundle lint` that is accepted; once it is not found any more, the entry is a finding."""

    rule: str = Field(pattern=r"^B\d{3}$", description="id of the rule, such as B105")
    reason: str = Field(min_length=10, description="why it does not matter here; shown to reviewers")
    where: str = Field("", description="glob of the places meant; empty: all")


class ExtensionManifest(StrictModel):
    """Everything `extension.toml` says; with `contents` filled in it is the config blob of the bundle."""

    api_version: Literal["fuseml.io/v1"] = "fuseml.io/v1"
    name: str
    version: str
    summary: str = Field(min_length=1, max_length=200)
    description: str = ""
    licence: str = ""
    icon: str = ""
    links: dict[str, str] = Field(default_factory=dict)
    requires_fuseml: str = Field(">=0.1,<1", description="range of engine versions")
    dependencies: list[Dependency] = Field(default_factory=list)
    conflicts: list[Dependency] = Field(default_factory=list)
    permissions: list[Permission] = Field(default_factory=list)
    config_schema: dict[str, Any] = Field(default_factory=dict, description="JSON Schema; `writeOnly: true` marks "
                                          "secrets")
    environment: EnvironmentSource | None = Field(None, description="None: the bundle is data only")
    components: list[Component] = Field(default_factory=list)
    runnables: list[ContentFile] = Field(default_factory=list)
    templates: list[ContentFile] = Field(default_factory=list)
    lint: list[LintException] = Field(default_factory=list, description="accepted findings of `bundle lint`")

    @model_validator(mode="after")
    def _declares_what_addresses_need(self) -> Self:
        declared = self.config_schema.get("properties") or {}
        for component in self.components:
            for setting in component.settings():
                if setting not in declared:
                    msg = (f"the component {component.family} {component.name} uses the setting {setting!r}, which "
                           "config_schema does not declare")
                    raise ValueError(msg)
            for setting in PLACEHOLDER.findall(component.token):
                if not (isinstance(declared[setting], dict) and declared[setting].get("writeOnly")):
                    msg = (f"the setting {setting!r} is the token of the component {component.family} "
                           f"{component.name}: mark it as a secret with `writeOnly = true`")
                    raise ValueError(msg)
        return self

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.match(value):
            msg = f"{value!r} is not a name: use lower-case letters, digits and single hyphens"
            raise ValueError(msg)
        return value

    @field_validator("version")
    @classmethod
    def _version(cls, value: str) -> str:
        if not SEMVER.match(value):
            msg = f"{value!r} is not a semantic version such as 1.2.3 or 1.2.3-rc.1 (no `v`, no `+build`)"
            raise ValueError(msg)
        return value


def parse_manifest(text: str, *, source: str = "extension.toml") -> ExtensionManifest:
    """Read `extension.toml`.

    Args:
        text: The TOML document.
        source: What to call it in errors.

    Raises:
        InvalidInput: It is not TOML, or a field is missing, unknown or wrong; the message names the field.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{source} is not valid TOML: {error}") from None
    try:
        return ExtensionManifest.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(explain(error, source)) from None


def explain(error: ValidationError, source: str) -> str:
    """Put a validation error into one sentence: file, field, what is wrong."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "document"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    unknown = first["type"] == "extra_forbidden"
    what = "there is no such field" if unknown else first["msg"].removeprefix("Value error, ")
    return f"{source}: {where}: {what}{more}"
