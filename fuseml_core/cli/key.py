"""`fuseml key`: the keys that sign bundles; no server is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuseml_core.cli.key_files import key_store, new_password, password_for, password_option
from fuseml_core.cli.render import Column, echo, output_option, show_item, show_list
from fuseml_core.domain.errors import Invalid

ITEM: list[Column] = [("Name", "name"), ("Fingerprint", "fingerprint"), ("Public key", "public"),
                      ("Private key", "private"), ("Trouble", "error")]
_FOLDER = click.option("--directory", "-d", type=click.Path(file_okay=False, path_type=Path),
                       help="Folder of the keys; by default `keys` in FUSEML_HOME.")


@click.group()
def key() -> None:
    """Make, import and look at keys that sign bundles: ECDSA on P-256, in the files that cosign uses."""


@key.command("generate")
@click.argument("name")
@_FOLDER
@password_option
@output_option
def generate(name: str, directory: Path | None, password_stdin: bool, output: str) -> None:
    """Make the key pair NAME.key and NAME.pub.

    The private key is encrypted with a password. cosign can use both files.
    """
    _check_name(name, directory)
    made = key_store(directory).generate(name, lambda: new_password(password_stdin=password_stdin))
    show_item(made.to_dict(), output, ITEM)


@key.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name")
@_FOLDER
@password_option
@output_option
def import_(file: Path, name: str, directory: Path | None, password_stdin: bool, output: str) -> None:
    """Import the key in FILE as NAME: a public key, a key of cosign, or PEM of PKCS#8 or SEC 1.

    A private key that has a password keeps it; one without gets one.
    """
    _check_name(name, directory)
    made = key_store(directory).take(
        file, name, lambda path: password_for(path, password_stdin=password_stdin),
        lambda: new_password(password_stdin=password_stdin))
    show_item(made.to_dict(), output, ITEM)


@key.command("list")
@_FOLDER
@output_option
def list_(directory: Path | None, output: str) -> None:
    """List keys with their fingerprints."""
    show_list([_with_kind(entry.to_dict()) for entry in key_store(directory).list()], output,
              [("Name", "name"), ("Fingerprint", lambda item: item["fingerprint"] or item["error"]),
               ("Can", "kind")], empty="No keys yet. Make one: fuseml key generate NAME")


@key.command("show")
@click.argument("key", metavar="NAME|FILE")
@output_option
def show(key: str, output: str) -> None:
    """Show the public half of a key: its fingerprint and its PEM file, to be given to others."""
    from fuseml_oci.signing.keys import load_public

    path = key_store().public(key)
    public = load_public(path)
    item = {"fingerprint": public.fingerprint, "public": str(path), "pem": public.pem.decode()}
    show_item(item, output, [("Fingerprint", "fingerprint"), ("File", "public")])
    if output == "table":
        echo(item["pem"].rstrip("\n"))


def _check_name(name: str, directory: Path | None) -> None:
    """Leave the server's own key alone, which it makes itself and must be able to open."""
    if name == "registry" and directory is None:
        raise Invalid("The name registry belongs to the key of this server's own registry.",
                      hint="Choose another name.")


def _with_kind(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "kind": "sign and verify" if item["private"] else "verify"}
