"""The plugin host: runs components in this process or in their own, and gives typed access to their hooks."""

from __future__ import annotations

from fuseml_core.host.components import Component, ComponentInfo, Family, HostingMode, State
from fuseml_core.host.discovery import Discovered, discover, first_party
from fuseml_core.host.facades import AgentFacade, BuilderFacade, StoreFacade
from fuseml_core.host.plugin_host import PluginHost

__all__ = ["AgentFacade", "BuilderFacade", "Component", "ComponentInfo", "Discovered", "Family", "HostingMode",
           "PluginHost", "State", "StoreFacade", "discover", "first_party"]
