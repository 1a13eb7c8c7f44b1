"""Settings of an extension as its manifest declares them: types, rules and which are secret."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fuseml_core.domain.errors import Invalid

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

#: What stands for a secret wherever settings are shown.
HIDDEN = "***"
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
#: Members of the whole schema that the rule of a single setting may refer to.
_SHARED = ("$schema", "$defs", "definitions")


class SettingsSchema:
    """The `config_schema` of a manifest. Settings are its `properties`; `writeOnly` marks secrets.

    Args:
        extension: Name of the extension, for messages.
        schema: JSON Schema; an empty one declares no settings.
    """

    def __init__(self, extension: str, schema: Mapping[str, Any]) -> None:
        self._extension, self._schema = extension, dict(schema)
        self.properties: dict[str, Any] = dict(self._schema.get("properties") or {})
        shared = {name: self._schema[name] for name in ("$defs", "definitions") if name in self._schema}
        self.secrets = frozenset(k for k, rule in self.properties.items() if _is_secret(rule, shared))

    def typed(self, key: str, value: Any) -> Any:
        """The value of one setting; text becomes what the schema asks for.

        Raises:
            Invalid: There is no such setting, or the value breaks its rule; a secret is not repeated.
        """
        if key not in self.properties:
            raise Invalid(f"the extension {self._extension} has no setting {key!r}", hint=self._hint())
        problem: ValidationError | None = None
        for candidate in _readings(value):
            found = next(self._errors(self._alone(key), {key: candidate}), None)
            if found is None:
                return candidate
            problem = found if problem is None or problem.validator == "type" else problem
        assert problem is not None
        raise self._invalid(key, problem)

    def check(self, values: Mapping[str, Any]) -> None:
        """Check all settings together.

        Raises:
            Invalid: They break the schema; secrets are not repeated.
        """
        for error in self._errors(self._schema, dict(values)):
            if error.absolute_path:
                raise self._invalid(str(error.absolute_path[0]), error)
            if error.validator == "required":
                wanted: Any = error.validator_value
                missing = [key for key in wanted if key not in values]
                raise Invalid(f"the extension {self._extension} needs the setting {missing[0]!r}", hint=self._hint())
            raise Invalid(f"the settings of the extension {self._extension} break the rule {_rule(error)} together",
                          hint=self._hint())

    def usable(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Part stored settings, maybe of another version, into those that this version takes and why not the others."""
        taken: dict[str, Any] = {}
        ignored: dict[str, str] = {}
        for key, value in values.items():
            problem = None
            if key in self.properties:
                problem = next(self._errors(self._alone(key), {key: value}), None)
            if key not in self.properties:
                ignored[key] = "this version has no such setting"
            elif problem is not None:
                ignored[key] = self._invalid(key, problem).message
            else:
                taken[key] = value
        return taken, ignored

    def shown(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings for people and programs, secrets hidden; so are settings that the schema does not know."""
        return {key: value if key in self.properties and key not in self.secrets else HIDDEN
                for key, value in values.items()}

    def _alone(self, key: str) -> dict[str, Any]:
        """The schema of one setting, whatever the others are."""
        return {name: self._schema[name] for name in _SHARED if name in self._schema} | {
            "properties": {key: self.properties[key]}}

    @staticmethod
    def _errors(schema: Mapping[str, Any], values: dict[str, Any]) -> Iterator[ValidationError]:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import validator_for

        errors: Iterator[ValidationError] = validator_for(schema, Draft202012Validator)(schema).iter_errors(values)
        return errors

    def _invalid(self, key: str, error: ValidationError) -> Invalid:
        what = f"its value, a secret, breaks the rule {_rule(error)}" if key in self.secrets else error.message[:300]
        return Invalid(f"the setting {key!r} of the extension {self._extension}: {what}", hint=self._hint(key))

    def _hint(self, key: str = "") -> str:
        about = str(self.properties[key].get("description") or "") if isinstance(self.properties.get(key), dict) else ""
        known = ", ".join(sorted(self.properties)) or "none"
        return f"{about} Settings of {self._extension}: {known}.".strip()


def _readings(value: Any) -> Iterable[Any]:
    """What a value may mean, in the order of trying: text as it is, as JSON, as a word for true or false."""
    yield value
    if not isinstance(value, str):
        return
    with suppress(ValueError):
        yield json.loads(value, parse_constant=_refuse)
    if value.lower() in _WORDS:
        yield _WORDS[value.lower()]


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _rule(error: ValidationError) -> str:
    """The rule of the schema that was broken, without the value that broke it."""
    return f"{error.validator}: {json.dumps(error.validator_value, ensure_ascii=False)[:200]}"


def _is_secret(rule: Any, shared: Any) -> bool:
    """Whether a rule or a part of it is marked; what it refers to counts as a whole, to be on the safe side."""
    if isinstance(rule, dict):
        refers = "$ref" in rule and rule is not shared and _is_secret(shared, None)
        return rule.get("writeOnly") is True or refers or any(_is_secret(part, shared) for part in rule.values())
    return isinstance(rule, list) and any(_is_secret(part, shared) for part in rule)
