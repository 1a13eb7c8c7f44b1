"""`fuseml bundle sign`: signatures by people's keys and by the server's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.key_files import open_private, password_option
from fuseml_core.cli.render import echo, output_option, show_data
from fuseml_core.domain.errors import Invalid, Refused

if TYPE_CHECKING:
    from fuseml_oci.client import RegistryClient
    from fuseml_oci.reference import Reference

LAYOUTS = ("bundle", "legacy")


@click.command("sign")
@click.argument("reference")
@click.option("--key", metavar="NAME|FILE", help="Private key; a name means one of `fuseml key list`. Without it, the "
              "server signs what lies in its own registry.")
@click.option("--layout", "layouts", type=click.Choice(LAYOUTS), multiple=True,
              help="Sigstore bundle, or the older layout of cosign; both by default. Repeatable.")
@password_option
@output_option
def sign(reference: str, key: str | None, layouts: Sequence[str], password_stdin: bool, output: str) -> None:
    """Sign the bundle at REFERENCE, in both layouts of cosign, so that cosign and FuseML verify it.

    REFERENCE is a name in the server's registry, or oci://host/namespace/name:tag@digest. What this key has signed
    already is not signed again.
    """
    from fuseml_oci.signing.sign import sign as sign_manifest

    if key is None:
        _show(_sign_by_server(reference, layouts), output)
        return
    place, client = pinned(reference)
    private = open_private(key, password_stdin=password_stdin)
    made = sign_manifest(client, place, private, layouts or LAYOUTS)
    _show({"reference": str(place), "key": private.fingerprint,
           "signatures": [signature.to_dict() for signature in made]}, output)


def sign_pushed(place: Reference) -> str:
    """Have the server sign what was pushed to its own registry; nothing happens for another registry.

    Args:
        place: With digest.

    Returns:
        Fingerprint of the key; empty if the server did not sign, of which a server without a key has been told.
    """
    if place.registry not in _own_registry():
        return ""
    from fuseml_core.cli.context import connect

    try:
        made = connect().post("registry", "signatures", body={"reference": f"{place.repository}@{place.digest}"},
                              timeout=120.0, repeatable=True)
    except Refused as error:
        echo(f"Pushed, and not signed: {error.message}\n{error.hint}", err=True)
        return ""
    return str(made["key"])


def pinned(text: str) -> tuple[Reference, RegistryClient]:
    """The place that a reference or bare name means, with the digest of now, and a client for its registry."""
    from fuseml_core.cli.bundle_places import locate, newest_of

    place, client = locate(text)
    place = newest_of(place, client)
    return place if place.digest else place.with_digest(client.resolve(place.repository, place.tag).digest), client


def _show(made: dict[str, Any], output: str) -> None:
    """Print what was signed, with which key."""
    if output != "table":
        show_data(made, output)
        return
    echo(f"Signed {made['reference']}\nKey    {made['key']}")


def _sign_by_server(reference: str, layouts: Sequence[str]) -> dict[str, Any]:
    """Ask the server to sign; it does so for its own registry only."""
    from fuseml_core.cli.context import connect

    if layouts:
        raise click.UsageError("--layout goes with --key; the server makes both layouts.")
    place, _ = pinned(reference)
    if place.registry not in _own_registry():
        raise Invalid(f"{place.registry} is not the server's own registry; the server signs only what lies there.",
                      hint=f"Sign with a key of yours: fuseml bundle sign {place} --key NAME\n"
                           "Make one: fuseml key generate NAME")
    made: dict[str, Any] = connect().post("registry", "signatures", body={
        "reference": f"{place.repository}@{place.digest}"}, timeout=120.0, repeatable=True)
    return made


def _own_registry() -> set[str]:
    """How the registry of the server is addressed: the one that FUSEML_URL names, else the local one, if it runs."""
    from urllib.parse import urlsplit

    from fuseml_core.launcher.state import read_state
    from fuseml_core.settings import from_environment

    settings = from_environment()
    if settings.url:
        return {urlsplit(settings.url).netloc.lower()}
    state = read_state(settings.state_file)
    return {f"127.0.0.1:{state.port}", f"localhost:{state.port}"} if state else set()
