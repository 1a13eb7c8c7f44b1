"""The contract: every hook a FuseML plugin may implement, in three families.

A plugin object implements the hooks of one or more families: `store_*` makes it an artifact store, `agent_*` a
workload agent, `builder_*` a builder. `fuseml_*` hooks are its life cycle. Hooks are synchronous, take and return
data only, and may be called from several threads, at most `describe().concurrency` at once. A hook takes as many of
the arguments of its specification as it needs, by name.

What is wrong is told by raising one of :mod:`fuseml_sdk.errors`; any other exception counts as a defect of the
plugin. The deadline of a call, and whether its caller has given up, is in :func:`fuseml_sdk.calls.current`.
"""

from __future__ import annotations

from fuseml_sdk.hookspecs.agents import AgentSpecs
from fuseml_sdk.hookspecs.builders import BuilderSpecs
from fuseml_sdk.hookspecs.lifecycle import LifecycleSpecs
from fuseml_sdk.hookspecs.marker import hookspec
from fuseml_sdk.hookspecs.stores import StoreSpecs

#: Version of the contract on the wire; `/v1/` in its routes.
PROTOCOL = 1

#: Specification classes by family; the prefix of a hook's name is its family.
FAMILIES: dict[str, type] = {
    "fuseml": LifecycleSpecs,
    "store": StoreSpecs,
    "agent": AgentSpecs,
    "builder": BuilderSpecs,
}

#: Hooks that may be called again after a lost connection, because a second call changes nothing more.
IDEMPOTENT = frozenset({
    "fuseml_health", "store_describe", "store_register", "store_get", "store_search", "store_update", "store_delete",
    "store_locate", "store_files", "store_events", "store_ui_url", "agent_describe", "agent_submit", "agent_status",
    "agent_events", "agent_logs", "agent_cancel", "agent_collect", "builder_describe", "builder_detect",
})

#: Hooks that a plugin of a family cannot do without; the others are optional.
REQUIRED: dict[str, frozenset[str]] = {
    "store": frozenset({"store_describe", "store_get", "store_locate"}),
    "agent": frozenset({"agent_describe", "agent_submit", "agent_status", "agent_events", "agent_logs", "agent_cancel",
                        "agent_collect"}),
    "builder": frozenset({"builder_describe", "builder_detect", "builder_build"}),
}

__all__ = ["FAMILIES", "IDEMPOTENT", "PROTOCOL", "REQUIRED", "AgentSpecs", "BuilderSpecs", "LifecycleSpecs",
           "StoreSpecs", "hookspec"]
