"""What installing extensions needs of the world: registries, virtual environments and the plugin host."""

from __future__ import annotations

from fuseml_core.adapters.extensions.bundles import RegistryBundles
from fuseml_core.adapters.extensions.components import HostedComponents, component_id
from fuseml_core.adapters.extensions.environments import UvEnvironments

__all__ = ["HostedComponents", "RegistryBundles", "UvEnvironments", "component_id"]
