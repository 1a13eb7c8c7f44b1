"""`fuseml bundle new|lint|build|schema`: from an empty folder to a checked bundle. None needs a server."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fuseml_core.cli.bundle_places import (
    Wheels,
    build_bundle,
    locate,
    newest_of,
    open_subject,
    vendored_wheels,
    wheel_options,
)
from fuseml_core.cli.cells import size
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_list
from fuseml_core.domain.errors import Invalid

if TYPE_CHECKING:
    from fuseml_oci.bundles.lint import Report

#: Exit code of `lint` when the bundle does not pass.
FAILED = 1
FINDINGS: list[Column] = [
    ("Severity", lambda item: "accepted" if item["accepted"] else item["severity"]),
    ("Rule", lambda item: [item["rule"], item["name"]]), ("Where", "where"),
    ("Finding", lambda item: [item["message"], f"why: {item['reason']}",
                              f"accepted: {item['accepted']}" if item["accepted"] else f"fix: {item['fix']}"]),
]


@click.command("new")
@click.argument("name")
@click.option("--directory", "-d", type=click.Path(path_type=Path), help="Where to; by default a folder NAME.")
@output_option
def new(name: str, directory: Path | None, output: str) -> None:
    """Begin the extension NAME, a program and a pipeline template: it can be linted, built, pushed and used as it is.

    `fuseml plugin new` begins one with a plugin.
    """
    from fuseml_oci.bundles.scaffold import create

    folder = directory or Path(name)
    made = [path.relative_to(folder).as_posix() for path in create(folder, name)]
    if output != "table":
        show_data({"folder": str(folder), "files": made}, output)
        return
    echo(f"Made {folder}:")
    echo("\n".join(f"  {path}" for path in made))
    typed = shlex.quote(str(folder))
    echo(f"\nCheck it:    fuseml bundle lint {typed}\nTry it:      fuseml bundle push {typed} --dev")


@click.command("lint")
@click.argument("subject", metavar="DIR|FILE|REFERENCE")
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option("--against", metavar="REFERENCE", help="Repository whose versions this one must exceed.")
@wheel_options
@output_option
def lint(subject: str, strict: bool, against: str | None, wheels: Wheels, output: str) -> int:
    """Check the source of a bundle, or a bundle that is built, by named rules.

    Each finding says why it matters and what to do. Errors keep a bundle from being built; warnings fail with
    --strict. A [[lint]] table in extension.toml accepts a finding, with the reason.
    """
    report = _report(subject, _versions(against), wheels)
    document = report.to_json()
    if output != "table":
        show_data(document, output)
    else:
        show_list(document["findings"], output, FINDINGS)
        counts = ", ".join(f"{document[what]} {what.removesuffix('s') if document[what] == 1 else what}"
                           for what in ("errors", "warnings", "notices"))
        echo(f"\n{counts}." if document["findings"] else f"Nothing was found: {counts}.")
    return 0 if report.passes(strict=strict) else FAILED


@click.command("build")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path),
              help="An .oci.tar file or a folder; by default NAME-VERSION.oci.tar.")
@click.option("--dev", is_flag=True, help="Append -dev.<digest> to the version, so that every change has its own.")
@click.option("--attest", is_flag=True, help="Add a bill of materials and where the bundle comes from, unsigned.")
@wheel_options
def build(folder: Path, output: Path | None, dev: bool, attest: bool, wheels: Wheels) -> None:
    """Build and check the bundle of DIR, the folder with extension.toml.

    The same source gives the same digest on any machine.
    """
    from fuseml_oci.bundles import write
    from fuseml_oci.bundles.attachments import documents, lock_of, write_with

    built = build_bundle(folder, dev=dev, wheels=wheels)
    name, version = built.descriptor.name, built.descriptor.version
    path = output or Path(f"{name}-{version}.oci.tar")
    if attest:
        write_with(built, path, documents(built.descriptor, built.digest, lock_of(built), folder))
    else:
        write(built, path)
    echo(f"Built {name} {version} ({size(sum(layer.size for layer in built.descriptor.layers))})")
    echo(f"{path}  {built.digest}")


@click.command("schema")
@click.argument("name", type=click.Choice(["extension", "descriptor", "runnable", "template"]), default="extension")
def schema(name: str) -> None:
    """Print a JSON Schema: of extension.toml, the config blob (descriptor), a runnable or a template.

    Editors check and complete files by it: write `#:schema ./extension.schema.json` into the first line of
    extension.toml for Taplo and its editor extensions.
    """
    from fuseml_oci.bundles.schemas import schema as read_schema

    show_data(read_schema(name), "json")


def _report(subject: str, published: list[str] | None, wheels: Wheels) -> Report:
    from fuseml_oci.bundles import WheelCache, open_layout
    from fuseml_oci.bundles.lint import lint_bundle, lint_source

    path = Path(subject)
    if (path / "extension.toml").is_file():
        from fuseml_core.settings import from_environment

        cache = WheelCache(from_environment().path("cache", "wheels"))
        return lint_source(path, make=cache.make, published=published, vendored=vendored_wheels(path, wheels))[0]
    if wheels.wanted:
        raise click.UsageError("--with-wheels needs a folder with extension.toml; this bundle is built already.")
    if path.exists():
        layout = open_layout(path)
        return lint_bundle(layout, published=published, referrers=open_subject(subject).referrers)
    if subject.startswith((".", "/")):
        raise Invalid(f"There is no {subject}.")
    return _remote_report(subject, published)


def _remote_report(subject: str, published: list[str] | None) -> Report:
    import tempfile

    from fuseml_oci.bundles import pull
    from fuseml_oci.bundles.lint import lint_bundle

    place, client = locate(subject)
    with tempfile.TemporaryDirectory(prefix="fuseml-lint-") as content:
        pulled = pull(newest_of(place, client, subject), client, Path(content))
        return lint_bundle(pulled, published=published, referrers=open_subject(subject).referrers)


def _versions(against: str | None) -> list[str] | None:
    """Tags of a repository; none if nothing was published there yet."""
    if against is None:
        return None
    from fuseml_sdk.errors import NotFound

    place, client = locate(against)
    try:
        return list(client.tags(place.repository))
    except NotFound:
        return []
