"""How the plan of a change of extensions is shown."""

from __future__ import annotations

from typing import Any

from fuseml_core.cli.render import echo, show_data

#: Who says what a limit is.
_ORIGINS = {"manifest": "", "server": " by default", "administrator": " as configured", "most": ", the most here"}


#: How a server begins to say that it does not give a permission at all.
_REFUSED = "refused: "


def show_plan(result: dict[str, Any], output: str) -> None:
    """Show what a change would do, or has done.

    Args:
        result: With `plan`.
        output: `table`, `json` or `yaml`.
    """
    if output != "table":
        show_data(result, output)
        return
    plan = result["plan"]
    if not plan["changes"]:
        echo("Nothing would change.")
    for change in plan["changes"]:
        echo(_title(change))
        for line in _lines(change):
            echo(f"    {line}")
    for warning in plan["warnings"]:
        echo(f"note: {warning}")
    if plan["changes"]:
        echo(f"{len(plan['changes'])} change{'s' if len(plan['changes']) > 1 else ''}, "
             f"{_size(plan['download_bytes'])} to download; nothing was changed.")


def _title(change: dict[str, Any]) -> str:
    versions = " → ".join(version for version in (change["from"], change["to"]) if version)
    if change["action"] in ("install", "repair", "remove"):
        versions = change["to"] or change["from"]
    return f"{change['action']} {change['name']} {versions}"


def _lines(change: dict[str, Any]) -> list[str]:
    lines = [f"because of {who}" for who in change["wanted_by"]]
    if change["action"] == "remove":
        return lines
    lines.append(f"from {change['reference']}")
    lines.append(f"download {_size(change['download_bytes'])} of {_size(change['size_bytes'])}")
    environment = {"none": "", "same": "environment: the same as now", "build": "environment: is built or found"}
    lines += filter(None, [environment[change["environment"]]])
    lines += [f"component {component}" for component in change["components"]]
    lines += [f"+ permission {p['name']} ({enforcement(p)}): {p['reason']}" for p in change["permissions"]["added"]]
    lines += [f"- permission {p['name']}" for p in change["permissions"]["removed"]]
    lines += [f"limit of {limit_line(limit)}" for limit in change["limits"] if limit["from"] != "server"]
    lines += [f"needs {d['name']} {d.get('range') or '*'}" for d in change["dependencies"]]
    trust = change["trust"] or {}
    if trust.get("overridden"):
        lines.append("not signed; allowed by --allow-unsigned")
    elif trust.get("signers"):
        lines += [f"signed by {signer}" for signer in trust["signers"]]
    elif trust.get("reason"):
        lines.append(f"trusted: {trust['reason']}")
    return lines


def enforcement(permission: dict[str, Any]) -> str:
    """Whether the machine of the server keeps extensions without a permission from what it allows, or refuses it.

    Args:
        permission: With `enforced` and `how`.
    """
    how = permission.get("how") or ""
    if how.startswith(_REFUSED):
        return how
    if permission.get("enforced"):
        return f"enforced {how}" if how.startswith("by ") else f"enforced: {how}" if how else "enforced"
    return f"declared only: {how}" if how else "declared only"


def permission_line(permission: dict[str, Any]) -> str:
    """What an extension may use from now on, or asks for in vain.

    Args:
        permission: With `name`, `reason`, `enforced` and `how`.
    """
    begin = "It asks in vain for" if str(permission.get("how")).startswith(_REFUSED) else "It may use"
    return f"{begin} {permission['name']} ({enforcement(permission)}): {permission['reason']}"


def limit_line(limit: dict[str, Any]) -> str:
    """A limit of a component: what it is, who says so, and whether the machine of the server enforces it.

    Args:
        limit: With `component`, `name`, `shown`, `from`, `enforced` and `how`.
    """
    return f"{limit['component']}: {limit['name']} {limit['shown']}{_ORIGINS[limit['from']]} ({enforcement(limit)})"


def _size(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
