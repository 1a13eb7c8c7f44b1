"""`serving()`: a plugin in a process of its own, for the tests of its author."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fuseml_sdk.testing.hosts import SubprocessHost
from fuseml_sdk.testing.served import ServedPlugin


@contextmanager
def serving(address: str, folder: Path, config: Mapping[str, Any] | None = None) -> Iterator[ServedPlugin]:
    """Serve a plugin while the block runs.

    ```python
    def test_my_store_finds_nothing_at_first(tmp_path):
        with serving("my_store.plugin:plugin", tmp_path) as plugin:
            assert plugin.call("store_search", query=StoreQuery()).items == []
    ```

    Everything passes through a process of its own and a real socket, so what works here works in a server.

    Args:
        address: `module:attribute`; anything that can be imported here can be served.
        folder: Directory for state and log, such as pytest's `tmp_path`; what a former start left there is found.
        config: Given to `fuseml_configure`.

    Raises:
        Internal: The process did not start; the message holds what it wrote.
    """
    served = SubprocessHost(address).start(folder, config or {})
    try:
        yield served
    finally:
        served.close()
