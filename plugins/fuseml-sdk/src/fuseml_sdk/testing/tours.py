"""A tour through a plugin: calls of every hook it offers that do no harm, whatever comes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from fuseml_sdk.errors import PluginError
from fuseml_sdk.testing.bench import Bench
from fuseml_sdk.testing.served import ServedPlugin
from fuseml_sdk.types import BuildRequest, FileListing, StoreQuery


def tour(bench: Bench, plugin: ServedPlugin) -> None:
    """Call every hook that the plugin offers at least once; errors are part of the tour."""
    offered = set(plugin.describe().get("hooks") or ())
    for hook, arguments in _calls(bench, plugin, offered):
        if hook in offered:
            with contextlib.suppress(PluginError):
                plugin.call(hook, **arguments)
    with contextlib.suppress(PluginError):
        plugin.document("GET", "/readyz")


def _calls(bench: Bench, plugin: ServedPlugin, offered: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "fuseml_health", {}
    if "store_describe" in offered:
        yield from _store_calls(bench, plugin, offered)
    if "agent_describe" in offered:
        yield from _agent_calls()
    if "builder_describe" in offered:
        yield "builder_describe", {}
        yield "builder_detect", {"listing": FileListing()}
        here = str(bench.folder())
        request = BuildRequest(project="conformance", name="nothing", digest="", directory=here,
                               output=str(bench.folder()))
        yield "builder_build", {"request": request}


def _store_calls(bench: Bench, plugin: ServedPlugin, offered: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "store_describe", {}
    refs = []
    with contextlib.suppress(PluginError):
        refs.append(bench.samples.missing(plugin))
        if "store_register" in offered:
            request = bench.samples.artifact(plugin, bench.folder(), "tour")
            refs.append(plugin.call("store_register", request=request).ref)
    for ref in refs:
        yield "store_get", {"ref": ref}
        yield "store_locate", {"ref": ref, "accepts": ["file", "git+file", "http"]}
        yield "store_files", {"ref": ref, "read": ["*"], "max_bytes": 1000}
        yield "store_ui_url", {"ref": ref}
    yield "store_search", {"query": StoreQuery()}
    yield "store_events", {"cursor": "", "wait": 0.0}
    yield "store_collect_garbage", {"keep": [], "dry_run": True}


def _agent_calls() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "agent_describe", {}
    yield "agent_status", {"names": ["conformance-nothing"]}
    yield "agent_events", {"cursor": "", "wait": 0.0}
    yield "agent_logs", {"name": "conformance-nothing", "cursor": "", "limit": 1000}
    yield "agent_collect", {"name": "conformance-nothing"}
