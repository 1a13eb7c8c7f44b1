"""What components of extensions may use: what they state, what administrators set, and the most that there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fuseml_core.domain.errors import Invalid
from fuseml_core.service.extensions.ports import StoredSettings
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import IN_BYTES, LEAST, ComponentLimits, show_limit
from fuseml_sdk.quantities import parse_bytes

#: Begins the names under which limits are stored beside the settings that an extension declares.
PREFIX = "limit:"
NAMES = tuple(LEAST)
#: Whether a limit is enforced for a component of an extension here, and by what or why not.
JudgeLimit = Callable[[str], tuple[bool, str]]


@dataclass(frozen=True)
class LimitPolicy:
    """What the server says about limits, by name; what is missing or 0 is not limited.

    Attributes:
        default: For components that state none.
        most: The most that manifests and administrators may ask for.
        variables: Where each of `most` is set, for messages.
    """

    default: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


class ExtensionLimits:
    """Limits of installed extensions. What an administrator sets belongs to the name of an extension, as settings do.

    Args:
        stored: Rows of settings.
        policy: What the server says.
    """

    def __init__(self, stored: StoredSettings, policy: LimitPolicy) -> None:
        self._stored, self._policy = stored, policy
        self._tried: dict[str, dict[str, int]] = {}

    def set_for(self, name: str) -> dict[str, int]:
        """What an administrator has set for an extension."""
        if name in self._tried:
            return self._tried[name]
        stored = self._stored.get(name)
        return {limit: stored[PREFIX + limit] for limit in NAMES if isinstance(stored.get(PREFIX + limit), int)}

    @contextmanager
    def tried(self, name: str, values: Mapping[str, int]) -> Iterator[None]:
        """Let an extension be tried with limits that are stored only when it works with them."""
        self._tried = {name: dict(values)}
        try:
            yield
        finally:
            self._tried = {}

    def of(self, name: str, component: Mapping[str, Any]) -> dict[str, int]:
        """What a component may use.

        Args:
            name: Of the extension.
            component: As its manifest states it.
        """
        return {limit: value for limit, (value, _) in self._chosen(name, component).items()}

    def changed(self, name: str, values: Mapping[str, Any]) -> dict[str, int]:
        """The limits that an extension has after a change.

        Args:
            name: Of the extension.
            values: By name, as numbers or quantities; empty text or None drops what was set.

        Raises:
            Invalid: There is no such limit, its value cannot be used, or it is more than there is.
        """
        after = self.set_for(name)
        for limit, value in values.items():
            if limit not in NAMES:
                raise Invalid(f"there is no limit {limit!r}", hint=f"There are {', '.join(NAMES)}.")
            if value in ("", None):
                after.pop(limit, None)
            else:
                after[limit] = self._read(limit, value)
        return after

    def store(self, name: str, values: Mapping[str, int]) -> None:
        """Write down what an administrator set, in the place of all that was set before."""
        self._stored.change(name, {PREFIX + limit: value for limit, value in values.items()},
                            [PREFIX + limit for limit in NAMES if limit not in values])

    def check(self, manifest: Mapping[str, Any]) -> None:
        """Refuse a version that cannot get what it states.

        Raises:
            Invalid: It states more than there is, and nobody has set another limit.
        """
        name = str(manifest.get("name") or "")
        for component, limit, value in _stated(manifest):
            most = self._policy.most.get(limit, 0)
            if most and value > most and limit not in self.set_for(name):
                raise Invalid(f"{name} {manifest.get('version')} states that its {component} needs {limit} "
                              f"{show_limit(limit, value)}, and this server gives at most {show_limit(limit, most)}",
                              hint=f"Raise {self._variable(limit)} and start the server again, or use another server.")

    def warnings(self, manifest: Mapping[str, Any]) -> list[str]:
        """Where an extension gets less than it states, one sentence each."""
        name = str(manifest.get("name") or "")
        mine = self.set_for(name)
        return [f"{name} states that its {component} needs {limit} {show_limit(limit, value)}, and gets "
                f"{show_limit(limit, mine[limit])}; to give it what it states: "
                f"fuseml extension configure {name} --limit {limit}="
                for component, limit, value in _stated(manifest) if mine.get(limit, value) < value]

    def view(self, manifest: Mapping[str, Any], judge: JudgeLimit) -> list[dict[str, Any]]:
        """The limits of the components that the server runs, for people and programs.

        Returns:
            `component`, `name`, `value` (bytes or a number), `shown`, `from` (`manifest`, `administrator`, `server` or
            `most`), `stated` (None if the manifest states none), `enforced`, `how`.
        """
        lines = []
        for entry in manifest.get("components") or []:
            if entry.get("address"):
                continue
            stated = _wanted(entry)
            for limit, (value, origin) in self._chosen(str(manifest.get("name")), entry).items():
                enforced, how = judge(limit)
                lines.append({"component": f"{entry['family']} {entry['name']}", "name": limit, "value": value,
                              "shown": show_limit(limit, value), "from": origin, "stated": stated.get(limit),
                              "enforced": enforced, "how": how})
        return lines

    # -- inside ----------------------------------------------------------------------------------------------------

    def _chosen(self, name: str, component: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
        """Value and origin of each limit: the administrator's word counts before the author's and the server's."""
        sources = (("administrator", self.set_for(name)), ("manifest", _wanted(component)),
                   ("server", self._policy.default))
        chosen: dict[str, tuple[int, str]] = {}
        for limit in NAMES:
            found = next(((values[limit], origin) for origin, values in sources if values.get(limit)), None)
            most = self._policy.most.get(limit, 0)
            if most and (found is None or found[0] > most):
                found = (most, "most")
            if found is not None:
                chosen[limit] = found
        return chosen

    def _read(self, limit: str, value: Any) -> int:
        try:
            number = parse_bytes(str(value)) if limit in IN_BYTES else int(str(value))
        except (InvalidInput, ValueError):
            raise Invalid(f"the limit {limit} cannot be {value!r}", hint="Write an amount of bytes, such as 512Mi."
                          if limit in IN_BYTES else "Write a whole number.") from None
        most = self._policy.most.get(limit, 0)
        if number < LEAST[limit]:
            raise Invalid(f"the limit {limit} cannot be {value}: with less than {show_limit(limit, LEAST[limit])} no "
                          "component works", hint="Give more.")
        if most and number > most:
            raise Invalid(f"the limit {limit} cannot be {value}: this server gives at most {show_limit(limit, most)}",
                          hint=f"Give less, or raise {self._variable(limit)} and start the server again.")
        return number

    def _variable(self, limit: str) -> str:
        return self._policy.variables.get(limit, "the server's limit")


def without_limits(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored for an extension, without limits: the settings that it declares."""
    return {key: value for key, value in stored.items() if not key.startswith(PREFIX)}


def _wanted(component: Mapping[str, Any]) -> dict[str, int]:
    return ComponentLimits(**(component.get("limits") or {})).wanted()


def _stated(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    for entry in manifest.get("components") or []:
        for limit, value in _wanted(entry).items():
            yield f"{entry['family']} {entry['name']}", limit, value
