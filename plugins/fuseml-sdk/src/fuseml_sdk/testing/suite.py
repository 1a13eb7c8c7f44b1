"""Runs rules in hosts and keeps what came of them; needs no test framework."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fuseml_sdk.errors import PluginError
from fuseml_sdk.testing.bench import Bench, Config
from fuseml_sdk.testing.exemptions import Exemptions
from fuseml_sdk.testing.hosts import HOSTS, Host
from fuseml_sdk.testing.rules import NotApplicable, Rule, Violation, all_rules
from fuseml_sdk.testing.samples import Samples

Kind = Literal["passed", "failed", "exempt", "stale", "not-applicable"]


@dataclass(frozen=True)
class Outcome:
    """What came of one rule in one host.

    Attributes:
        rule: The rule.
        host: Name of the host.
        kind: `exempt` failed and may; `stale` passed although it is exempt, which counts as a failure.
        text: What was seen, or why it does not matter.
    """

    rule: Rule
    host: str
    kind: Kind
    text: str = ""

    @property
    def bad(self) -> bool:
        """Whether the plugin does not conform because of it."""
        return self.kind in ("failed", "stale")

    def explain(self) -> str:
        """What a failed test prints."""
        if self.kind == "stale":
            return (f"{self.rule.id} is exempt ({self.text}) but passes in the host {self.host}.\n"
                    f"  fix:  Remove the exemption.\n  see:  {self.rule.link}")
        return self.rule.explain(self.host, self.text)


class Suite:
    """All rules that concern a plugin, in some hosts.

    Args:
        hosts: Where to run it.
        config: For `fuseml_configure`, or a function that makes it of a folder.
        samples: What rules give to the plugin.
        exemptions: Rules that may fail.
        secrets: Names of settings whose values are secret.
        families: Of the plugin, if they are known; otherwise it is asked.

    Raises:
        InvalidInput: An exemption names a host that does not exist.
    """

    def __init__(self, hosts: Sequence[Host], *, config: Config | None = None, samples: Samples | None = None,
                 exemptions: Exemptions | None = None, secrets: Sequence[str] = (),
                 families: Sequence[str] = ()) -> None:
        self.hosts = tuple(hosts)
        self.families = tuple(families)
        self.outcomes: list[Outcome] = []
        self._exemptions = exemptions or Exemptions()
        self._exemptions.check_hosts({*HOSTS, *(host.name for host in hosts)})
        self._benches: dict[str, Bench] = {}
        self._make: Callable[[Host], Bench] = lambda host: Bench(host, config, samples, tuple(secrets))

    def pairs(self) -> list[tuple[Rule, Host]]:
        """Each rule with each host that can check it."""
        families = self.families or self._ask()
        return [(rule, host) for rule in all_rules() if rule.concerns(families)
                for host in self.hosts if rule.needs <= host.traits]

    def unchecked(self) -> list[Rule]:
        """Rules that concern the plugin and that were not checked in each host that can, such as those not selected."""
        seen = {(outcome.rule.id, outcome.host) for outcome in self.outcomes}
        return [rule for rule in all_rules() if rule.concerns(self.families)
                and any(rule.needs <= host.traits and (rule.id, host.name) not in seen for host in self.hosts)]

    def check(self, rule: Rule, host: Host) -> Outcome:
        """Check one rule in one host and keep what came of it."""
        outcome = self._judge(rule, host)
        self.outcomes.append(outcome)
        return outcome

    def run(self, told: Callable[[Outcome], None] = lambda _: None) -> list[Outcome]:
        """Check everything.

        Args:
            told: Called after each rule.
        """
        try:
            for rule, host in self.pairs():
                told(self.check(rule, host))
        finally:
            self.close()
        return self.outcomes

    def close(self) -> None:
        """End all plugins."""
        for bench in self._benches.values():
            bench.close()
        self._benches.clear()

    def _judge(self, rule: Rule, host: Host) -> Outcome:
        reason = self._exemptions.reason(rule.id, host.name)
        try:
            rule.apply(self._bench(host))
        except NotApplicable as error:
            return Outcome(rule, host.name, "not-applicable", error.reason)
        except Violation as error:
            seen = error.seen
        except PluginError as error:
            seen = f"a call failed with {error.type}: {error}{_log(error)}"
        except Exception:
            seen = f"the check itself failed, or a sample that it asked for:\n{traceback.format_exc()}"
        else:
            return Outcome(rule, host.name, "stale" if reason else "passed", reason)
        return Outcome(rule, host.name, "exempt" if reason else "failed", reason or seen)

    def _bench(self, host: Host) -> Bench:
        if host.name not in self._benches:
            self._benches[host.name] = self._make(host)
        return self._benches[host.name]

    def _ask(self) -> tuple[str, ...]:
        for host in self.hosts:
            try:
                self.families = self._bench(host).families
            except PluginError:
                continue
            return self.families
        return ()


def _log(error: PluginError) -> str:
    log = str(error.details.get("log", "")).strip()
    return f"\n  log:\n{log[-2000:]}" if log else ""
