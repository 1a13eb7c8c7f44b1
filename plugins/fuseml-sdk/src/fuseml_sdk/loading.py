"""From `module:attribute` to a plugin that answers hooks."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pluggy

from fuseml_sdk import PROJECT, deprecations
from fuseml_sdk.errors import Internal, Permanent, Unsupported
from fuseml_sdk.hookspecs import FAMILIES
from fuseml_sdk.misfits import misfits


def load(address: str) -> object:
    """Import a plugin object. A class is instantiated without arguments.

    Args:
        address: `module:attribute`; the attribute may be dotted.

    Raises:
        Permanent: The address is malformed, or there is no such module or attribute.
        Exception: Whatever importing the module raises.
    """
    module, _, attribute = address.partition(":")
    if not module or not attribute:
        raise Permanent(f"plugin address {address!r} is not `module:attribute`")
    found: Any = importlib.import_module(module)
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise Permanent(f"module {module!r} has no attribute {attribute!r}",
                            hint="Correct `plugin` in the extension's manifest.") from None
    return found() if inspect.isclass(found) else found


def empty_manager() -> pluggy.PluginManager:
    """A plugin manager that knows every hookspec and has no plugin yet."""
    manager = pluggy.PluginManager(PROJECT)
    for specs in FAMILIES.values():
        manager.add_hookspecs(specs)
    return manager


def manager_for(plugin: object) -> pluggy.PluginManager:
    """A plugin manager that holds exactly this plugin.

    Raises:
        Permanent: A hook of the plugin does not exist or has the wrong parameters, or it implements none.
    """
    manager = empty_manager()
    try:
        manager.register(plugin, name="plugin")
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        reason = "; ".join(misfits(plugin, manager)) or error
        raise Permanent(f"the plugin does not fit the contract: {reason}", hint=_remedy(plugin)) from None
    if not manager.get_hookcallers(plugin):
        raise Permanent("the plugin implements no hook", hint="Mark its hooks with @fuseml_sdk.hookimpl.")
    return manager


def _remedy(plugin: object) -> str:
    """What to do about a plugin that does not fit: what became of the hooks and arguments that it still has."""
    gone = []
    for (hook, argument), notice in deprecations.CONTRACT.gone.items():
        function = getattr(plugin, hook, None)
        if callable(function) and (not argument or argument in inspect.signature(function).parameters):
            gone.append(f"{notice.obituary[0].upper()}{notice.obituary[1:]}.")
    return " ".join([*gone, "Compare: fuseml plugin contract show HOOK"])


def deprecated(manager: pluggy.PluginManager) -> list[deprecations.Notice]:
    """What the manager's plugin uses of the contract that is going to be removed; pluggy has warned of it, too."""
    return [notice for plugin in manager.get_plugins() for notice in deprecations.used_by(manager, plugin)]


def implemented(manager: pluggy.PluginManager) -> list[str]:
    """Names of the hooks that the manager's plugin implements."""
    from fuseml_sdk.contract import operations

    return [name for name in operations() if getattr(manager.hook, name).get_hookimpls()]


def families(manager: pluggy.PluginManager) -> list[str]:
    """What the plugin is: any of store, agent and builder."""
    prefixes = {name.partition("_")[0] for name in implemented(manager)}
    return [family for family in FAMILIES if family in prefixes and family != "fuseml"]


def caller(manager: pluggy.PluginManager, hook: str) -> Callable[..., Any]:
    """The way to call one hook of the manager's only plugin by named arguments, to be kept for many calls.

    Calling it gives the result, of a broadcast hook that of this plugin; it raises `Internal` when the plugin returned
    nothing where something is due, and whatever the plugin raises.

    Raises:
        Unsupported: The plugin does not implement the hook.
    """
    from fuseml_sdk.contract import operations

    found = getattr(manager.hook, hook)
    if not found.get_hookimpls():
        raise Unsupported(f"the plugin does not offer {hook}")
    first_only = bool(found.spec and found.spec.opts.get("firstresult"))
    due = not operations()[hook].returns_nothing

    def call_it(**arguments: Any) -> Any:
        result = found(**arguments)
        if not first_only:
            result = result[0] if result else None
        if result is None and due:
            raise Internal(f"{hook} returned nothing")
        return result

    return call_it


def call(manager: pluggy.PluginManager, hook: str, arguments: dict[str, Any]) -> Any:
    """Call one hook once; see :func:`caller`.

    Raises:
        Unsupported: The plugin does not implement it.
        Internal: The plugin returned nothing where something is due.
        Exception: Whatever the plugin raises.
    """
    return caller(manager, hook)(**arguments)
