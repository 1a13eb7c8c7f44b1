"""`python -m fuseml_sdk.testing`: check a plugin without pytest, also one that runs elsewhere in another language."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuseml_sdk.errors import NotReady, PluginError
from fuseml_sdk.hookspecs import FAMILIES
from fuseml_sdk.testing.exchanges import HttpExchange, read_token
from fuseml_sdk.testing.exemptions import Exemptions, read_baseline
from fuseml_sdk.testing.hosts import AddressHost, Host, default_hosts, host_named
from fuseml_sdk.testing.reports import junit, scorecard, write_json
from fuseml_sdk.testing.samples import Samples
from fuseml_sdk.testing.subjects import describe_project, wheel_digests
from fuseml_sdk.testing.suite import Outcome, Suite

#: Seconds in which a plugin at an address has to answer for the first time.
_REACH = 30.0
_MARKS = {"passed": "ok", "failed": "FAILED", "stale": "FAILED", "exempt": "exempt", "not-applicable": "-"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a plugin. Returns 0 if it conforms, 1 if it does not, 2 if it could not be checked."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (PluginError, OSError, ImportError, ValueError) as error:
        sys.stderr.write(f"fuseml_sdk.testing: {error}\n")
        return 2


def _run(options: argparse.Namespace) -> int:
    suite = Suite(_hosts(options), config=json.loads(options.config.read_text()) if options.config else {},
                  samples=_samples(options.samples), families=options.family,
                  exemptions=read_baseline(options.baseline) if options.baseline else Exemptions())
    timed: list[tuple[Outcome, float]] = []
    last = time.monotonic()

    def told(outcome: Outcome) -> None:
        nonlocal last
        timed.append((outcome, time.monotonic() - last))
        last = time.monotonic()
        if options.output == "text":
            _print(outcome)

    suite.run(told)
    plugin = options.plugin or options.address
    document = scorecard([(plugin, suite)], extension=describe_project(Path.cwd()) if options.plugin else None,
                         wheels=wheel_digests(options.wheel))
    if options.report:
        write_json(options.report, document)
    if options.junit:
        options.junit.write_bytes(junit({plugin: timed}))
    if options.output == "json":
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _summarise(document["plugins"][0])
    return 1 if any(outcome.bad for outcome in suite.outcomes) or not suite.outcomes else 0


def _print(outcome: Outcome) -> None:
    print(f"{_MARKS[outcome.kind]:>7}  {outcome.rule.id:<7} {outcome.host:<11} {outcome.rule.title}", flush=True)
    if outcome.bad:
        print("\n".join(f"         {line}" for line in outcome.explain().splitlines()[1:]), flush=True)
    elif outcome.kind == "exempt":
        print(f"         {outcome.text}", flush=True)


def _summarise(plugin: dict[str, Any]) -> None:
    print(f"\n{plugin['plugin']}: level {plugin['level']}; {plugin['passed']} rules passed, {plugin['failed']} failed, "
          f"{plugin['exempt']} exempt, {plugin['not_applicable']} not applicable")


def _hosts(options: argparse.Namespace) -> Sequence[Host]:
    if options.address:
        token = read_token(options.token_file)
        try:
            HttpExchange(options.address, token)("GET", "/healthz", None, {}, _REACH)
        except OSError as error:
            raise NotReady(f"nobody answers at {options.address}: {error}", hint="Start the plugin first.") from None
        return [AddressHost(options.address, token)]
    # As `python -m` does for the module itself, so that a plugin in this folder can be imported.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return [host_named(name, options.plugin) for name in options.host] or default_hosts(options.plugin)


def _samples(address: str | None) -> Samples | None:
    if not address:
        return None
    from fuseml_sdk.loading import load

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    loaded = load(address)
    if not isinstance(loaded, Samples):
        raise ValueError(f"{address} is no fuseml_sdk.testing.Samples")
    return loaded


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuseml_sdk.testing", description=main.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("plugin", nargs="?", metavar="MODULE:ATTRIBUTE", help="a plugin of this Python environment")
    what.add_argument("--address", help="of a plugin that runs: unix:/path, http://host:port or https://host:port")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="with the bearer token for --address")
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON object for fuseml_configure")
    parser.add_argument("--family", action="append", default=[], choices=[f for f in FAMILIES if f != "fuseml"],
                        help="check only rules of these families (and those for all); repeatable")
    parser.add_argument("--host", action="append", default=[], metavar="HOST",
                        help="in-process, subprocess, asgi or address (on a TCP port, needs uvicorn); repeatable; "
                        "by default all but address")
    parser.add_argument("--samples", metavar="MODULE:CLASS", help="what rules give to the plugin")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="conformance.toml with exemptions")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write scorecard.json here")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML here")
    parser.add_argument("--wheel", type=Path, action="append", default=[], metavar="FILE",
                        help="wheel whose digest the scorecard names; repeatable")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    return parser


if __name__ == "__main__":
    sys.exit(main())
