"""CORE21 to CORE24: configuration, secrets, and where a plugin writes."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fuseml_sdk.testing import observed
from fuseml_sdk.testing.bench import Bench
from fuseml_sdk.testing.expectations import brief, expect
from fuseml_sdk.testing.hosts import SubprocessHost
from fuseml_sdk.testing.rules import Rulebook
from fuseml_sdk.testing.tours import tour

BOOK = Rulebook()
_SECRET = re.compile(r"secret|password|passwd|token|credential|api_?key|private_?key", re.IGNORECASE)
#: Shorter values are words that stand in any log.
_SHORTEST_SECRET = 6


@BOOK.rule("CORE21", "Without configuration it starts, or says what is missing.", needs=["restart"],
           why="Everybody installs first and configures then; a stack trace tells them nothing.",
           fix="Give settings defaults, or raise InvalidInput naming the setting.")
def _starts_unconfigured(bench: Bench) -> None:
    _starts(bench, {}, unless=("invalid-input", "not-ready"))


@BOOK.rule("CORE22", "A setting that it does not know makes no defect.", needs=["restart"],
           why="After a roll-back an older version gets the settings of a newer one.",
           fix="Ignore settings that you do not know, or raise InvalidInput naming them.")
def _tolerates_unknown_settings(bench: Bench) -> None:
    config = {**bench.config(bench.folder()), "x_unknown_setting": {"nested": [1, "ü", None]}}
    _starts(bench, config, unless=("invalid-input",))


@BOOK.rule("CORE23", "Secrets are in no log, no answer and no error.", needs=["process"],
           why="Logs and errors are shown, copied and kept by people who may not know the secret.",
           fix="Log names of settings, never their values; do not put the configuration into messages.")
def _keeps_secrets(bench: Bench) -> None:
    canary = f"canary-{secrets.token_hex(12)}"
    config = {**bench.config(bench.folder()), "conformance_password": canary}
    hidden = {canary, *_secrets(config, bench.secrets)}
    with bench.fresh(config) as plugin:
        tour(bench, plugin)
        said = [str(plugin.ask("GET", path).body) for path in ("/v1/describe", "/readyz")]
        said += [exchange.answer.body.decode(errors="replace") for exchange in plugin.observed]
        plugin.process.terminate() if plugin.process else None
        plugin.process.wait() if plugin.process else None
        places = [("its log", plugin.written()), *(("an answer", text) for text in said)]
        for place, text in places:
            expect(not any(value in text for value in hidden), f"{place} holds the value of a secret setting")


@BOOK.rule("CORE24", "It writes only below its state directory and the directories of its configuration.",
           needs=["python"], level="silver",
           why="What lies elsewhere is not backed up, not removed with the extension, and refused by confined hosts.",
           fix="Make paths from state_dir; for scratch files use the tempfile module, which follows TMPDIR.")
def _writes_at_home(bench: Bench) -> None:
    folder = bench.folder()
    config = bench.config(folder)
    report = bench.folder() / "writes"
    report.touch()
    host = SubprocessHost(bench.address, command=("-m", observed.__name__), environment={
        observed.REPORT: str(report), "PYTHONDONTWRITEBYTECODE": "1"})
    plugin = host.start(folder, config)
    try:
        tour(bench, plugin)
    finally:
        plugin.close()
    allowed = [folder, *bench.given, *_folders(config), Path("/dev"), Path("/proc/self")]
    strays = sorted({place for place in report.read_text(errors="replace").splitlines()
                     if not any(Path(place).is_relative_to(root) or Path(place).resolve().is_relative_to(root.resolve())
                                for root in allowed)})
    expect(not strays, f"it wrote {brief(strays)}")


def _starts(bench: Bench, config: Mapping[str, Any], unless: tuple[str, ...]) -> None:
    """Say how it fails to start with a configuration, unless by an error of some types."""
    with bench.fresh(config) as plugin:
        failure = plugin.describe().get("failure") or {}
        expect(not failure or failure.get("type") in unless,
               f"it fails with {failure.get('type')}: {failure.get('detail')}")


def _secrets(config: Mapping[str, Any], named: tuple[str, ...]) -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _secrets(value, named)
        elif isinstance(value, str) and len(value) >= _SHORTEST_SECRET and (name in named or _SECRET.search(name)):
            yield value


def _folders(value: Any) -> Iterator[Path]:
    """Absolute paths in a configuration: whoever wrote it allows the plugin to write there."""
    if isinstance(value, str) and value.startswith("/"):
        yield Path(value)
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _folders(inner)
