"""Change the settings of an extension while the server runs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from fuseml_core.domain.errors import FusemlError, Invalid
from fuseml_core.service.extensions.ports import ComponentHost, InstalledExtensions
from fuseml_core.service.extensions.schema import HIDDEN
from fuseml_core.service.extensions.settings import ExtensionSettings, schema_of


class Configurator:
    """The use case *configure*. Its caller lets only one run at a time.

    Args:
        settings: What is set.
        host: The plugin host.
        records: Rows of installed extensions.
    """

    def __init__(self, settings: ExtensionSettings, host: ComponentHost, records: InstalledExtensions) -> None:
        self._settings, self._host, self._records = settings, host, records

    def configure(self, name: str, values: Mapping[str, Any], unset: Collection[str] = (),
                  limits: Mapping[str, Any] | None = None) -> None:
        """Set and unset settings and limits, and give them to the extension's components; all of it or nothing.

        Components with the new settings are started and checked beside those in force, which take calls until then.

        Args:
            name: Of the extension.
            values: By key; text becomes what the schema asks for.
            unset: Keys to drop; those that have no value are passed over.
            limits: By name; see :meth:`ExtensionLimits.changed`.

        Raises:
            NotFound: The extension is not installed.
            Invalid: A setting or limit is unknown, or its value cannot be used.
            Failed: A component does not work with the settings; nothing was changed.
        """
        extension = self._settings.installed(name)
        schema, before = schema_of(extension), self._settings.all(name)
        for key in sorted(set(unset) & set(values)):
            raise Invalid(f"the setting {key!r} is set and unset at once")
        for key in sorted(set(unset) - set(before) - set(schema.properties)):
            schema.typed(key, None)
        changed = {key: _text_only(key, schema.typed(key, value)) for key, value in values.items()}
        after = {key: value for key, value in (before | changed).items() if key not in unset}
        if values or unset or not limits:
            schema.check(schema.usable(after)[0])
        bounds = self._settings.limits
        allowed = bounds.changed(name, limits or {})
        if after == before and allowed == bounds.set_for(name):
            return
        try:
            with self._settings.tried({extension.digest: after}, whole=True), bounds.tried(name, allowed):
                self._host.prepare(extension)
                described = self._host.check(extension)
            self._settings.store(name, changed, unset)
            bounds.store(name, allowed)
        except BaseException as error:
            self._host.discard(extension)
            if not isinstance(error, FusemlError):
                raise
            secrets = {str(after[key]) for key in schema.secrets & set(after)}
            raise _hidden(error, secrets) from None
        self._host.put_in_force(extension)
        if described:
            self._records.describe(extension.digest, described)


def _text_only(key: str, value: Any) -> Any:
    """Refuse what no environment variable can carry."""
    if "\\u0000" in json.dumps(value):
        raise Invalid(f"the setting {key!r} contains a NUL character")
    return value


def _hidden(error: FusemlError, secrets: Collection[str]) -> FusemlError:
    """The same error without secrets that a plugin may have put into it."""
    message, hint, details = error.message, error.hint, json.dumps(error.details)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        message, hint = message.replace(secret, HIDDEN), hint.replace(secret, HIDDEN)
        details = details.replace(json.dumps(secret)[1:-1], HIDDEN)
    try:
        return type(error)(message, hint=hint, details=json.loads(details))
    except ValueError:
        return type(error)(message, hint=hint)
