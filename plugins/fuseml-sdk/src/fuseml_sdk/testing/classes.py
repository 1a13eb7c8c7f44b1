"""`conformance()`: the suite as a pytest class, one test for each rule in each host."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuseml_sdk import loading
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.hookspecs import FAMILIES
from fuseml_sdk.testing.bench import Config
from fuseml_sdk.testing.exemptions import Exemptions, find_baseline, read_baseline
from fuseml_sdk.testing.hosts import Host, default_hosts, host_named
from fuseml_sdk.testing.rules import Rule, all_rules
from fuseml_sdk.testing.samples import Samples
from fuseml_sdk.testing.suite import Outcome, Suite

#: Suites of this session, for the scorecard.
SUITES: list[tuple[str, Suite]] = []


def conformance(plugin: object, *, config: Config | None = None, exempt: Mapping[str, str] | None = None,
                samples: Samples | None = None, hosts: Sequence[str | Host] | None = None,
                secrets: Sequence[str] = (), families: Sequence[str] = (), baseline: Path | None = None) -> type:
    """Make a pytest class that checks a plugin against every rule that concerns it, in every host.

    ```python
    from fuseml_sdk.testing import conformance
    from my_store import MyStore

    TestMyStore = conformance(MyStore, config={"endpoint": "http://127.0.0.1:9000"})
    ```

    Args:
        plugin: Class or object of the plugin, or its address `module:attribute`.
        config: For `fuseml_configure`, or a function that makes it of the folder of a start.
        exempt: Rules that may fail, with reasons; added to those of the baseline. `RULE/host` exempts in one host.
        samples: What rules give to the plugin; see :class:`Samples`.
        hosts: Names (in-process, subprocess, asgi, address) or objects of hosts; by default all but `address`, which
            serves the plugin on a TCP port and needs uvicorn.
        secrets: Names of settings whose values must never be seen in logs.
        families: What the plugin is; found out by default, needed with hosts at an address.
        baseline: File of exemptions; by default the `conformance.toml` nearest to the calling file.

    Raises:
        InvalidInput: The plugin cannot be named as `module:attribute`, or an exemption or the samples are wrong.
    """
    if samples is not None and not isinstance(samples, Samples):
        raise InvalidInput(f"samples is {samples!r}, not an object of a class derived from fuseml_sdk.testing.Samples")
    caller = inspect.stack()[1]
    address = plugin if isinstance(plugin, str) else address_of(plugin)
    found = baseline or find_baseline(Path(caller.filename).resolve().parent)
    exemptions = (read_baseline(found) if found else Exemptions()).with_more(exempt or {})
    chosen = [host_named(each, address) if isinstance(each, str) else each for each in hosts or default_hosts(address)]
    if any("process" in host.traits for host in chosen):
        _check_importable(address)
    suite = Suite(chosen, config=config, samples=samples, exemptions=exemptions, secrets=secrets,
                  families=families or _families(address))
    SUITES.append((address, suite))
    body: dict[str, Any] = {"__module__": caller.frame.f_globals.get("__name__", __name__), "suite": suite,
                            "__doc__": f"Conformance of {address}.", "teardown_class": classmethod(_teardown)}
    for rule in all_rules():
        able = [host for host in chosen if rule.needs <= host.traits]
        if able and rule.concerns(suite.families):
            body[f"test_{rule.name}"] = _test(rule, able)
    return type(f"Test{address.rpartition(':')[2].rpartition('.')[2].title()}Conformance", (), body)


def address_of(plugin: object) -> str:
    """`module:attribute` by which another process can import a plugin.

    Raises:
        InvalidInput: It cannot be imported by a name.
    """
    if inspect.isclass(plugin):
        module, attribute = plugin.__module__, plugin.__qualname__
    elif inspect.ismodule(plugin):
        raise InvalidInput(f"{plugin.__name__} is a module", hint="Give the plugin's class or object.")
    else:
        # Where its class is, or wherever else it was made.
        loaded = {name: each for name, each in sys.modules.items() if inspect.ismodule(each)}
        places = [name for name in (type(plugin).__module__, *loaded) if name in loaded]
        module, attribute = next(((place, name) for place in places for name, value in list(vars(loaded[place]).items())
                                  if value is plugin), ("", "<object>"))
    if "<" in attribute:
        raise InvalidInput(f"the plugin {plugin!r} cannot be imported by another process",
                           hint="Define it at the top of a module, or give its address `module:attribute`.")
    return f"{module}:{attribute}"


def _check_importable(address: str) -> None:
    """Refuse a module that is in this process only, such as a test that pytest imported by the name of its file."""
    module = address.partition(":")[0]
    top = module.partition(".")[0]
    if module in sys.modules and not any(finder.find_spec(top, None) for finder in sys.meta_path):
        raise InvalidInput(f"the module {module} of the plugin is not on the search path of other processes",
                           hint="Put the plugin into a module of its own, and its folder into `pythonpath` of pytest's "
                                "configuration.")


def _test(rule: Rule, hosts: Sequence[Host]) -> Any:
    import pytest

    def test(self: Any, host: Host) -> None:
        _tell(self.suite.check(rule, host))

    test.__doc__ = f"{rule.id} {rule.title}"
    return pytest.mark.parametrize("host", hosts, ids=[host.name for host in hosts])(test)


def _tell(outcome: Outcome) -> None:
    import pytest

    if outcome.bad:
        pytest.fail(outcome.explain(), pytrace=False)
    if outcome.kind == "not-applicable":
        pytest.skip(outcome.text)
    if outcome.kind == "exempt":
        pytest.xfail(f"{outcome.rule.id} is exempt: {outcome.text}")


def _teardown(cls: Any) -> None:
    cls.suite.close()


def _families(address: str) -> tuple[str, ...]:
    """What the plugin is by the names of its hooks; empty if it cannot be imported, which CORE01 then says."""
    try:
        plugin = loading.load(address)
    except Exception:
        return ()
    names = dir(plugin)
    return tuple(family for family in FAMILIES
                 if family != "fuseml" and any(name.startswith(f"{family}_") for name in names))
