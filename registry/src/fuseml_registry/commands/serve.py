"""`fuseml registry serve`: a registry of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuseml_registry.commands.options import option, place_options, read_configuration
from fuseml_sdk.errors import InvalidInput

#: Option -> where it goes in the configuration.
_PLACES = {
    "root": "root", "host": "listen.host", "port": "listen.port", "tls_certificate": "listen.certificate",
    "tls_key": "listen.key", "external_url": "listen.external_url", "allow_insecure": "listen.allow_insecure",
    "auth": "auth.method", "users": "auth.users", "anonymous_pull": "auth.anonymous_pull", "read_only": "read_only",
    "upload_expiry": "upload_expiry", "immutable_tags": "immutable_tags",
}


@click.command()
@place_options
@option("--host", help="Address to listen on; 127.0.0.1 by default.")
@option("--port", type=click.IntRange(0, 65535), help="Port; 5000 by default, 0 takes a free one.")
@option("--tls-certificate", type=click.Path(path_type=Path, dir_okay=False), help="Certificate chain, PEM.")
@option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="Its private key, PEM.")
@option("--external-url", help="Base URL that clients use, when a proxy stands before the registry.")
@option("--auth", type=click.Choice(["none", "basic", "token"]), help="How clients prove who they are.")
@option("--users", type=click.Path(path_type=Path, dir_okay=False), help="File made by `registry user add`.")
@option("--anonymous-pull/--no-anonymous-pull", help="Let everybody pull.")
@option("--read-only/--no-read-only", help="Refuse whatever would change something.")
@option("--upload-expiry", help="Time after which an unfinished upload is forgotten, such as 24h.")
@option("--immutable-tags", metavar="semver|none|REGEX", help="Tags that never change.")
@option("--allow-insecure/--no-allow-insecure", help="Listen beyond this machine without TLS or authentication.")
def serve(config: Path | None, **options: Any) -> None:
    """Run a registry of OCI artifacts on a port of its own, until Ctrl-C or SIGTERM.

    Everything can come from a TOML file, from the environment or from options; options win. Beyond this machine it
    listens only with TLS and authentication.
    """
    given = {_PLACES[name]: _plain(value) for name, value in options.items()}
    settings = read_configuration(config.absolute() if config else None, given)
    try:
        from fuseml_registry.standalone.server import serve as run
    except ModuleNotFoundError as error:
        raise InvalidInput(f"{error.name} is needed to serve", hint="pip install 'fuseml-registry[serve]'") from None
    run(settings, click.echo)


def _plain(value: Any) -> Any:
    return str(value.absolute()) if isinstance(value, Path) else value
