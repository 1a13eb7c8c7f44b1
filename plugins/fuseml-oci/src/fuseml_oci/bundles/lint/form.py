"""Rules about the form of a source: what keeps it from being built, all of it at once instead of the first mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from fuseml_oci.bundles.build import (
    MANIFEST_FILE,
    BuiltBundle,
    build,
    read_icon,
    read_lock,
    read_source_manifest,
    read_wheels,
)
from fuseml_oci.bundles.checks import check_components, check_manifest, check_runnables
from fuseml_oci.bundles.descriptor import MAX_LAYER
from fuseml_oci.bundles.documents import Document, read_documents
from fuseml_oci.bundles.lint.rules import Finding, Rule, Severity, declare, finding
from fuseml_oci.bundles.tree import SourceFile, read_tree
from fuseml_oci.bundles.wheels import Wheel
from fuseml_oci.bundles.wiring import Catalogue, check_template
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import ExtensionManifest
from fuseml_sdk.templates import PipelineTemplate
from fuseml_sdk.types import RunnableDescriptor


def _error(id_: str, name: str, title: str, reason: str, fix: str) -> Rule:
    return declare(id_, name, Severity.ERROR, title=title, reason=reason, fix=fix)


MANIFEST = _error("B001", "manifest-reads", "extension.toml is TOML with known fields of the right types.",
                  "An unknown field is a typing mistake whose effect nobody would notice.",
                  "Correct the field; `fuseml bundle schema` prints what is allowed, also for editors.")
FIELDS = _error("B002", "manifest-fits", "Ranges, dependencies, components and the configuration schema make sense.",
                "Installers and resolvers trust these fields.", "Correct the field that the message names.")
FILES = _error("B003", "files-can-be-carried", "Files are regular, inside the folder, not too large, and differ in "
               "more than case.", "What cannot be unpacked on every file system cannot be installed there.",
               "Rename, copy or shrink the file.")
DOCUMENTS = _error("B004", "documents-read", "Runnables and templates are documents with known fields.",
                   "A template that cannot be read is not offered.", "Correct the field that the message names.")
LOCK = _error("B005", "lock-is-portable", "The lock holds hashed pins and names no index, URL or option.",
              "It must give the same packages with anybody's index.",
              "uv pip compile --universal --generate-hashes --no-emit-index-url requirements.in -o requirements.lock")
WHEELS = _error("B006", "wheels-are-made", "Each project in environment.wheels builds one wheel.",
                "Only wheels enter a bundle, so that installing runs nobody's build scripts.",
                "Build the project by hand: uv build --wheel DIR.")
PLUGINS = _error("B007", "plugins-are-there", "The module of every component lies in a wheel, and so does the SDK.",
                 "A component whose module is missing never starts.",
                 "Add its project folder to environment.wheels.")
RUNNABLES = _error("B008", "runnables-refer-to-what-exists", "Commands name declared inputs, outputs and parameters, "
                   "and environments files of the bundle.", "A runnable that names something else fails when it runs.",
                   "Declare it, or correct the name.")
TEMPLATES = _error("B009", "templates-are-wired", "Steps, runnables, inputs and outputs of templates exist and fit.",
                   "A pipeline of such a template could not be added.", "Correct the wire that the message names.")
EMPTY = _error("B010", "not-empty", "The bundle has a component, a runnable or a template.",
               "An empty bundle does nothing.", "Add one.")
ICON = _error("B011", "icon-is-a-picture", "The icon is a PNG, or an SVG without scripts, entities or references.",
              "It is shown on pages beside other people's; a script in it would run there.",
              "Draw it with shapes only, or export it as PNG.")
SIZE = _error("B012", "fits-the-limits", "The bundle keeps the limits of size and number of its parts.",
              "Servers refuse larger ones before they fetch them.", "Keep large data in an artifact store.")


def examine(source: Path, make: Callable[..., Wheel],
            vendored: Sequence[Path] = ()) -> tuple[list[Finding], BuiltBundle | None]:
    """Check a source part by part, and build it if nothing is wrong.

    Args:
        source: Folder with extension.toml.
        make: Makes the wheel of a project folder.
        vendored: Wheels of the lock.

    Returns:
        All that keeps it from being built; and the bundle, if nothing does.
    """
    found: list[Finding] = []

    def attempt(rule: Rule, where: str, action: Callable[[], object]) -> bool:
        """Do something; what it refuses is a finding."""
        try:
            action()
        except InvalidInput as error:
            found.append(finding(rule, where, error.message, error.hint))
            return False
        return True

    manifests: list[ExtensionManifest] = []
    if not attempt(MANIFEST, MANIFEST_FILE, lambda: manifests.append(read_source_manifest(source))):
        return found, None
    manifest = manifests[0]
    attempt(FIELDS, MANIFEST_FILE, lambda: check_manifest(manifest))
    attempt(ICON, manifest.icon, lambda: read_icon(source, manifest))
    trees: dict[str, list[SourceFile]] = {"agents": []}
    for kind in ("runnables", "templates", "files"):
        attempt(FILES, f"{kind}/", partial(_read_into, trees, source, kind))
    attempt(LOCK, "requirements.lock", lambda: trees["agents"].extend(read_lock(source, manifest)))
    wheels: dict[Path, Wheel] = {}

    def remember(folder: Path, *, constraints: Path | None = None) -> Wheel:
        wheels[folder] = wheels.get(folder) or make(folder, constraints=constraints)
        return wheels[folder]

    made = attempt(WHEELS, MANIFEST_FILE, lambda: read_wheels(source, manifest, remember))
    _examine_contents(manifest, trees, list(wheels.values()) if made else None, attempt)
    if found:
        return found, None
    bundles: list[BuiltBundle] = []
    attempt(SIZE, MANIFEST_FILE, lambda: bundles.append(build(source, make=remember, vendored=vendored)))
    return found, bundles[0] if bundles else None


def _examine_contents(manifest: ExtensionManifest, trees: dict[str, list[SourceFile]], wheels: list[Wheel] | None,
                      attempt: Callable[[Rule, str, Callable[[], object]], bool]) -> None:
    runnables: list[Document[RunnableDescriptor]] = []
    templates: list[Document[PipelineTemplate]] = []
    read = [attempt(DOCUMENTS, "runnables/", lambda: runnables.extend(read_documents(
        trees.get("runnables", []), manifest.runnables, "runnables", RunnableDescriptor))),
        attempt(DOCUMENTS, "templates/", lambda: templates.extend(read_documents(
            trees.get("templates", []), manifest.templates, "templates", PipelineTemplate)))]
    if wheels is not None:
        lock = trees["agents"][0].data.decode(errors="replace") if trees["agents"] else ""
        attempt(PLUGINS, MANIFEST_FILE, lambda: check_components(manifest, wheels, lock))
        paths = {file.path for tree in trees.values() for file in tree} | {f"wheels/{w.filename}" for w in wheels}
        for runnable in runnables:
            attempt(RUNNABLES, runnable.file, partial(check_runnables, [runnable], paths))
    if read[0]:
        catalogue = Catalogue(manifest.name, {d.model.name: d.model for d in runnables},
                              frozenset(dependency.name for dependency in manifest.dependencies))
        for template in templates:
            attempt(TEMPLATES, template.file, partial(check_template, template, catalogue))
    if all(read) and not (manifest.components or runnables or templates):
        attempt(EMPTY, MANIFEST_FILE, _refuse_empty)


def _read_into(trees: dict[str, list[SourceFile]], source: Path, kind: str) -> None:
    trees[kind] = read_tree(source, kind, limit=MAX_LAYER[kind])


def _refuse_empty() -> None:
    raise InvalidInput("the bundle has no components, runnables or templates")
