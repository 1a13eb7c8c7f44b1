"""Keys for commands: which file a name means, and the password that opens it, which is never an argument."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fuseml_core.domain.errors import Invalid

if TYPE_CHECKING:
    from fuseml_oci.signing.keys import PrivateKey
    from fuseml_oci.signing.store import KeyStore

Command = TypeVar("Command", bound=Callable[..., Any])
#: Variables that may hold the password; the second is cosign's own.
VARIABLES = ("FUSEML_KEY_PASSWORD", "COSIGN_PASSWORD")
_LONGEST = 4096


def password_option(command: Command) -> Command:
    """Decorator: give a command the flag `--password-stdin` as its argument `password_stdin`."""
    return click.option("--password-stdin", is_flag=True,
                        help="Read the password of the private key from standard input; otherwise "
                             "FUSEML_KEY_PASSWORD or COSIGN_PASSWORD, otherwise ask for it.")(command)


def key_store(folder: Path | None = None) -> KeyStore:
    """The keys of a folder, by default `<home>/keys`."""
    from fuseml_core.settings import from_environment
    from fuseml_oci.signing.store import KeyStore

    return KeyStore(folder.absolute() if folder else from_environment().path("keys"))


def open_private(text: str, *, password_stdin: bool) -> PrivateKey:
    """Load a private key.

    Args:
        text: Its file, or the name of a key in `<home>/keys`.
        password_stdin: Where its password comes from.
    """
    from fuseml_oci.signing.keys import is_encrypted, load_private

    path = key_store().private(text)
    if not is_encrypted(path):
        return load_private(path)  # says what to do about it
    return load_private(path, password_for(path, password_stdin=password_stdin))


def password_for(path: Path, *, password_stdin: bool) -> bytes:
    """The password that opens a key; may be empty, which cosign allows."""
    given = _given(password_stdin=password_stdin)
    return _asked(f"Password of {path}", confirm=False) if given is None else given


def new_password(*, password_stdin: bool) -> bytes:
    """The password for a new key, asked for twice.

    Raises:
        Invalid: It is empty.
    """
    given = _given(password_stdin=password_stdin)
    chosen = _asked("Password of the new key", confirm=True) if given is None else given
    if not chosen:
        raise Invalid("A key with an empty password is protected by nothing.",
                      hint="Set FUSEML_KEY_PASSWORD to a password, or unset it to be asked.")
    return chosen


def _given(*, password_stdin: bool) -> bytes | None:
    """From standard input or the environment; None if neither says anything.

    Raises:
        Invalid: What is on standard input is too long.
    """
    if password_stdin:
        line = sys.stdin.buffer.readline(_LONGEST + 1).removesuffix(b"\n").removesuffix(b"\r")
        if len(line) > _LONGEST:
            raise Invalid(f"The password on standard input is longer than {_LONGEST} bytes.")
        return line
    return next((os.fsencode(os.environ[name]) for name in VARIABLES if name in os.environ), None)


def _asked(question: str, *, confirm: bool) -> bytes:
    if not sys.stdin.isatty():
        raise Invalid(f"{question} is needed, and there is nobody to ask.",
                      hint="Set FUSEML_KEY_PASSWORD, or give --password-stdin.")
    answer: str = click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True, default="",
                               show_default=False)
    return answer.encode()
