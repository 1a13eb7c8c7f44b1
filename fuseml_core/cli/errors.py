"""From an exception to one clear message on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from fuseml_core.domain.errors import FusemlError

#: Exit code of a program that the user stopped with Ctrl-C (128 + SIGINT).
INTERRUPTED = 130
#: Exit code of a program whose reader went away (128 + SIGPIPE).
BROKEN_PIPE = 141
#: Exit code for a defect (EX_SOFTWARE of sysexits.h).
DEFECT = 70
#: Exit codes for the errors of plugins by their type; they surface here when the CLI calls a library directly.
PLUGIN_EXIT_CODES = {"invalid-input": 2, "not-found": 3, "unsupported": 5, "not-ready": 6, "retryable": 6,
                     "permanent": 1, "cancelled": 1, "internal": DEFECT}


def guarded(command: click.Command, arguments: list[str]) -> int:
    """Run a command and turn whatever it raises into a message and an exit code.

    Args:
        command: The root command.
        arguments: What the user typed after `fuseml`.

    Returns:
        The exit code for the process.
    """
    stdout = sys.stdout
    try:
        result = command.main(args=arguments, prog_name="fuseml", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _silence()
    except SystemExit as stop:  # shell completion; or a broken pipe, on which click also replaces stdout
        return _silence() if sys.stdout is not stdout else _code(stop)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Stopped.", err=True)
        return INTERRUPTED
    except Exception as error:  # the last line of defence of the program
        return report(error)
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def report(error: Exception) -> int:
    """Say on stderr what went wrong and what to do.

    Args:
        error: What a command raised.

    Returns:
        The exit code that belongs to it.
    """
    if os.environ.get("FUSEML_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    message, hint, code = describe(error)
    from fuseml_core.cli.render import echo  # it makes what plugins wrote harmless; only failures pay for it

    echo(f"Error: {message}", err=True)
    if hint:
        echo(f"  {hint}".replace("\n", "\n  "), err=True)
    return code


def describe(error: Exception) -> tuple[str, str, int]:
    """Message, hint and exit code of an exception."""
    if isinstance(error, FusemlError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, click.ClickException):
        return _usage(error)
    plugin = _plugin_error(error)
    if plugin is not None:
        return plugin.message, plugin.hint, PLUGIN_EXIT_CODES.get(plugin.type, 1)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {os.fsdecode(error.filename)}", "", 1
    return (f"unexpected {type(error).__name__}: {error}",
            "This is a defect of FuseML. FUSEML_DEBUG=1 shows the traceback; please report it with that.", DEFECT)


def _usage(error: click.ClickException) -> tuple[str, str, int]:
    """Message for a wrong command line, with the command whose help explains it."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "fuseml"
    return error.format_message(), f"See: {command} --help", error.exit_code


def _plugin_error(error: Exception) -> Any:
    """The error as one of the SDK's, if the SDK is loaded and it is one."""
    module = sys.modules.get("fuseml_sdk.errors")
    return error if module is not None and isinstance(error, module.PluginError) else None


def _code(stop: SystemExit) -> int:
    return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1


def _silence() -> int:
    """Keep Python from complaining about the broken pipe once more when it closes stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
