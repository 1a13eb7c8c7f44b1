"""`fuseml extension export|import`: extensions for machines without a network."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from fuseml_core.cli.context import connect
from fuseml_core.cli.extension_care import follow, size
from fuseml_core.cli.render import echo, output_option, show_data

#: Bytes sent or read at once.
_PIECE = 8 << 20
#: Public keys are small.
_MOST_KEY = 10_000


@click.command("export")
@click.argument("references", nargs=-1)
@click.option("--output", "-o", "target", required=True, type=click.Path(dir_okay=False, path_type=Path),
              metavar="FILE.tar", help="The file to write.")
@click.option("--platform", default="", metavar="NAME",
              help="Platform of the other machine for its wheels, such as linux-x86_64; by default this one's.")
@click.option("--python", default="", metavar="3.N", help="Python version there; by default the server's.")
@click.option("--channel", default="", metavar="NAME", help="Channel of the marketplaces' catalogs.")
@click.option("--pre", is_flag=True, help="Take pre-releases also where there are releases.")
def export(references: tuple[str, ...], target: Path, platform: str, python: str, channel: str, pre: bool) -> None:
    """Put extensions into one file, with everything that a machine without a network needs to install them.

    REFERENCES are names, which stand for what is installed or else the best version, or oci://host/namespace/name:tag.
    Without any, all that is installed is exported. The file holds what they depend on, the wheels that they need,
    signatures, attestations and a lock. An interrupted export goes on when it is started again.
    """
    if not target.absolute().parent.is_dir():
        raise click.UsageError(f"There is no folder {target.absolute().parent}.")
    body = {"references": list(references), "platform": platform, "python": python, "channel": channel,
            "prereleases": pre}
    made = follow("extension-exports", body=body)
    draft = target.with_name(f".{target.name}.{made['id'][:12]}.partial")
    try:
        _download(made, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    for bundle in made["bundles"]:
        echo(f"{bundle['name']} {bundle['version']}  {bundle['digest']}" + ("" if bundle["requested"] else
                                                                          "  (needed by the others)"))
    echo(f"{target} has {size(made['size'])}. Take it along with the public keys of those who signed, then: "
         f"fuseml extension import {target.name}", err=True)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--key", "keys", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              metavar="FILE.pub", help="Public key of those who signed what is in the file. Repeatable.")
@click.option("--no-install", is_flag=True, help="Only put it into the server's registry.")
@click.option("--allow-unsigned", is_flag=True, help="Take also what is not signed by anybody whom the trust policy "
                                                     "or --key names. It is written down.")
@output_option
def import_(file: Path, keys: tuple[Path, ...], no_install: bool, allow_unsigned: bool, output: str) -> None:
    """Take in a FILE that `fuseml extension export` made on another machine, and install what it was made for.

    Everything is verified and judged by this machine's trust policy before anything is changed; nothing is fetched
    from a network. An interrupted import goes on when it is started again.
    """
    pems = [_key(path) for path in keys]
    digest = _send(file, quiet=output != "table")
    body = {"keys": pems, "allow_unsigned": allow_unsigned, "install": not no_install}
    done = follow("extension-imports", digest, body=body, quiet=output != "table")
    if output != "table":
        show_data(done, output)
        return
    for bundle in done["bundles"]:
        by = ", ".join(bundle["trust"]["signers"]) or "nobody who is known here"
        echo(f"{bundle['name']} {bundle['version']} from {bundle['original'].partition('@')[0]}, signed by {by}")
    if done["installed"] is None:
        names = " ".join(bundle["name"] for bundle in done["bundles"] if bundle["requested"])
        echo(f"They are in this server's registry. Install them: fuseml extension install --offline {names}")
        return
    for extension in done["installed"]["extensions"]:
        echo(f"Extension {extension['name']} {extension['version']} is {extension['state']}.")
    if not done["installed"]["extensions"]:
        echo("Nothing changed: all of it is installed.")


def _download(made: dict[str, Any], draft: Path) -> None:
    """Write the archive; a file that is shorter than announced is an error, not an archive."""
    from fuseml_core.domain.errors import Unavailable

    total, written = int(made["size"]), 0
    with connect().download("extension-exports", made["id"]) as response, draft.open("wb") as file:
        while True:
            try:
                piece = response.read(_PIECE)
            except (OSError, ValueError) as error:
                raise Unavailable(f"The archive broke off after {size(written)}: {error}",
                                  hint="Export again: what was fetched is kept.") from None
            if not piece:
                break
            file.write(piece)
            written += len(piece)
            _meter("written", written, total)
        file.flush()
        os.fsync(file.fileno())
    if written != total:
        raise Unavailable(f"The archive broke off after {size(written)} of {size(total)}.",
                          hint="Export again: what was fetched is kept.")


def _send(file: Path, *, quiet: bool) -> str:
    """Send what the server does not have yet of a file; returns its SHA-256 digest."""
    with file.open("rb") as stream:
        digest, total = hashlib.file_digest(stream, "sha256").hexdigest(), os.fstat(stream.fileno()).st_size
        client = connect()
        sent = min(int(client.get("extension-imports", digest)["received"]), total)
        if sent and not quiet:
            echo(f"going on after {size(sent)}", err=True)
        stream.seek(sent)
        while piece := stream.read(_PIECE):
            sent = int(client.append("extension-imports", digest, offset=sent, data=piece)["received"])
            if not quiet:
                _meter("sent", sent, total)
    return digest



def _key(path: Path) -> str:
    text = path.read_bytes()[:_MOST_KEY + 1]
    if len(text) > _MOST_KEY or b"PRIVATE" in text:
        raise click.UsageError(f"{path} is not a public key; private keys stay where they are.")
    return text.decode(errors="replace")


def _meter(what: str, done: int, total: int) -> None:
    """How far it is, on one line that is written over; only where somebody watches."""
    if sys.stderr.isatty() and total:
        click.echo(f"\r{what} {size(done)} of {size(total)} ({100 * done // total} %)", err=True, nl=done >= total)
