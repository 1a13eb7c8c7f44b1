"""One run of `fuseml plugin dev`: start, watch, start again, until told to stop."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fuseml_core.cli.development.lease import Lease
from fuseml_core.cli.development.printing import Printer
from fuseml_core.cli.development.process import GIVEN_UP, DevelopedPlugin
from fuseml_core.cli.development.watching import BUSY, QUIET, Watch
from fuseml_core.cli.plugin_project import PluginProject, open_project
from fuseml_core.domain.errors import Conflict, FusemlError, Invalid
from fuseml_core.settings import from_environment
from fuseml_sdk.errors import PluginError
from fuseml_sdk.hookspecs import REQUIRED

#: Folder of the project with the sockets of plugins under development, and with what they keep.
PLACE = ".dev"
#: Seconds after which a start is called slow; the first one compiles what the plugin imports.
_SLOW = 5.0


@dataclass
class Session:
    """The plugins of a project while they are developed.

    Attributes:
        project: As it was when the session began; which components there are does not change during it.
        config: File with settings and secrets; None: there are none.
        trace: Glob of the hooks whose calls are shown.
        printer: Where everything is shown.
    """

    project: PluginProject
    config: Path | None
    trace: str
    printer: Printer
    _plugins: dict[str, DevelopedPlugin] = field(default_factory=dict)
    _starts: int = 0
    _overtaken: bool = False

    def run(self, lease: bool) -> None:
        """Develop until interrupted; nothing that it started runs afterwards.

        Args:
            lease: Whether the local server shall use the plugins.
        """
        python = self.project.environment(self.printer.say)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._alone())
            self._make(python, stack)
            watch = Watch(self._watched())
            self._start("ready", watch)
            held = self._lease(stack) if lease else None
            for entry in self.project.components:
                self.printer.say(f"{entry.family} {entry.name} listens: curl --unix-socket "
                                 f"{self._shown_link(entry.family, entry.name)} http://plugin/v1/describe")
            self.printer.say("Waiting for changes; Ctrl-C ends.")
            self._follow(watch, held)

    def _follow(self, watch: Watch, lease: Lease | None) -> None:
        told = False
        while True:
            def gone(told: bool = told) -> bool:
                return not told and any(plugin.ended for plugin in self._plugins.values())

            changed = watch.wait(gone, BUSY if self._overtaken else QUIET)
            if not changed:
                told = True
                self._tell_ended()
                continue
            told = False
            self.printer.say(f"changed: {self._shown(changed)}")
            self._start("ready again", watch)
            if lease is not None:
                lease.started_again(self._starts)

    def _make(self, python: Path, stack: contextlib.ExitStack) -> None:
        from fuseml_sdk.permissions import parse

        kinds = [parse(permission.name).kind.form for permission in self.project.manifest.permissions]
        for entry in self.project.components:
            name = f"{entry.family} {entry.name}"
            plugin = DevelopedPlugin(python, entry.plugin, state=self.project.folder / PLACE / "state",
                                     runtime=from_environment().runtime_dir / "dev", trace=self.trace or "0",
                                     permissions=kinds, output=partial(self.printer.output_of, name))
            stack.callback(plugin.stop)
            stack.enter_context(self._linked(entry.family, entry.name, plugin.path))
            self._plugins[name] = plugin

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder with sockets and state, which is for one at a time; the lock goes with this process."""
        place = self.project.folder / PLACE
        place.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(place, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(f"another `fuseml plugin dev` runs the plugin of {self.project.folder}",
                               hint="End that one first.") from None
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _linked(self, family: str, name: str, socket: Path) -> Iterator[Path]:
        """A name for the socket that stays the same; its own is short, because sockets' paths must be."""
        link = self.project.folder / PLACE / f"{family}-{name}.sock"
        link.unlink(missing_ok=True)
        link.symlink_to(socket)
        try:
            yield link
        finally:
            link.unlink(missing_ok=True)

    def _start(self, what: str, watch: Watch) -> None:
        """Start every component with the settings of now. What is wrong with the project is shown, not raised."""
        self._starts += 1
        try:
            project = open_project(self.project.folder)
            project.environment(self.printer.say)
            settings = self._settings(project)
        except (FusemlError, PluginError) as error:
            gone = f"{self.project.folder} is gone: move it back, or run this again where it is now"
            self.printer.say(f"not started: {error if self.project.folder.is_dir() else gone}", colour="red")
            return
        if [(e.family, e.name, e.plugin) for e in project.components] != [
                (e.family, e.name, e.plugin) for e in self.project.components]:
            self.printer.say("extension.toml has other components now: stop this and run it again", colour="yellow")
        for name, plugin in self._plugins.items():
            start = plugin.start(settings, self._impatience(name, watch))
            self._overtaken = start.failure == GIVEN_UP
            if self._overtaken:
                return  # the change starts everything again
            if start.failure:
                self.printer.say(f"{name} does not work: {start.failure}", colour="red")
                continue
            self.printer.say(f"{name} is {what} after {start.seconds:.2f} s ({len(start.hooks)} hooks)", colour="green")
            missing = sorted(REQUIRED.get(name.partition(" ")[0], frozenset()).difference(start.hooks))
            if missing:
                self.printer.say(f"{name} lacks {', '.join(missing)}, which servers call: write it, and mark it with "
                                 "@hookimpl", colour="yellow")

    def _impatience(self, name: str, watch: Watch) -> Callable[[float], bool]:
        """Tells that a plugin is slow to start, and gives up once it has changed meanwhile."""
        tell_after = _SLOW

        def ask(seconds: float) -> bool:
            nonlocal tell_after
            if seconds >= tell_after:
                tell_after = 2 * seconds
                self.printer.say(f"{name} does not answer yet after {seconds:.1f} s: it is being imported and "
                                 "configured", colour="yellow")
            return watch.changed

        return ask

    def _settings(self, project: PluginProject) -> dict[str, Any]:
        """The settings of the file, as the server would check them."""
        from fuseml_core.service.extensions.schema import SettingsSchema

        values = {} if self.config is None else read_settings(self.config)
        SettingsSchema(project.manifest.name, project.manifest.config_schema).check(values)
        return values

    def _lease(self, stack: contextlib.ExitStack) -> Lease:
        from fuseml_core.cli.client import connect

        client = connect()
        if client.settings.url:
            raise Invalid("FUSEML_URL names another server, and that cannot reach a socket on this machine.",
                          hint="Unset it to use the local server, or add --no-server.")
        name = self.project.manifest.name
        components = [{"family": entry.family, "name": entry.name, "address": f"unix:{plugin.path}"}
                      for entry, plugin in zip(self.project.components, self._plugins.values(), strict=True)]
        document = {"version": self.project.manifest.version, "components": components, "start": self._starts}
        held = Lease(client, name, document, self.printer.say)
        held.begin()
        stack.callback(held.end)  # not before: what is known might be another's
        uses = ", ".join(f"{name}/{entry.name}" for entry in self.project.components)
        self.printer.say(f"the local server uses it as {uses}")
        return held

    def _shown_link(self, family: str, name: str) -> str:
        """The path of a link as short as it can be from here: sockets' paths have room for about a hundred bytes."""
        link = self.project.folder / PLACE / f"{family}-{name}.sock"
        here = os.path.relpath(link)
        return here if len(here) < len(str(link)) else str(link)

    def _tell_ended(self) -> None:
        for name, plugin in self._plugins.items():
            if plugin.ended:
                self.printer.say(f"{name} ended with {plugin.ended}; it starts again when a file changes", colour="red")

    def _watched(self) -> list[Path]:
        """What the plugin is made of; reports, bundles and pages that lie beside it are not."""
        found = [self.project.folder / "extension.toml", self.project.folder / "requirements.lock"]
        for source in self.project.sources:
            code = [source / "src"] if (source / "src").is_dir() else [
                path for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
            found += [*code, source / "pyproject.toml"]
        return [*found, self.config.resolve()] if self.config else found

    def _shown(self, changed: Sequence[Path]) -> str:
        names = [str(path.relative_to(self.project.folder) if path.is_relative_to(self.project.folder) else path)
                 for path in changed]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a TOML or JSON file.

    Raises:
        Invalid: It is neither, or holds no table; its contents are not repeated, for they may be secret.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Invalid(f"{path} cannot be read as {'JSON' if path.suffix == '.json' else 'TOML'}{where}.",
                      hint="Write one line for each setting, such as: token = \"…\"") from None
    if not isinstance(found, dict):
        raise Invalid(f"{path} is not a table of settings.", hint='Write {"token": "…"}.')
    return found
