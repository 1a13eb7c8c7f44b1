"""`fuseml plugin contract show|diff`: the contract between server and plugins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.context import connect
from fuseml_core.cli.render import Column, echo, fields, output_option, show_data, show_list, table
from fuseml_core.domain.errors import NotFound

if TYPE_CHECKING:
    from fuseml_sdk.documentation import HookText

#: Exit code when a change is incompatible and `--exit-code` was given.
FOUND = 1
_HOOKS: list[Column] = [("Hook", "hook"), ("Needed", "required"), ("Repeatable", "idempotent"),
                        ("Takes", "takes"), ("Gives", "gives"), ("What for", "summary")]
_CHANGES: list[Column] = [("Verdict", "verdict"), ("Place", "place"), ("Where", "flow"), ("Change", "what"),
                          ("Because", "reason")]


@click.group()
def contract() -> None:
    """Show the hooks that plugins implement, and what changes of them mean for plugins and servers."""


@contract.command("show")
@click.argument("hook", required=False, default="")
@output_option
def show(hook: str, output: str) -> None:
    """Show the contract of this version of FuseML, or one HOOK of it with its documentation and example.

    \b
    fuseml plugin contract show                       every hook, one line each
    fuseml plugin contract show store_get             one of them
    fuseml plugin contract show -o json > mine.json   all of it, for `fuseml plugin contract diff`
    """  # noqa: D301  click reads the character \b
    from fuseml_sdk.compatibility import current
    from fuseml_sdk.documentation import hook_texts

    texts, document = hook_texts(), current()
    if hook and hook not in texts:
        raise NotFound(f"there is no hook {hook!r}", hint="List them with: fuseml plugin contract show")
    if output != "table":
        show_data(_full(texts[hook]) if hook else document, output)
    elif hook:
        _show_hook(texts[hook])
    else:
        echo(f"Protocol {document['protocol']}, SDK {document['sdk_version']}, {document['digest']}\n")
        show_list([_line(text) for text in texts.values()], output, _HOOKS)


@contract.command("diff")
@click.argument("before", metavar="[BEFORE]", required=False, default="")
@click.argument("after", metavar="[AFTER]", required=False, default="")
@click.option("--exit-code", is_flag=True, help="End with exit code 1 if something is incompatible.")
@output_option
def diff(before: str, after: str, exit_code: bool, output: str) -> int:
    """Tell what differs between two contracts, and what it means for installed plugins and other servers.

    \b
    fuseml plugin contract diff                 every installed plugin and the server
    fuseml plugin contract diff mlflow          the plugins of one extension and the server
    fuseml plugin contract diff 0.1.0           a released SDK and this one
    fuseml plugin contract diff old.json new/   two contracts, wherever they lie

    BEFORE and AFTER are files written by `contract show -o json`, wheels or source folders of fuseml-sdk, environments
    with it, bundle folders, or versions of released SDKs. Without AFTER, it is the contract of this FuseML.
    """  # noqa: D301  click reads the character \b
    if not after and not _named(before):
        return _show_plugins(before, exit_code, output)
    from fuseml_sdk.compatibility import compare, current, worst

    changes = compare(_contract(before), _contract(after) if after else current())
    verdict = worst(changes)
    if output != "table":
        show_data({"verdict": verdict, "changes": [change.as_dict() for change in changes]}, output)
    else:
        show_list([change.as_dict() for change in changes], output, _CHANGES, empty="The contracts do not differ.")
    return FOUND if exit_code and verdict == "incompatible" else 0


def _named(name: str) -> bool:
    """Whether a name is a contract by itself instead of an extension: a released version, or something on disk."""
    from fuseml_sdk.compatibility import releases

    looks_like_path = "/" in name or name.endswith((".json", ".whl"))
    return bool(name) and (name in releases() or looks_like_path or Path(name).exists())


def _contract(name: str) -> dict[str, Any]:
    from fuseml_sdk.compatibility import read, releases

    known = releases()
    return known[name] if name in known else read(Path(name))


def _show_plugins(extension: str, exit_code: bool, output: str) -> int:
    found = connect().get("contract", "plugins", query={"extension": extension} if extension else None)
    show_list(found, output, _PLUGINS, empty="There are no plugins.")
    refused = [each for each in found if each["agreement"] and not each["agreement"]["accepted"]]
    return FOUND if exit_code and (refused or any(each["verdict"] == "incompatible" for each in found)) else 0


def _meaning(compared: dict[str, Any]) -> list[str]:
    agreement = compared["agreement"] or {}
    if not agreement:
        return ["it says so when it is started"]
    lines = [agreement["reason"].partition(") ")[2] or agreement["reason"]] if agreement["state"] != "same" else []
    lines += agreement["deprecations"]
    lines += [f"{each['verdict']}: {each['place']}: {each['what']}" for each in compared["changes"]
              if each["verdict"] != "compatible"]
    if agreement["fix"]:
        lines.append(agreement["fix"])
    return lines or ["the same on both sides"]


#: Columns of the comparison with the server.
_PLUGINS: list[Column] = [
    ("Extension", lambda it: f"{it['extension']} {it['version']}".strip()), ("Plugin", "component"),
    ("SDK", lambda it: ((it["agreement"] or {}).get("theirs") or {}).get("sdk_version") or "-"),
    ("Contract", lambda it: (it["agreement"] or {}).get("state") or "not known yet"),
    ("Means", _meaning)]


def _line(text: HookText) -> dict[str, Any]:
    operation = text.operation
    from fuseml_sdk.documentation import code_name

    return {"hook": operation.hook, "required": operation.required, "idempotent": operation.idempotent,
            "takes": ", ".join(parameter.name for parameter in operation.parameters),
            "gives": "" if operation.returns_nothing else code_name(operation.result),
            "summary": text.summary.partition(". ")[0].partition(": ")[0].rstrip(".")}


def _show_hook(text: HookText) -> None:
    from fuseml_core.host.facades import default_timeout
    from fuseml_sdk.documentation import type_name

    operation = text.operation
    echo(f"{text.signature}\n\n{text.summary}\n" + (f"\n{text.text}\n" if text.text else ""))
    if operation.parameters:
        echo(table(["Argument", "Type", "Meaning"], [[p.name, type_name(p.annotation), text.arguments[p.name]]
                                                     for p in operation.parameters]) + "\n")
    pairs = [("Returns", text.returns), ("Raises", [f"{name}: {when}" for name, when in text.raises.items()]),
             ("Needed", "yes" if operation.required else "no"),
             ("Repeatable", "yes" if operation.idempotent else "no"),
             ("Deadline", f"{default_timeout(operation.hook, {}):g} s unless the caller says otherwise"),
             ("Deprecated", [notice.text for notice in text.notices])]
    echo(fields([(name, value) for name, value in pairs if value]))
    echo(f"\n{text.code}")


def _full(text: HookText) -> dict[str, Any]:
    from fuseml_core.host.facades import default_timeout

    return {**text.operation.schema(), "summary": text.summary, "text": text.text, "arguments_text": text.arguments,
            "returns": text.returns, "raises": text.raises, "example": text.code,
            "deadline_seconds": default_timeout(text.operation.hook, {}),
            "deprecated": [notice.as_dict() for notice in text.notices]}
