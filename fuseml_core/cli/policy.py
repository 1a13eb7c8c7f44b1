"""`fuseml policy`: whose extensions the server installs."""

from __future__ import annotations

from typing import Any

import click

from fuseml_core.cli.context import connect
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item, show_list

#: Exit code of a refusal, as of an installation that the policy refuses.
REFUSED = 5


def _decision(item: dict[str, Any]) -> str:
    if item["allowed"]:
        return "allowed"
    return "refused, because it is not signed" if item["overridable"] else "refused"


DECISION: list[Column] = [
    ("Bundle", lambda item: f"{item['name']} {item['version']}"), ("Reference", "reference"),
    ("Decision", _decision), ("Rule", "rule"), ("Because", "reason"),
    ("Signed by", "signers"), ("Attested", "attestations"),
    ("To do", lambda item: item["hint"].split("\n") if item["hint"] else None),
]


@click.group()
def policy() -> None:
    """Show the trust policy, and ask what it decides."""


@policy.command("show")
@output_option
def show(output: str) -> None:
    """Show the rules in order; the first that matches a bundle decides.

    The rules are in policy.toml in the server's FUSEML_HOME, or in the file that FUSEML_POLICY names. The file is read
    at every decision.
    """
    found = connect().get("policy")
    if output != "table":
        show_data(found, output)
        return
    echo(f"{found['path']}; what no rule matches is refused.\n")
    show_list(found["rules"], output, [
        ("Rule", "number"), ("Line", "line"), ("Match", "match"), ("Asks for", _asks_for), ("Keys", _keys),
        ("Reason", "reason")], empty="There are no rules: everything is refused.")


@policy.command("check")
@click.argument("reference")
@output_option
def check(reference: str, output: str) -> int:
    """Say which rule decides about a bundle, what it decides and why; installs nothing.

    REFERENCE is a name, or oci://host/namespace/name:tag@digest. Exit code 5 means that it is refused.
    """
    found = connect().get("policy", "decision", query={"reference": reference}, timeout=120.0)
    show_item(found, output, DECISION)
    return 0 if found["allowed"] else REFUSED


def _asks_for(rule: dict[str, Any]) -> Any:
    if rule["action"] in ("reject", "allow"):
        return {"reject": "nothing: rejected", "allow": "nothing: allowed"}[rule["action"]]
    count = len(rule["keys"])
    known = f"{count} keys" if count > 1 else "1 key"
    of = known if rule["action"] == "keys" else "the marketplace's keys"
    return [f"{rule['threshold']} of {of}", *rule["attestations"]]


def _keys(rule: dict[str, Any]) -> list[str]:
    return [line for key in rule["keys"] for line in (key["path"], f"  {key['error'] or key['fingerprint']}")]
