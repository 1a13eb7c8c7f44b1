"""What a rule works with: the plugin in one host, samples, and short ways to say what was seen."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from fuseml_sdk.contract import operations
from fuseml_sdk.errors import PluginError
from fuseml_sdk.hookspecs import FAMILIES
from fuseml_sdk.testing.hosts import Host
from fuseml_sdk.testing.rules import NotApplicable, Violation
from fuseml_sdk.testing.samples import Samples
from fuseml_sdk.testing.served import ServedPlugin

Made = TypeVar("Made")
Config = Mapping[str, Any] | Callable[[Path], Mapping[str, Any]]


class Bench:
    """One plugin in one host, while its rules are checked.

    Args:
        host: Where it runs.
        config: For `fuseml_configure`, or a function that makes it of the folder of a start.
        samples: What the rules give to the plugin.
        secrets: Names of settings whose values are secret, besides those whose names say so.
        folder: Where everything that is made lies; a temporary one by default.
    """

    def __init__(self, host: Host, config: Config | None = None, samples: Samples | None = None,
                 secrets: tuple[str, ...] = (), folder: Path | None = None) -> None:
        self.host = host
        self.samples = samples or Samples()
        self.secrets = secrets
        self._config = config or {}
        self._own = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="fuseml-conformance-"))
        self._number = 0
        self._shared: ServedPlugin | None = None
        self._kept: dict[str, Any] = {}
        #: Folders that samples were made in; a plugin may take them over.
        self.given: list[Path] = []

    @property
    def plugin(self) -> ServedPlugin:
        """The plugin that rules share; started when it is first asked for, and again if it has ended."""
        shared = self._shared
        if shared is not None and shared.process is not None and shared.process.poll() is not None:
            self._shared = None
            shared.close()
        if self._shared is None:
            self._shared = self.start(self._folder / "shared")
        return self._shared

    def start(self, folder: Path, config: Mapping[str, Any] | None = None) -> ServedPlugin:
        """Start the plugin over a folder; the caller closes it."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.host.start(folder, self.config(folder) if config is None else config)

    def config(self, folder: Path) -> dict[str, Any]:
        """The configuration of a start over a folder."""
        return dict(self._config(folder) if callable(self._config) else self._config)

    @contextmanager
    def fresh(self, config: Mapping[str, Any] | None = None) -> Iterator[ServedPlugin]:
        """A plugin of the block's own over an empty state directory."""
        served = self.start(self.folder(), config)
        try:
            yield served
        finally:
            served.close()

    def folder(self) -> Path:
        """A new empty directory."""
        self._number += 1
        path = self._folder / f"{self._number}"
        path.mkdir(mode=0o700)
        self.given.append(path)
        return path

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What is costly to make and shared by several rules."""
        if name not in self._kept:
            self._kept[name] = make()
        made: Made = self._kept[name]
        return made

    @property
    def address(self) -> str:
        """`module:attribute` of the plugin, in hosts that know it."""
        return str(getattr(self.host, "plugin", ""))

    def close(self) -> None:
        """End the shared plugin and remove everything that was made."""
        if self._shared is not None:
            self._shared.close()
            self._shared = None
        if self._own:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def hooks(self) -> set[str]:
        """Names of the hooks that the plugin says it implements."""
        return set(self.description.get("hooks") or ())

    @cached_property
    def description(self) -> dict[str, Any]:
        """What `/v1/describe` answers."""
        return self.plugin.describe()

    @property
    def families(self) -> tuple[str, ...]:
        """What the plugin is: any of store, agent and builder."""
        prefixes = {hook.partition("_")[0] for hook in self.hooks}
        return tuple(family for family in FAMILIES if family in prefixes and family != "fuseml")

    def about(self, family: str) -> Any:
        """What the family's describe hook answers."""
        return self.plugin.call(f"{family}_describe")

    def require(self, hook: str) -> None:
        """Leave the rule out if the plugin does not offer an optional hook."""
        if hook not in self.hooks:
            raise NotApplicable(f"the plugin does not offer {hook}")

    def refused(self, hook: str, *wanted: type[PluginError], plugin: ServedPlugin | None = None,
                **arguments: Any) -> PluginError:
        """Call a hook that has to fail with one of some errors, and return the error.

        Raises:
            Violation: It did not fail, or with another error.
        """
        names = " or ".join(error.type for error in wanted)
        try:
            result = (plugin or self.plugin).call(hook, **arguments)
        except wanted as error:
            return error
        except PluginError as error:
            raise Violation(f"{hook}({brief(arguments)}) failed with {error.type}, not {names}: {error}") from None
        raise Violation(f"{hook}({brief(arguments)}) answered {brief(result)} instead of failing with {names}")


def brief(value: Any) -> str:
    """A value in at most 200 characters, for sentences."""
    named = value.items() if isinstance(value, dict) else ()
    text = ", ".join(f"{name}={item!r}" for name, item in named) or repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def expect(holds: object, seen: str) -> None:
    """Say what was seen unless something holds."""
    if not holds:
        raise Violation(seen)


def until(holds: Callable[[], Any], seconds: float, seen: Callable[[], str]) -> Any:
    """Look until something is true, and return it; say what was seen if it never is."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        if time.monotonic() > end:
            raise Violation(seen())
        time.sleep(0.05)
    return value


def required_hooks(family: str) -> set[str]:
    """Hooks that every plugin of a family implements."""
    return {name for name, each in operations().items() if each.family == family} - optional_hooks(family)


def optional_hooks(family: str) -> set[str]:
    """Hooks that a plugin of a family may leave out, and then does not declare."""
    from typing import get_args

    from fuseml_sdk.types import StoreCapability

    return {f"store_{name}" for name in get_args(StoreCapability)} if family == "store" else set()
