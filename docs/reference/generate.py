"""Writes the parts of the reference that the code knows better: `python docs/reference/generate.py` (tox -e reference).

A generated part lies between `<!-- generated: NAME -->` and `<!-- end -->`; the text around it is written by hand.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fuseml_sdk.documentation import HookText, hook_texts, type_name, types_used

HERE = Path(__file__).resolve().parent
PART = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """Fill every generated part of a page."""
    return PART.sub(lambda match: f"{match[1]}\n{PARTS[match[2]]().strip()}\n\n{match[3]}", text)


def main() -> None:
    """Write all pages again."""
    for path in sorted(HERE.glob("*.md")):
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _first_paragraph(documented: object) -> str:
    return " ".join((documented.__doc__ or "").strip().split("\n\n")[0].split())


def core_errors() -> str:
    """Every error class of the core."""
    from fuseml_core.domain.errors import BY_CODE

    return _table(
        ("code", "exit code", "HTTP status", "meaning"),
        ((f"`{e.code}`", str(e.exit_code), str(e.status), _first_paragraph(e)) for e in BY_CODE.values()),
    )


def plugin_errors() -> str:
    """Every error class that may cross the plugin boundary."""
    from fuseml_sdk import errors

    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.PluginError)]
    return _table(
        ("type", "HTTP status", "called again", "meaning"),
        ((f"`{e.type}`", str(e.status), "yes" if e.retryable else "no", _first_paragraph(e))
         for e in classes if e is not errors.PluginError),
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]
    if value is PydanticUndefined or value is None or value in ("", [], {}) or isinstance(value, BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _fields(*models: type[BaseModel]) -> str:
    parts = []
    for model in models:
        rows = ((f"`{field.alias or name}`", type_name(field.annotation), _default(field), field.description or "")
                for name, field in model.model_fields.items())
        parts.append(f"### {model.__name__}\n\n{_first_paragraph(model)}\n\n"
                     + _table(("field", "type", "default", "meaning"), rows))
    return "\n\n".join(parts)


def runnable() -> str:
    """Fields of a runnable's descriptor."""
    from fuseml_sdk.types import runnables as r

    return _fields(r.RunnableDescriptor, r.InputSpec, r.OutputSpec, r.ParameterSpec, r.EnvironmentSpec, r.Resources,
                   r.ServiceSpec)


def template() -> str:
    """Fields of a pipeline template."""
    from fuseml_sdk import templates as t

    return _fields(t.PipelineTemplate, t.TemplateInput, t.TemplateParameter, t.TemplateStep, t.Interface,
                   t.TemplateOutput)


def manifest() -> str:
    """Fields of `extension.toml`."""
    from fuseml_sdk import manifest as m

    return _fields(m.ExtensionManifest, m.Dependency, m.Permission, m.Component, m.ComponentLimits, m.EnvironmentSource,
                   m.ContentFile, m.LintException)


#: Families as headings.
FAMILIES = {"fuseml": "Life cycle", "store": "Artifact stores", "agent": "Workload agents", "builder": "Builders"}


def hooks() -> str:
    """Every hook of the contract."""
    parts, texts = [], hook_texts()
    for family, heading in FAMILIES.items():
        own = [text for text in texts.values() if text.operation.family == family]
        parts.append(f"## {heading}")
        parts.append(_table(("hook", "needed", "what for"), (
            (f"[`{text.operation.hook}`](#{text.operation.hook})", "yes" if text.operation.required else "",
             text.summary.partition(". ")[0].rstrip(".")) for text in own)))
        parts.extend(part for text in own for part in _hook(text))
    return "\n\n".join(parts)


def _hook(text: HookText) -> Iterator[str]:
    from fuseml_core.host.facades import default_timeout

    operation = text.operation
    yield f"### {operation.hook}\n\n{text.summary}"
    yield f"```python\n{text.signature}\n```"
    if text.text:
        yield " ".join(text.text.split("\n")).replace("  ", "\n\n")
    if operation.parameters:
        yield _table(("argument", "type", "default", "meaning"), (
            (f"`{p.name}`", _linked(p.annotation), "required" if p.required else f"`{p.default!r}`",
             text.arguments[p.name]) for p in operation.parameters))
    facts = [f"Returns {_linked(operation.result)}: {text.returns}" if text.returns else "Returns nothing."]
    facts += [f"Raises `{name}`: {when}" for name, when in text.raises.items()]
    facts.append("Idempotent: a call whose answer was lost is repeated once." if operation.idempotent else
                 "Not idempotent: a call whose answer was lost is not repeated.")
    facts.append(f"Deadline: {default_timeout(operation.hook, {}):g} s" + (
        " and the seconds of `wait`." if "wait" in text.arguments else
        " and the seconds of `grace`." if "grace" in text.arguments else "."))
    facts += [f"**Deprecated**: {notice.text}." for notice in text.notices]
    yield "\n".join(f"- {fact}" for fact in facts)
    yield f"```python\n{text.code}\n```"


def _linked(annotation: Any) -> str:
    """A type in words, with links to those that the page describes."""
    return re.sub(r"\b[A-Z]\w+", lambda m: f"[{m[0]}](#{m[0].lower()})" if m[0] in types_used() else m[0],
                  type_name(annotation))


def hook_types() -> str:
    """Every type that hooks take and return."""
    return _fields(*types_used().values())


def compatibility_rules() -> str:
    """Every rule by which changes of the contract are judged."""
    from fuseml_sdk.compatibility import RULES

    where = {"arguments": "arguments (server → plugin)", "result": "results (plugin → server)",
             "file": "files (author → server)", "hook": "hooks", "contract": "the contract"}
    parts = []
    for flow, heading in where.items():
        rows = ((rule.kind.replace("-", " "), rule.verdict, rule.reason)
                for rule in RULES.values() if rule.flow == flow)
        parts.append(f"### Changes of {heading}\n\n{_table(('change', 'verdict', 'because'), rows)}")
    return "\n\n".join(parts)


def deprecations() -> str:
    """What is deprecated now, and what was removed."""
    from fuseml_sdk.deprecations import CONTRACT

    now = [f"- {notice.text[0].upper()}{notice.text[1:]}." for notice in CONTRACT.notices]
    gone = [f"- {notice.obituary[0].upper()}{notice.obituary[1:]}." for notice in CONTRACT.gone.values()]
    return "\n".join([*now, *gone]) or "Nothing is deprecated, and nothing was removed."


def contract_releases() -> str:
    """Every released contract."""
    from fuseml_sdk.compatibility import releases

    return _table(("SDK", "protocol", "hooks", "digest"), (
        (f"`{version}`", str(document["protocol"]), str(len(document["hooks"])), f"`{document['digest'][:19]}…`")
        for version, document in releases().items()))


def lint_rules() -> str:
    """Every rule of `bundle lint`."""
    from fuseml_oci.bundles.lint import RULES

    rows = ((f"`{r.id}` {r.name}", str(r.severity), r.title, r.reason, r.fix) for _, r in sorted(RULES.items()))
    return _table(("rule", "severity", "what holds", "why", "what to do"), rows)


def permissions() -> str:
    """The vocabulary of permissions."""
    from fuseml_sdk.permissions import KINDS

    means = {"network": "by seccomp", "ports": "by Landlock 4 and seccomp", "files": "by Landlock",
             "system calls": "by seccomp", "settings": "by the server, which gives out no other"}
    rows = ((f"`{kind.form}`", kind.allows, means.get(kind.by, f"declared only: {kind.why_not}"))
            for kind in KINDS.values())
    return _table(("permission", "a component that declares it may", "enforced"), rows)


def conformance_rules() -> str:
    """Every rule of the conformance kit, under a heading that failures link to."""
    from fuseml_sdk.testing import all_rules

    needs = {"process": "hosts with a process of the plugin's own", "restart": "hosts that can start it again",
             "python": "plugins in Python"}
    parts = []
    for r in all_rules():
        where = "; ".join(needs[need] for need in sorted(r.needs)) or "every host"
        whom = " and ".join(f"every {family}" for family in r.families or ("plugin",))
        whom += " that " * bool(r.only) + " and ".join(each.whom for each in r.only)
        parts.append(f"## {r.id}\n\n**{r.title}**\n\nFor {whom}; level {r.level}; checked in {where}.\n\n"
                     f"Why: {r.why}\n\nFix: {r.fix}")
    return "\n\n".join(parts)


def commands() -> str:
    """Every command with its usage, arguments and options."""
    from fuseml_core.cli.commands import SECTIONS

    parts = []
    for section, entries in SECTIONS.items():
        parts.append(f"## {section}")
        for name, (target, _) in entries.items():
            module, _, attribute = target.partition(":")
            command = getattr(importlib.import_module(module), attribute)
            parts.extend(_command(command, f"fuseml {name}"))
    return "\n\n".join(parts)


def _command(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    yield f"### {path}\n\n{_help(command)}\n\n```\n{usage}\n```"
    options = [record for parameter in command.get_params(context)
               if (record := parameter.get_help_record(context)) and record[1] and "--help" not in record[0]]
    if options:
        yield _table(("option", "meaning"), ((f"`{option}`", " ".join(text.split())) for option, text in options))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child and not child.hidden:
                yield from _command(child, f"{path} {name}")


def _help(command: click.Command) -> str:
    text = inspect.cleandoc(command.help or command.short_help or "").split("\f")[0]
    return "\n\n".join(_paragraph(part) for part in text.strip().split("\n\n"))


def _paragraph(text: str) -> str:
    """Flowing text, or lines as they are where click keeps them."""
    if text.startswith("\b\n"):
        return "```\n" + "\n".join(line.rstrip() for line in text.splitlines()[1:]) + "\n```"
    return " ".join(text.split())


def routes() -> str:
    """Every route of the control process's API, by router."""
    from fuseml_core.api import routers

    parts = []
    for found in pkgutil.iter_modules(routers.__path__):
        module = importlib.import_module(f"{routers.__name__}.{found.name}")
        if found.name == "internal" or not hasattr(module, "router"):
            continue
        rows = ((f"`{method}`", f"`/api/v1{route.path}`", _first_paragraph(route.endpoint))
                for route in module.router.routes for method in sorted(route.methods))
        parts.append(f"## {found.name.replace('_', ' ').capitalize()}\n\n{_table(('method', 'path', 'meaning'), rows)}")
    return "\n\n".join(parts)


#: Generated parts by name.
PARTS: dict[str, Callable[[], str]] = {
    "core-errors": core_errors,
    "plugin-errors": plugin_errors,
    "runnable": runnable,
    "template": template,
    "manifest": manifest,
    "hooks": hooks,
    "hook-types": hook_types,
    "compatibility-rules": compatibility_rules,
    "deprecations": deprecations,
    "contract-releases": contract_releases,
    "lint-rules": lint_rules,
    "conformance-rules": conformance_rules,
    "permissions": permissions,
    "commands": commands,
    "routes": routes,
}

if __name__ == "__main__":
    main()
