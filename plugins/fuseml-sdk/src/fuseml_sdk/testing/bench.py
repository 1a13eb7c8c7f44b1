"""What a rule works with: the plugin in one host, and samples."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from fuseml_sdk.contract import operations
from fuseml_sdk.errors import InvalidInput, PluginError
from fuseml_sdk.hookspecs import FAMILIES
from fuseml_sdk.testing.expectations import brief, expect
from fuseml_sdk.testing.faults import kill9
from fuseml_sdk.testing.hosts import Host
from fuseml_sdk.testing.rules import Violation
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
        """The configuration of a start over a folder.

        Raises:
            InvalidInput: It cannot be sent, because it is not JSON.
        """
        config = dict(self._config(folder) if callable(self._config) else self._config)
        try:
            json.dumps(config)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"the configuration given to the kit is not JSON: {error}") from None
        return config

    @contextmanager
    def fresh(self, config: Mapping[str, Any] | None = None, host: Host | None = None) -> Iterator[ServedPlugin]:
        """A plugin of the block's own over an empty state directory, in the same host or another one."""
        folder = self.folder()
        served = (host or self.host).start(folder, self.config(folder) if config is None else config)
        try:
            yield served
        finally:
            served.close()

    @contextmanager
    def killed(self, before: Callable[[ServedPlugin], Made]) -> Iterator[tuple[ServedPlugin, Made]]:
        """A plugin of the block's own, started over the state that kill -9 left.

        Args:
            before: What is asked of it until then; the block gets the answer.

        Raises:
            Violation: A call in the block failed.
        """
        folder = self.folder()
        first = self.start(folder)
        try:
            made = before(first)
            kill9(first)
        finally:
            first.close()
        second = self.start(folder)
        try:
            yield second, made
        except PluginError as error:
            raise Violation(f"after kill -9 and a new start it failed with {error.type}: {error}") from None
        finally:
            second.close()

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

    def done_once(self, hook: str, **arguments: Any) -> None:
        """Call a hook twice that has to do something the first time, and to say the second time that it did not."""
        first, second = (self.plugin.call(hook, **arguments) for _ in range(2))
        expect((first, second) == (True, False), f"{hook} answered {first} and then {second}")


def required_hooks(family: str) -> set[str]:
    """Hooks that every plugin of a family implements."""
    return {name for name, each in operations().items() if each.family == family} - optional_hooks(family)


def optional_hooks(family: str) -> set[str]:
    """Hooks that a plugin of a family may leave out, and then does not declare."""
    from typing import get_args

    from fuseml_sdk.types import StoreCapability

    return {f"store_{name}" for name in get_args(StoreCapability)} if family == "store" else set()
