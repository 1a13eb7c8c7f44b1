"""The table of commands, what starting up imports, and how errors end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fuseml_core import __version__
from fuseml_core.cli import main
from fuseml_core.cli.commands import COMMANDS
from fuseml_core.cli.errors import guarded
from fuseml_core.cli.root import fuseml
from fuseml_core.domain.errors import BY_CODE

HEAVY = {"pydantic", "fastapi", "starlette", "rich", "yaml", "sqlalchemy", "asyncio", "importlib.metadata", "pluggy",
         "httpx2", "httpx", "uvicorn", "fuseml_sdk", "http.client", "ssl"}
PROBE = """
import json, sys
from fuseml_core.cli import main
code = main(sys.argv[1:])
sys.stderr.write(json.dumps([code, sorted(sys.modules)]))
"""


def modules_after(*arguments: str) -> tuple[int, str, set[str]]:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, timeout=60,
                          check=True)
    code, modules = json.loads(done.stderr)
    return code, done.stdout, set(modules)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["project", "--help"], ["pipeline", "--help"],
                                       ["codeset", "push", "--help"], ["run", "--help"], ["bundle", "--help"],
                                       ["bundle", "lint", "--help"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code, out, modules = modules_after(*arguments)
    assert code == 0
    assert out
    assert not HEAVY & modules


def test_version_is_answered_before_click_is_imported() -> None:
    code, out, modules = modules_after("--version")
    assert (code, out) == (0, f"fuseml {__version__}\n")
    assert "click" not in modules
    assert "typing" not in modules


def test_help_imports_no_command() -> None:
    _, out, modules = modules_after("--help")
    assert not {m for m in modules if m.startswith("fuseml_core.cli.")} - {
        "fuseml_core.cli.root", "fuseml_core.cli.commands", "fuseml_core.cli.errors"}
    for name, (_, short) in COMMANDS.items():
        assert f"  {name} " in out
        assert short in out


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_r171_every_command_of_the_table_can_be_loaded(name: str) -> None:
    context = click.Context(fuseml)
    command = fuseml.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert command.help


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    found = []
    for name in command.list_commands(context):
        sub = command.get_command(context, name)
        assert sub is not None
        found += every_command(sub, (*path, name))
    return found


def test_every_command_and_option_has_help() -> None:
    for path, command in every_command(fuseml):
        assert command.help, path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (path, parameter.name)


def test_every_list_and_get_takes_output() -> None:
    for path, command in every_command(fuseml):
        if path[-1] in ("list", "get"):
            options = {option for parameter in command.params for option in parameter.opts}
            assert {"--output", "-o"} <= options, path


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_errors_become_one_message_a_hint_and_their_exit_code(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def broken() -> None:
        raise BY_CODE[code]("It went wrong.", hint="Do that.\nOr this.")

    assert guarded(broken, []) == BY_CODE[code].exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Error: It went wrong.\n  Do that.\n  Or this.\n"


def test_an_unexpected_exception_is_a_short_message_and_exit_code_70(
        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise KeyError("x")

    monkeypatch.delenv("FUSEML_DEBUG", raising=False)
    assert guarded(broken, []) == 70
    err = capsys.readouterr().err
    assert "unexpected KeyError: 'x'" in err
    assert "FUSEML_DEBUG=1" in err
    assert "Traceback" not in err
    monkeypatch.setenv("FUSEML_DEBUG", "1")
    assert guarded(broken, []) == 70
    assert "Traceback" in capsys.readouterr().err


def test_errors_of_plugins_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    from fuseml_sdk.errors import InvalidInput

    @click.command()
    def broken() -> None:
        raise InvalidInput("extension.toml: name: missing", hint="Add it.")

    assert guarded(broken, []) == 2
    assert capsys.readouterr().err == "Error: extension.toml: name: missing\n  Add it.\n"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, click.Abort])
def test_ctrl_c_ends_with_130(interrupt: type[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def stopped() -> None:
        raise interrupt

    assert guarded(stopped, []) == 130
    assert capsys.readouterr().err.strip() == "Stopped."


def test_ctrl_c_before_anything_is_imported_ends_the_same_way(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupting:
        def find_spec(self, *_arguments: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "fuseml_core.cli.root")
    monkeypatch.setattr(sys, "meta_path", [Interrupting()])
    assert main(["project", "list"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["project", "nonsense"], ["project", "create"],
                                       ["run", "list", "--limit", "0"], ["run", "start", "p", "--param", "x"],
                                       ["project", "list", "-o", "xml"]])
def test_wrong_usage_ends_with_2_and_names_the_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(fuseml, arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: ")
    assert "--help" in err


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(fuseml, ["project"]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["config", "show"]])
def test_a_broken_pipe_is_quiet(arguments: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "fuseml_core.cli", *arguments], stdout=writer, stderr=subprocess.PIPE,
                          timeout=60, check=False, env={**os.environ, "FUSEML_HOME": str(tmp_path)})
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_clicks_own_and_in_the_help(shell: str) -> None:
    env = {**os.environ, "_FUSEML_COMPLETE": f"{shell}_source"}
    done = subprocess.run([sys.executable, "-m", "fuseml_core.cli"], env=env, capture_output=True, text=True,
                          timeout=60, check=True)
    assert "_FUSEML_COMPLETE" in done.stdout
    assert f"_FUSEML_COMPLETE={shell}_source" in fuseml.get_help(click.Context(fuseml))


def test_shell_completion_completes_commands() -> None:
    env = {**os.environ, "_FUSEML_COMPLETE": "bash_complete", "COMP_WORDS": "fuseml pro", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-m", "fuseml_core.cli"], env=env, capture_output=True, text=True,
                          timeout=60, check=True)
    assert done.stdout.strip() == "plain,project"
