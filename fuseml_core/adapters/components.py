"""Components of the plugin host, found by what they are for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog

from fuseml_core.adapters.routes import Routes, route_name
from fuseml_core.domain.errors import FusemlError, NotFound, Unavailable
from fuseml_core.domain.extensions import InstalledExtension, Rest
from fuseml_core.host import AgentFacade, BuilderFacade, Component, Family, PluginHost, StoreFacade
from fuseml_core.host.facades import Caller, default_timeout
from fuseml_sdk.contract import operations
from fuseml_sdk.errors import NotReady, PluginError
from fuseml_sdk.types import AgentDescription

log = structlog.get_logger(__name__)


class HostedPlugins:
    """Implements the port `Components` over the plugin host.

    What it gives out follows a name: when another version, or the same with other settings, comes into force, the next
    call goes there, and one that the change has cut off is made again.

    Args:
        host: The plugin host. Built-in components come first where several would do.
        variables: The settings of an extension as environment variables.
        routes: Where the names of plugins of extensions lead; None: to whatever is in the host.
        installed: The installed extensions.
        resting: Why nothing of an extension is loaded now; None when it may be.
    """

    def __init__(self, host: PluginHost, variables: Callable[[str], dict[str, str]], routes: Routes | None = None,
                 installed: Callable[[], Sequence[InstalledExtension]] = tuple,
                 resting: Callable[[str], Rest | None] = lambda _name: None) -> None:
        self._host, self._variables, self._routes = host, variables, routes
        self._installed, self._resting = installed, resting
        self._descriptions: dict[str, tuple[Component, dict[str, Any]]] = {}

    def store(self, kind: str, name: str = "") -> StoreFacade:
        """A store by name, or the built-in one of a kind; see `Components`."""
        if name:
            return self._store_named(name)
        for component in self._of("store"):
            if kind in self._description(component)["kinds"]:
                return StoreFacade(self._caller("store", component))
        for asleep, rest in self._asleep("store", lambda described: kind in (described.get("kinds") or [])):
            return StoreFacade(_refusing(f"the artifact store {asleep} keeps {kind}s", rest))
        raise Unavailable(f"no artifact store keeps artifacts of kind {kind}", hint="See `fuseml plugin list`.")

    def stores(self) -> Sequence[tuple[str, StoreFacade]]:
        """All stores by name."""
        return [(route_name(i), StoreFacade(self._caller("store", i))) for i in self._of("store")]

    def watched(self) -> Sequence[tuple[str, StoreFacade]]:
        """Stores that tell what happens in them; those that describe themselves only now are started for that."""
        found = []
        for component in self._of("store"):
            try:
                described = self._description(component)
            except (FusemlError, PluginError) as error:
                log.warning("store does not describe itself", store=component.title, error=str(error))
                continue
            if "events" in described["capabilities"]:
                found.append((route_name(component), StoreFacade(self._caller("store", component))))
        return found

    def agent(self, name: str) -> AgentFacade:
        """A workload agent by name; see `Components`."""
        for component in sorted(self._host.registered(), key=lambda c: bool(c.digest)):
            if component.family == "agent" and route_name(component) == name and self._leads_to(component):
                return AgentFacade(self._caller("agent", component))
        for other, rest in self._asleep("agent"):
            if other == name:
                return AgentFacade(_refusing(f"the workload agent {name} does not run", rest))
        raise Unavailable(f"there is no workload agent {name!r}", hint="See `fuseml plugin list`.")

    def agents(self) -> Sequence[tuple[str, AgentFacade]]:
        """All workload agents by name that take new workloads."""
        return [(route_name(i), AgentFacade(self._caller("agent", i))) for i in self._of("agent")]

    def resting_agents(self) -> Sequence[tuple[str, AgentDescription | None, Rest]]:
        """Agents that are installed and not loaded now, what they have said of themselves, and why they rest."""
        return [(f"{extension.name}/{entry['name']}", AgentDescription.model_validate(told) if told else None, rest)
                for extension in self._installed() if (rest := self._resting(extension.name))
                for entry in extension.components if entry["family"] == "agent"
                for told in [extension.described.get(f"agent/{entry['name']}")]]

    def builders(self) -> Sequence[tuple[str, BuilderFacade]]:
        """All builders by name."""
        return [(route_name(i), BuilderFacade(self._caller("builder", i)))
                for i in self._of("builder")]

    def resting_builders(self) -> Sequence[tuple[str, Rest]]:
        """Builders that are installed and not loaded now, and why they rest."""
        return list(self._asleep("builder"))

    def variables(self, extension: str) -> dict[str, str]:
        """The settings of an extension for workloads; see `Components`."""
        return self._variables(extension)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _store_named(self, name: str) -> StoreFacade:
        for component in self._of("store"):
            if route_name(component) == name:
                return StoreFacade(self._caller("store", component))
        for other, rest in self._asleep("store"):
            if other == name:
                return StoreFacade(_refusing(f"the artifact store {name} does not run", rest))
        raise Unavailable(f"there is no artifact store {name!r}", hint="Install its extension again, or see what there "
                          "is: fuseml plugin list")

    def _of(self, family: str) -> list[Component]:
        """Components of a family that may be given something new."""
        found = [i for i in self._host.registered() if i.family == family and self._leads_to(i)
                 and (not i.digest or self._resting(i.extension) is None)]
        # What an author is developing (it has no digest) stands before the installed version of the same name.
        return sorted(found, key=lambda i: (i.hosting != "in-process", bool(i.digest), i.id))

    def _leads_to(self, component: Component) -> bool:
        """Whether a name leads to a component: what is only being tried, or is on its way out, gets nothing."""
        return self._routes is None or not component.digest or component.id in self._routes.ids()

    def _asleep(self, family: str, fits: Callable[[dict[str, Any]], bool] = lambda _described: True,
                ) -> Iterator[tuple[str, Rest]]:
        """Names of plugins of which nothing is loaded although they are installed, and why."""
        for extension in self._installed():
            rest = self._resting(extension.name)
            for entry in extension.components if rest else []:
                described = extension.described.get(f"{family}/{entry['name']}") or {}
                if rest and entry["family"] == family and fits(described):
                    yield f"{extension.name}/{entry['name']}", rest

    def _description(self, component: Component) -> Any:
        """What a store says about itself, asked once: by this server, or when the version was checked."""
        # What an author is developing says something else after a change; it is another component then.
        if self._descriptions.get(component.id, (None,))[0] is not component:
            known = {e.digest: e.described for e in self._installed()} if component.digest else {}
            found = (known.get(component.digest) or {}).get(f"{component.family}/{component.name}")
            self._descriptions[component.id] = (
                component, found or self._host.store(component.id).describe().model_dump())
        return self._descriptions[component.id][1]

    def _caller(self, family: Family, component: Component) -> Caller:
        """Calls hooks of whatever the name of a component leads to at that moment."""
        name, first = route_name(component), component.id

        def now() -> str:
            return (self._routes.find(family, name) if self._routes is not None and component.digest else "") or first

        def call(hook: str, arguments: dict[str, Any], timeout: float | None) -> Any:
            seconds = default_timeout(hook, arguments) if timeout is None else timeout
            until = time.monotonic() + seconds
            while True:
                identifier = now()
                try:
                    result = self._host.call(identifier, hook, arguments, max(0.001, until - time.monotonic()))
                    # A process on its way out may hear of its successor's work, and judges it by its own settings.
                    if not hook.endswith("_events") or now() == identifier:
                        return result
                except NotFound:
                    if now() == identifier:
                        raise self._gone(name, component) from None
                except PluginError as error:
                    again = error.retryable or operations()[hook].idempotent
                    if not again or now() == identifier or time.monotonic() >= until:
                        raise

        return call

    def _gone(self, name: str, component: Component) -> Exception:
        rest = self._resting(component.extension)
        if rest is not None:
            return NotReady(f"{name} does not run: {rest.reason}", hint=rest.hint)
        return Unavailable(f"there is no {component.family} {name!r} any more", hint="See `fuseml plugin list`.")


def _refusing(what: str, rest: Rest) -> Caller:
    """Answers every call with why there is nobody to answer it."""
    def call(_hook: str, _arguments: dict[str, Any], _timeout: float | None) -> Any:
        raise NotReady(f"{what}, but {rest.reason}", hint=rest.hint)

    return call
