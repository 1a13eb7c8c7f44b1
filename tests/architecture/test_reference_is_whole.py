"""The reference has every hook, argument, type, field, command and option; read from the code in another way."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fuseml_core.cli.commands import COMMANDS
from fuseml_sdk import compatibility, deprecations, errors, negotiation, types
from fuseml_sdk.hookspecs import FAMILIES
from fuseml_sdk.types import StrictModel, WireModel

HOOKS = {name: function for specs in FAMILIES.values() for name, function in vars(specs).items()
         if inspect.isfunction(function)}


def sections(page: Path) -> dict[str, str]:
    """The text below each heading of the third level."""
    parts = re.split(r"^### (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {heading.strip(): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows(text: str) -> set[str]:
    """What stands in the first column of the tables of a text."""
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def missing_arguments(name: str, function: object, page: dict[str, str]) -> list[str]:
    """What the reference does not say of a hook."""
    if name not in page:
        return [name]
    wanted = {parameter for parameter in inspect.signature(function).parameters if parameter != "self"}  # type: ignore[arg-type]
    return sorted(f"{name}({each})" for each in wanted ^ rows(page[name]))


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Every command that is not hidden, by its path."""
    for name, (target, _) in COMMANDS.items():
        module, _, attribute = target.partition(":")
        yield from _below(f"fuseml {name}", getattr(importlib.import_module(module), attribute))


def _below(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _below(f"{path} {name}", child)


@pytest.fixture(scope="module")
def hooks(root) -> dict[str, str]:
    return sections(root / "docs/reference/hooks.md")


@pytest.fixture(scope="module")
def commands(root) -> dict[str, str]:
    return sections(root / "docs/reference/cli.md")


def test_r134_every_hook_and_argument_is_in_the_reference(hooks):
    found = [gap for name, function in HOOKS.items() for gap in missing_arguments(name, function, hooks)]
    assert found == [], "run: python docs/reference/generate.py"


def test_a_hook_or_argument_that_is_missing_is_found(hooks):
    def store_get(self, ref, depth): ...

    assert missing_arguments("store_get", store_get, hooks) == ["store_get(depth)"]
    assert missing_arguments("store_dance", store_get, hooks) == ["store_dance"]


@pytest.mark.parametrize("name", HOOKS)
def test_r134_a_hook_has_errors_deadline_repetition_and_example(name, hooks):
    text = hooks[name]
    assert re.search(r"^- (Idempotent|Not idempotent): ", text, re.MULTILINE)
    assert re.search(r"^- Deadline: \d+ s", text, re.MULTILINE)
    assert text.count("```python\n") == 2
    raised = re.findall(r"^- Raises `(\w+)`: ", text, re.MULTILINE)
    said = re.findall(r"^            (\w+): ", (HOOKS[name].__doc__ or "").partition("Raises:")[2].partition(
        "Example:")[0], re.MULTILINE)
    assert raised == said
    assert all(hasattr(errors, each) for each in raised)


def test_the_promise_of_compatibility_is_what_the_code_keeps(root):
    """States, verdicts, days of notice and the protocol."""
    page = (root / "docs/reference/compatibility.md").read_text(encoding="utf-8")
    states, verdicts = typing.get_args(negotiation.Relation), typing.get_args(compatibility.Verdict)
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == list(states)
    assert re.findall(r"^- \*\*([a-z-]+)\*\*: ", page, re.MULTILINE) == list(verdicts)
    assert f"for at least {deprecations.NOTICE_DAYS} days" in page
    assert f"The protocol is {negotiation.PROTOCOLS[0]}, and `/v{negotiation.PROTOCOLS[0]}/` is in its routes." in page
    assert all(kind.replace("-", " ") in page for kind, _ in compatibility.RULES)


def test_every_type_of_hooks_and_each_of_its_fields_is_in_the_reference(hooks):
    models = {name: model for name, model in vars(types).items()
              if inspect.isclass(model) and issubclass(model, WireModel | StrictModel)
              and model not in (WireModel, StrictModel)}
    assert models.keys() - hooks.keys() == set()
    for name, model in models.items():
        assert rows(hooks[name]) == set(model.model_fields), name


def test_every_command_and_option_is_in_the_reference(commands):
    gaps = []
    for path, command in every_command():
        if path not in commands:
            gaps.append(path)
            continue
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                gaps += [f"{path} {name}" for name in parameter.opts if name not in commands[path]]
            elif isinstance(parameter, click.Argument) and parameter.make_metavar(click.Context(command)) not in (
                    commands[path]):
                gaps.append(f"{path} {parameter.name}")
    assert gaps == [], "run: python docs/reference/generate.py"


def test_help_keeps_lines_that_are_meant_to_stay_apart():
    """In a raw docstring click's mark of such a paragraph would be two characters, printed as they are."""
    assert [path for path, command in every_command() if "\\b" in (command.help or "")] == []


def test_the_search_for_commands_finds_some():
    found = dict(every_command())
    assert len(found) > 100
    assert {"fuseml plugin contract diff", "fuseml extension install"} <= found.keys()
