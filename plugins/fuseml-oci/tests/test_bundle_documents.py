"""Bills of materials, provenance, differences, schemas, new bundles, and bundles that become sources again."""

from __future__ import annotations

import importlib.resources
import json
import os
import shutil
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from referencing import Registry, Resource

from fuseml_oci.bundles import build, open_layout, push, schemas, write
from fuseml_oci.bundles import provenance as where_from
from fuseml_oci.bundles.attachments import documents, lock_of, push_documents, write_with
from fuseml_oci.bundles.difference import compare
from fuseml_oci.bundles.references import read_reference
from fuseml_oci.bundles.sbom import document
from fuseml_oci.bundles.scaffold import create, installed_wheel
from fuseml_oci.bundles.sources import toml_of, unpack_source
from fuseml_oci.bundles.transfer import pull
from fuseml_oci.client import RegistryClient
from fuseml_oci.signing import attestations, generate
from fuseml_oci.sources import LayoutSource, RepositorySource
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.manifest import parse_manifest


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """The source of a bundle with everything: a plugin, wheels, a lock, an icon."""
    folder = tmp_path_factory.mktemp("store") / "notes"
    create(folder, "notes", "store")
    text = (folder / "extension.toml").read_text()
    (folder / "extension.toml").write_text(
        f'{text}\n[[dependencies]]\nname = "other"\nrange = ">=1,<2"\n[[permissions]]\nname = "network"\n'
        'reason = "It \\"talks\\" to nobody in particular."\n[links]\nsource = "https://example.org/notes"\n'
        '[config_schema.properties.url]\ntype = "string"\ndescription = "Wo? Überall."\n')
    return folder


@pytest.fixture(scope="module")
def built(store):
    return build(store)


def test_r168_the_bill_of_materials_is_valid_and_complete(built):
    """Against the published schema of CycloneDX 1.6."""
    made = document(built.descriptor, built.digest, lock_of(built))
    folder = importlib.resources.files("cyclonedx.schema") / "_res"
    loaded = {name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text())
              for name in ("bom-1.6", "spdx", "jsf-0.82")}
    registry = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in loaded.values())
    jsonschema.Draft7Validator(loaded["bom-1.6"], registry=registry).validate(made)
    names = {component["name"] for component in made["components"]}
    assert {"fuseml-sdk", "notes", "pydantic", "pydantic-core", "other", "README.md", "requirements.lock"} <= names
    assert made["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": built.digest[7:]}]
    assert document(built.descriptor, built.digest, lock_of(built)) == made, "the same bundle, the same document"
    pydantic = next(c for c in made["components"] if c["name"] == "pydantic")
    assert pydantic["purl"].startswith("pkg:pypi/pydantic@")
    assert pydantic["hashes"]


def test_r168_provenance_names_commit_builder_and_materials_but_no_machine(store, built, tmp_path):
    source = shutil.copytree(store, tmp_path / "repository" / "extensions" / "notes")

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments], check=True,
                       cwd=tmp_path / "repository", capture_output=True, timeout=60)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    git("remote", "add", "origin", "https://user:secret@example.org:8443/team/notes.git")
    made = where_from.predicate(built.descriptor, source=source, finished=datetime(2026, 1, 2, tzinfo=UTC))
    commit = made["buildDefinition"]["resolvedDependencies"][0]
    assert commit["uri"] == "git+https://example.org:8443/team/notes.git"
    assert len(commit["digest"]["gitCommit"]) == 40
    assert commit["annotations"] == {"path": "extensions/notes"}
    assert made["runDetails"]["metadata"]["finishedOn"] == "2026-01-02T00:00:00Z"
    text = json.dumps(made)
    assert "secret" not in text
    assert str(tmp_path) not in text
    (source / "README.md").write_text("changed")
    changed = where_from.predicate(built.descriptor, source=source)
    assert changed["buildDefinition"]["resolvedDependencies"][0]["annotations"]["uncommitted"] is True
    assert where_from.git_source(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(("remote", "shown"), [
    ("git@example.org:team/x.git", "git+ssh://example.org/team/x.git"), ("/srv/git/x", ""), ("file:///srv/x", "")])
def test_remotes_are_named_without_users_and_paths(remote, shown):
    assert where_from._without_secrets(remote) == shown


def test_r168_documents_travel_with_a_file_and_are_attached_in_a_registry(store, built, registry, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = documents(built.descriptor, built.digest, lock_of(built), store)
    write_with(built, tmp_path / "notes.oci.tar", made)
    write_with(built, tmp_path / "again.oci.tar", documents(built.descriptor, built.digest, lock_of(built), store))
    assert (tmp_path / "notes.oci.tar").read_bytes() == (tmp_path / "again.oci.tar").read_bytes()
    layout = open_layout(tmp_path / "notes.oci.tar")
    assert layout.digest == built.digest
    assert len(LayoutSource(layout.image).referrers(built.digest)) == 2
    with RegistryClient(registry.host) as client:
        place = push(layout, read_reference("notes", registry.host), client)
        assert len(client.referrers(place.repository, built.digest)) == 2
        key = generate()
        push_documents(client, place, made, key)
        found = attestations(RepositorySource(client, place.repository), built.digest, [key.public])
        assert {each.predicate_type for each in found} == {"https://cyclonedx.org/bom", "https://slsa.dev/provenance/v1"}


def test_r168_a_difference_names_part_and_change(store, built, tmp_path):
    other = shutil.copytree(store, tmp_path / "other")
    text = (other / "extension.toml").read_text()
    for old, new in (('version = "0.1.0"', 'version = "0.2.0"'), (">=1,<2", ">=1,<3"), ('name = "network"', 'name = "disk"')):
        assert old in text
        text = text.replace(old, new)
    (other / "extension.toml").write_text(text)
    lock = (other / "requirements.lock").read_text()
    (other / "requirements.lock").write_text(lock.replace("pluggy==1.7.0", "pluggy==1.7.1"))
    (other / "files").mkdir()
    (other / "files/more.txt").write_text("more")
    after = build(other)
    changes = {(c.part, c.kind, c.name): (c.old, c.new)
               for c in compare(built.descriptor, after.descriptor, lock_of(built), lock_of(after))}
    assert changes["manifest", "changed", "version"] == ("0.1.0", "0.2.0")
    assert changes["dependencies", "changed", "other"] == (">=1,<2", ">=1,<3")
    assert ("permissions", "added", "disk") in changes
    assert ("permissions", "removed", "network") in changes
    assert changes["lock", "changed", "pluggy"] == ("1.7.0", "1.7.1")
    assert ("files", "added", "files/more.txt") in changes
    assert ("layers", "changed", "agents.tar") in changes
    assert compare(built.descriptor, built.descriptor, "a==1", "a==1") == []


def test_r170_an_unpacked_bundle_builds_to_the_same_digest(built, registry, tmp_path):
    with RegistryClient(registry.host) as client:
        place = push(open_layout(write(built, tmp_path / "x.oci.tar")), read_reference("notes", registry.host), client)
        folder = unpack_source(pull(place, client, tmp_path / "content"), tmp_path / "again")
    assert build(folder).digest == built.digest
    assert parse_manifest((folder / "extension.toml").read_text()).name == "notes"
    assert os.access(folder / "README.md", os.W_OK)


@pytest.mark.parametrize("value", [
    {"a": 'x"\\\n\t\x7fü', "b": True, "c": [1, 2.5, "z"], "d": {"e f": {"g": []}, "h": [{"i": 1}]}, "j": [{"k": "l"}, {"k": "m"}]},
    {"": "empty", "with.dot": {"$ref": "#/x"}},
])
def test_what_is_written_as_toml_reads_back(value):
    assert tomllib.loads(toml_of(value)) == value


def test_r168_the_schemas_are_those_of_the_code_and_accept_our_bundles(store, built):
    assert schemas.main([]) == 0, "run: python -m fuseml_oci.bundles.schemas --write"
    jsonschema.validate(tomllib.loads((store / "extension.toml").read_text()), schemas.schema("extension"))
    jsonschema.validate(json.loads(built.descriptor.encode()), schemas.schema("descriptor"))
    for folder in sorted((Path(__file__).parents[3] / "bundles").iterdir()):
        jsonschema.validate(tomllib.loads((folder / "extension.toml").read_text()), schemas.schema("extension"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x"}, schemas.schema("extension"))
    with pytest.raises(NotFound):
        schemas.schema("nothing")


@pytest.mark.parametrize(("name", "said"), [("Bad", "not a name"), ("class", "keyword"), ("0x", "Begin with a letter")])
def test_a_new_bundle_needs_a_name_that_can_be_imported(tmp_path, name, said):
    with pytest.raises(InvalidInput) as raised:
        create(tmp_path / "x", name)
    assert said in f"{raised.value.message} {raised.value.hint}"


def test_a_new_bundle_overwrites_nothing(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(InvalidInput, match="is there already"):
        create(tmp_path, "thing")


def test_an_installed_distribution_becomes_a_wheel_again(tmp_path):
    """As where FuseML was installed from wheels: what uv installs from it is the same."""
    made = installed_wheel("pluggy")
    assert made.filename.startswith("pluggy-")
    assert "pluggy/__init__.py" in made.names()
    assert not [name for name in made.names() if name.endswith(("INSTALLER", ".pyc"))]
    assert installed_wheel("pluggy").data == made.data
