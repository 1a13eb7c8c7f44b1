"""pytest plugin of the kit: fixtures for authors, and the scorecard of a session.

pytest loads it in every project whose environment holds fuseml-sdk, so importing it costs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fuseml_sdk.testing.served import ServedPlugin

SCORECARD_OPTION = "--fuseml-scorecard"
WHEEL_OPTION = "--fuseml-wheel"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for the scorecard."""
    group = parser.getgroup("fuseml", "conformance of FuseML plugins")
    group.addoption(SCORECARD_OPTION, type=Path, metavar="FILE", help="write what conformance() saw to this file")
    group.addoption(WHEEL_OPTION, type=Path, action="append", default=[], metavar="FILE",
                    help="wheel whose digest the scorecard names; repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """Make places in options absolute before a test changes the working directory."""
    if config.getoption(SCORECARD_OPTION):
        if getattr(config.option, "numprocesses", None):
            raise pytest.UsageError(f"{SCORECARD_OPTION} is computed in one process: leave -n of pytest-xdist out")
        config.option.fuseml_scorecard = config.getoption(SCORECARD_OPTION).absolute()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the scorecard, if one is wanted and a conformance class ran."""
    path = session.config.getoption(SCORECARD_OPTION)
    classes = sys.modules.get("fuseml_sdk.testing.classes")
    if path is None or classes is None:
        return
    from fuseml_sdk.testing.reports import scorecard, write_json
    from fuseml_sdk.testing.subjects import describe_project, wheel_digests

    if any(suite.outcomes for _, suite in classes.SUITES):
        write_json(path, scorecard(classes.SUITES, extension=describe_project(session.config.rootpath),
                                   wheels=wheel_digests(session.config.getoption(WHEEL_OPTION))))


@pytest.fixture
def served_plugin(tmp_path: Path) -> Iterator[Callable[..., ServedPlugin]]:
    """Plugins in processes of their own until the test ends: `served_plugin(MyStore, config={...})`.

    Nothing of the developer's machine reaches them but the search path and a few variables about networks.
    """
    from fuseml_sdk.testing.classes import address_of
    from fuseml_sdk.testing.own_process import serving

    with ExitStack() as stack:
        count = 0

        def serve(plugin: object, config: Mapping[str, Any] | None = None, folder: Path | None = None) -> ServedPlugin:
            nonlocal count
            count += 1
            place = folder or tmp_path / f"served-{count}"
            place.mkdir(exist_ok=True)
            address = plugin if isinstance(plugin, str) else address_of(plugin)
            return stack.enter_context(serving(address, place, config))

        yield serve


@pytest.fixture
def tmp_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Plugin modules for this test alone: `tmp_plugin("class Plugin: …")` gives the address `module:Plugin`."""
    numbers = iter(range(1, 1000))

    def write(source: str, attribute: str = "Plugin") -> str:
        name = f"tmp_plugin_{tmp_path.name.replace('-', '_')}_{next(numbers)}"
        folder = tmp_path / "tmp-plugins"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(str(folder))
        return f"{name}:{attribute}"

    return write


@pytest.fixture
def kill9() -> Callable[..., Any]:
    """End a served plugin at once, as `kill9(plugin)` does."""
    from fuseml_sdk.testing import faults

    return faults.kill9


@pytest.fixture
def hang() -> Callable[..., Any]:
    """Let a served plugin stand still while a block runs."""
    from fuseml_sdk.testing import faults

    return faults.hang


@pytest.fixture
def full_disk() -> Callable[..., Any]:
    """Let a served plugin write no more while a block runs: with ENOSPC if `small_disk` serves it, else with EFBIG."""
    from fuseml_sdk.testing import faults

    return faults.full_disk


@pytest.fixture
def oom() -> Callable[..., Any]:
    """Let a served plugin have no more memory while a block runs."""
    from fuseml_sdk.testing import faults

    return faults.oom


@pytest.fixture
def gil_hog(serve_faulty: Callable[..., ServedPlugin]) -> Callable[..., ServedPlugin]:
    """Serve a plugin whose interpreter is held for some seconds from now: `gil_hog(MyStore, 2.0)`."""
    from fuseml_sdk.testing import faults

    def hold(plugin: object, seconds: float, config: Mapping[str, Any] | None = None) -> ServedPlugin:
        served = serve_faulty(plugin, config, gil_hog=seconds)
        faults.gil_hog(served)
        return served

    return hold


@pytest.fixture
def slow_start(serve_faulty: Callable[..., ServedPlugin]) -> Callable[..., ServedPlugin]:
    """Serve a plugin that takes some seconds to start: `slow_start(MyStore, 2.0)`."""
    return lambda plugin, seconds, config=None: serve_faulty(plugin, config, slow_start=seconds)


@pytest.fixture
def broken_import(serve_faulty: Callable[..., ServedPlugin]) -> Callable[..., ServedPlugin]:
    """Serve a plugin in whose environment a module is broken: `broken_import(MyStore, "numpy")`."""
    return lambda plugin, module, config=None: serve_faulty(plugin, config, broken_import=module)


@pytest.fixture
def small_disk(serve_faulty: Callable[..., ServedPlugin]) -> Callable[..., ServedPlugin]:
    """Serve a plugin whose state directory is a disk of its own, of some bytes: `small_disk(MyStore, 8 << 20)`.

    Its contents are seen by the plugin alone. Linux mounts it for root, and for others where user namespaces are
    allowed; elsewhere there is none, and the log says so.
    """
    return lambda plugin, size, config=None: serve_faulty(plugin, config, disk=size)


@pytest.fixture
def serve_faulty(tmp_path: Path) -> Iterator[Callable[..., ServedPlugin]]:
    """Serve plugins with faults; see :func:`fuseml_sdk.testing.faults.faulty_host`."""
    from fuseml_sdk.testing.classes import address_of
    from fuseml_sdk.testing.faults import faulty_host

    numbers = iter(range(1, 1000))
    with ExitStack() as stack:
        def serve(plugin: object, config: Mapping[str, Any] | None = None, **kinds: Any) -> ServedPlugin:
            place = tmp_path / f"faulty-{next(numbers)}"
            place.mkdir()
            address = plugin if isinstance(plugin, str) else address_of(plugin)
            served = faulty_host(address, **kinds).start(place, config or {})
            stack.callback(served.close)
            return served

        yield serve
