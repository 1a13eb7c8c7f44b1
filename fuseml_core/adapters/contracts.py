"""Components of the plugin host as speakers of a contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fuseml_core.host.components import Component
from fuseml_core.host.plugin_host import PluginHost
from fuseml_core.service.contracts import Speaker
from fuseml_sdk.compatibility import current, read
from fuseml_sdk.errors import PluginError


def speakers(host: PluginHost) -> Iterator[Speaker]:
    """Every component with its last agreement and the contract of the SDK in its environment; starts none."""
    for info in host.components():
        it = info.component
        yield Speaker(it.extension, it.version, it.family, it.name, it.hosting, info.state,
                      info.agreement.as_dict() if info.agreement else None, _contract(it))


def _contract(component: Component) -> dict[str, Any] | None:
    if component.hosting == "in-process":
        return current()
    if component.python is None:
        return None
    try:
        return read(component.python)
    except PluginError:  # No SDK in it, or one that was damaged: `extension verify` says so.
        return None
