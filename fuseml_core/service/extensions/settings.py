"""Settings of installed extensions: what is set, what a version takes of it, and how workloads are told."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fuseml_core.domain.errors import Invalid, NotFound
from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.service.extensions.limits import ExtensionLimits, LimitPolicy, without_limits
from fuseml_core.service.extensions.plan import PlannedChange
from fuseml_core.service.extensions.ports import InstalledExtensions, StoredSettings
from fuseml_core.service.extensions.schema import SettingsSchema
from fuseml_sdk.manifest import show_limit

#: Variables by which a workload is told other things; a setting never takes their place.
_TAKEN = ("FUSEML_INPUT_", "FUSEML_OUTPUT_", "FUSEML_PARAMETER_", "FUSEML_SERVICE_")


class ExtensionSettings:
    """Reads and writes settings. They belong to the name of an extension: upgrades keep them, uninstalling drops them.

    A version takes the settings that its own schema allows; the others stay stored and are shown as ignored.

    Args:
        records: Rows of installed extensions.
        stored: Rows of settings.
        policy: What the server says about limits.

    Attributes:
        limits: What the components may use.
    """

    def __init__(self, records: InstalledExtensions, stored: StoredSettings,
                 policy: LimitPolicy | None = None) -> None:
        self._records, self._stored = records, stored
        self.limits = ExtensionLimits(stored, policy or LimitPolicy())
        self._tried: dict[str, Mapping[str, Any]] = {}
        self._whole = False

    def installed(self, name: str) -> InstalledExtension:
        """The active version of an extension.

        Raises:
            NotFound: It is not installed.
        """
        record = self._records.get(name)
        if record is None:
            raise NotFound(f"the extension {name!r} is not installed", hint="List them with: fuseml extension list")
        return record

    def values(self, extension: InstalledExtension) -> dict[str, Any]:
        """What the components of a version are configured with, secrets included."""
        tried = self._tried.get(extension.digest)
        if tried is None:
            return schema_of(extension).usable(self.all(extension.name))[0]
        unchanged = {} if self._whole else self.all(extension.name)
        return schema_of(extension).usable(unchanged | dict(tried))[0]

    @contextmanager
    def tried(self, values: Mapping[str, Mapping[str, Any]], *, whole: bool = False) -> Iterator[None]:
        """Let versions be tried with settings that are stored only when they come into force.

        Args:
            values: Settings by digest of the version.
            whole: They take the place of all that is stored, rather than come on top.
        """
        self._tried, self._whole = dict(values), whole
        try:
            yield
        finally:
            self._tried, self._whole = {}, False

    def typed(self, changes: Sequence[PlannedChange],
              given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Settings that come with a change, as the new versions want them; text becomes what the schema says.

        Raises:
            Invalid: There is no such setting, or its value breaks its rule.
        """
        return {change.name: {key: _schema(change).typed(key, value) for key, value in given[change.name].items()}
                for change in changes if given.get(change.name)}

    def foresee(self, change: PlannedChange, given: Mapping[str, Any]) -> list[str]:
        """What becomes of settings and limits when another version comes into force, one sentence each.

        Args:
            change: The version.
            given: Settings that come with it.

        Raises:
            Invalid: An upgrade or rollback leaves the version without a setting that it needs.
        """
        if not change.manifest:
            return []
        return [*self.limits.warnings(change.manifest), *self._foresee_settings(change, given)]

    def _foresee_settings(self, change: PlannedChange, given: Mapping[str, Any]) -> list[str]:
        schema = _schema(change)
        if change.old is None and not given and not schema.properties:
            return []
        taken, ignored = schema.usable(self.all(change.name))
        try:
            schema.check(taken | {key: schema.typed(key, value) for key, value in given.items()})
        except Invalid as error:
            version = change.manifest["version"]
            if change.old is not None:
                raise Invalid(f"{change.name} {version} cannot take over the settings: {error.message}",
                              hint=f"{error.hint} Give it with the change: --set {change.name}.KEY=VALUE") from None
            return [f"{error.message}; set it with: fuseml extension configure {change.name} KEY=VALUE"]
        return [f"the setting {key!r} of {change.name} is kept and not used by {change.manifest['version']}: {why}"
                for key, why in ignored.items() if key not in given]

    def all(self, name: str) -> dict[str, Any]:
        """Everything that is stored, secrets and ignored settings included."""
        return without_limits(self._stored.get(name))

    def variables(self, name: str) -> dict[str, str]:
        """The settings as variables `FUSEML_<EXTENSION>_<KEY>`, secrets included; lists and tables as JSON.

        Args:
            name: Of an extension; one that is not installed has no settings.
        """
        record = self._records.get(name)
        values = self.values(record) if record is not None else {}
        found = {f"FUSEML_{_upper(name)}_{_upper(key)}": _text(value)
                 for key, value in values.items() if value is not None}
        return {variable: text for variable, text in found.items() if not variable.startswith(_TAKEN)}

    def shown(self, extension: InstalledExtension) -> dict[str, Any]:
        """What a version is configured with, secrets as `***`."""
        return schema_of(extension).shown(self.values(extension))

    def show(self, name: str) -> dict[str, Any]:
        """The settings of an extension, for people and programs.

        Returns:
            `extension`, `settings` (secrets as `***`), `secrets` (their keys), `schema`, `ignored`: why this version
            does not take a setting that is stored; `limits` that are set, as text, and `warnings` about them.

        Raises:
            NotFound: It is not installed.
        """
        record = self.installed(name)
        schema = schema_of(record)
        taken, ignored = schema.usable(self.all(name))
        return {"extension": name, "settings": schema.shown(taken), "secrets": sorted(schema.secrets),
                "schema": dict(record.manifest.get("config_schema") or {}), "ignored": ignored,
                "limits": {limit: show_limit(limit, value) for limit, value in self.limits.set_for(name).items()},
                "warnings": self.limits.warnings(record.manifest)}

    def store(self, name: str, values: Mapping[str, Any], unset: Collection[str]) -> None:
        """Set and unset settings, unchecked."""
        self._stored.change(name, values, unset)

    def forget(self, name: str) -> None:
        """Drop all settings of an extension."""
        self._stored.forget(name)


def schema_of(extension: InstalledExtension) -> SettingsSchema:
    """The settings that a version declares."""
    return SettingsSchema(extension.name, extension.manifest.get("config_schema") or {})


def _schema(change: PlannedChange) -> SettingsSchema:
    return SettingsSchema(change.name, change.manifest.get("config_schema") or {})


def _upper(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
