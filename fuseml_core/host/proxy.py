"""Plugin objects that stand for a plugin in another process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fuseml_sdk import hookimpl
from fuseml_sdk.contract import Operation, operations

#: Sends one call: operation and named arguments in, result out.
Exchange = Callable[[Operation, dict[str, Any]], Any]


class Proxy:
    """A plugin whose hooks are generated; see :func:`make_proxy`."""


def make_proxy(hooks: Iterable[str], exchange: Exchange) -> Proxy:
    """Generate a plugin object for pluggy.

    pluggy reads parameter names from the code object, where a made-up signature is ignored; therefore each hook is a
    real function, compiled from text that only contains names of our own hookspecs.

    Args:
        hooks: Names that the other side implements; those unknown to this contract are left out.
        exchange: Called for each hook call.
    """
    table = operations()
    proxy = Proxy()
    for name in hooks:
        if name in table:
            setattr(proxy, name, hookimpl(_function(table[name], exchange)))
    return proxy


def _function(operation: Operation, exchange: Exchange) -> Callable[..., Any]:
    names = [parameter.name for parameter in operation.parameters]
    arguments = ", ".join(f"{name!r}: {name}" for name in names)
    source = f"def {operation.hook}({', '.join(names)}):\n    return exchange(operation, {{{arguments}}})\n"
    namespace: dict[str, Any] = {"exchange": exchange, "operation": operation}
    exec(compile(source, f"<proxy of {operation.hook}>", "exec"), namespace)  # noqa: S102
    function: Callable[..., Any] = namespace[operation.hook]
    return function
