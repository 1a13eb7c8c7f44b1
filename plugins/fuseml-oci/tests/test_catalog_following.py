from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from fuseml_oci import media
from fuseml_oci.catalog.contents import Contents, assemble
from fuseml_oci.catalog.format import API_VERSION, Node, Package, Relocation, encode, moment
from fuseml_oci.catalog.publish import LATEST, publish
from fuseml_oci.catalog.reading import open_catalog
from fuseml_oci.catalog.relocation import push_relocation, read_relocation, signed_by
from fuseml_oci.catalog.store import CatalogStore
from fuseml_oci.catalog.subscriber import Subscriber
from fuseml_oci.catalog.tree import blob_of
from fuseml_oci.client import RegistryClient
from fuseml_oci.copying import copy
from fuseml_oci.descriptor import canonical_json
from fuseml_oci.digests import digest_bytes
from fuseml_oci.reference import Reference
from fuseml_oci.signing.keys import generate
from fuseml_oci.signing.sign import sign
from fuseml_oci.sources import RepositorySource
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent, PluginError, Retryable

NOW = datetime(2026, 11, 23, tzinfo=UTC)
KEY, STRANGER = generate(), generate()
NUMBERS = itertools.count()


def a_package(name, versions=1, **more):
    entries = [{"version": f"1.{n}.0", "digest": f"sha256:{n:064x}", "published_at": moment(NOW), "published_by": "Ana"}
               for n in range(versions)]
    return Package.model_validate({
        "api_version": API_VERSION, "name": name, "namespace": "tools", "repository": f"oci://localhost:5000/x/{name}",
        "versions": entries, "channels": {"stable": [{"version": e["version"]} for e in entries]}, **more})


class Shop:
    """A catalog in a repository of its own, its curators and one subscriber."""

    def __init__(self, host, repository, folder):
        self.client = RegistryClient(host)
        self.place = Reference(self.client.registry, repository)
        self.source = RepositorySource(self.client, repository)
        self.store = CatalogStore(folder)
        self.packages = {name: a_package(name) for name in ("alpha", "beta", "gamma")}

    def artifact(self, version, name="shop", valid=30, **packages):
        self.packages |= packages
        return assemble(Contents(dict(self.packages)), name=name, version=version, issued=moment(NOW),
                        expires=moment(NOW + timedelta(days=valid)))

    def publish(self, version, key=KEY, **more):
        artifact = self.artifact(version, **more)
        publish(artifact, self.place, self.client, lambda reference: sign(self.client, reference, key) if key else None)
        return artifact

    def force(self, artifact, key=KEY):
        """Put something into the registry as an attacker who can write there would."""
        for data in (*artifact.blobs.values(), media.EMPTY_BYTES):
            self.client.push_blob(self.place.repository, data, digest_bytes(data), media.CATALOG_DOCUMENT)
        for data in artifact.manifests.values():
            self.client.push_manifest(self.place.repository, digest_bytes(data), data, media.MANIFEST)
        self.client.push_manifest(self.place.repository, LATEST, artifact.index, media.INDEX)
        if key:
            sign(self.client, self.place.with_digest(artifact.digest), key)

    def follow(self, keys=(KEY,), now=NOW, **more):
        return Subscriber(self.place, self.source, self.store, signed_by(self.source, [k.public for k in keys]),
                          now=lambda: now, **more).update()


@pytest.fixture
def shop(registry, tmp_path):
    made = Shop(registry.host, f"shops/shop{next(NUMBERS)}/catalog", tmp_path / "copy")
    yield made
    made.client.close()


def test_only_what_changed_is_fetched(shop):
    shop.publish(1)
    first = shop.follow()
    assert first.changed == ("alpha", "beta", "gamma")
    assert shop.follow().fetched == 0

    shop.publish(2, beta=a_package("beta", versions=2))
    second = shop.follow()
    assert second.changed == ("beta",)
    assert second.fetched == 3  # root, one node, one package
    catalog = shop.store.catalog()
    assert [p.name for p in catalog.packages()] == ["alpha", "beta", "gamma"]
    assert catalog.package("beta").find("1.1.0") is not None
    assert catalog.package("delta") is None
    assert {row.name for row in shop.store.rows()} == {"alpha", "beta", "gamma"}


def test_a_package_that_is_gone_is_gone(shop):
    shop.publish(1)
    shop.follow()
    del shop.packages["beta"]
    shop.publish(2)
    assert shop.follow().removed == ("beta",)
    assert shop.store.catalog().names() == ["alpha", "gamma"]


def test_the_same_on_a_registry_without_referrers_api(docker_registry, tmp_path):
    shop = Shop(docker_registry, "acme/catalog", tmp_path)
    shop.publish(1)
    shop.publish(2, beta=a_package("beta", versions=2))
    assert shop.follow().held.version == 2
    assert shop.follow(keys=(STRANGER, KEY)).fetched == 0


@pytest.mark.parametrize("key", [None, STRANGER])
def test_a_catalog_that_the_pinned_key_did_not_sign_changes_nothing(shop, key):
    shop.publish(1)
    before = shop.follow().held
    shop.force(shop.artifact(2, alpha=a_package("alpha", summary="taken over")), key)
    with pytest.raises(Permanent, match="not signed"):
        shop.follow()
    assert shop.store.held() == before
    assert shop.store.catalog().package("alpha").summary == ""


def test_an_old_catalog_is_not_taken_back(shop):
    old = shop.publish(1)
    shop.publish(2)
    before = shop.follow().held
    shop.force(old)
    with pytest.raises(Permanent, match="version 1 .* version 2 .* seen before"):
        shop.follow()
    assert shop.store.held() == before


def test_one_version_published_twice_is_refused(shop):
    shop.publish(1)
    shop.follow()
    shop.force(shop.artifact(1, alpha=a_package("alpha", summary="other")))
    with pytest.raises(Permanent, match="seen before"):
        shop.follow()


def test_a_catalog_that_is_held_back_expires(shop):
    shop.publish(1, valid=10)
    with pytest.raises(Permanent, match="expired"):
        shop.follow(now=NOW + timedelta(days=11))
    assert shop.store.held() is None
    held = shop.follow().held
    assert shop.follow(now=NOW + timedelta(days=11)).held.expires == held.expires  # what is held stays, said to be old


def test_another_catalog_of_the_same_curators_cannot_take_its_place(shop):
    shop.publish(1)
    shop.follow()
    shop.force(shop.artifact(7, name="playground"))
    with pytest.raises(Permanent, match="'playground' now"):
        shop.follow()


def test_nothing_can_be_mixed_from_two_publications(shop):
    """Every document hangs on the signed digest: swapping one gives another digest, which nobody signed."""
    one, two = shop.artifact(1), shop.artifact(2, alpha=a_package("alpha", versions=5))
    index, other = json.loads(one.index), json.loads(two.index)
    index["manifests"][0] = other["manifests"][0]
    mixed = canonical_json(index)
    shop.force(one)
    shop.force(two)
    shop.client.push_manifest(shop.place.repository, LATEST, mixed, media.INDEX)
    with pytest.raises(Permanent, match="not signed"):
        shop.follow()


def test_documents_that_the_registry_changed_are_refused(shop):
    class Lying(RepositorySource):
        def blob(self, descriptor):
            data = super().blob(descriptor)
            return data.replace(b"alpha", b"omega") if b'"alpha"' in data else data

    shop.publish(1)
    source = Lying(shop.client, shop.place.repository)
    with pytest.raises(Permanent, match="does not have the digest"):
        Subscriber(shop.place, source, shop.store, signed_by(source, [KEY.public]), now=lambda: NOW).update()
    assert shop.store.held() is None


def broken(shop, **changes):
    """A signed catalog whose root says something else."""
    artifact = shop.artifact(1)
    root = artifact.root.model_copy(update=changes)
    data = encode(root)
    manifests = {}
    index = json.loads(artifact.index)
    for entry in index["manifests"]:
        document = json.loads(artifact.manifests[entry["digest"]])
        if entry["artifactType"] == media.CATALOG_ROOT:
            document["config"] |= {"digest": digest_bytes(data), "size": len(data)}
        manifest = canonical_json(document)
        entry |= {"digest": digest_bytes(manifest), "size": len(manifest)}
        manifests[entry["digest"]] = manifest
    return type(artifact)(root, canonical_json(index), manifests, {**artifact.blobs, digest_bytes(data): data})


@pytest.mark.parametrize(("changes", "reason"), [({"count": 2}, "more packages than the 2"), ({"count": 4}, "says 4")])
def test_a_catalog_that_miscounts_its_packages_is_refused(shop, changes, reason):
    shop.force(broken(shop, **changes))
    with pytest.raises(InvalidInput, match=reason):
        shop.follow()


def test_a_package_under_another_name_is_refused(shop):
    """A look-alike cannot be shown as one package and installed as another."""
    artifact = shop.artifact(1)
    packages = {name: blob_of(encode(a_package(name))) for name in shop.packages}
    packages["alpha"] = packages["beta"]
    node = encode(Node(packages=packages))
    wrong = broken(shop, tree=blob_of(node))
    shop.force(type(artifact)(wrong.root, wrong.index, wrong.manifests, {**wrong.blobs, digest_bytes(node): node}))
    with pytest.raises(InvalidInput, match="lists alpha, and the document is about beta"):
        shop.follow()


@pytest.mark.parametrize("document", [
    {}, {"schemaVersion": 2, "artifactType": media.CATALOG, "manifests": []},
    {"schemaVersion": 2, "artifactType": media.CATALOG, "manifests": [{"artifactType": media.CATALOG_ROOT}]},
    {"schemaVersion": 2, "artifactType": media.EXTENSION, "manifests": []}])
def test_what_is_no_catalog_is_refused(shop, document):
    data = canonical_json({"mediaType": media.INDEX, "schemaVersion": 2, "manifests": [], **document})
    held = {digest_bytes(data): data}

    class Only:
        def manifest(self, digest):
            return held[digest]

        def blob(self, descriptor):
            raise NotFound("no blobs")

    with pytest.raises(PluginError):
        open_catalog(Only(), digest_bytes(data))


def test_there_is_no_catalog(shop):
    with pytest.raises(NotFound, match="no tag latest"):
        shop.follow()


def test_an_update_that_takes_too_long_is_given_up_and_goes_on_later(shop):
    shop.publish(1)
    with pytest.raises(Retryable, match="took more than"):
        shop.follow(timeout=0.0)
    assert shop.store.held() is None
    assert shop.follow().held.version == 1


def test_a_damaged_copy_is_fetched_again(shop):
    shop.publish(1)
    shop.follow()
    for path in shop.store.folder.glob("blobs/*/*"):
        path.write_bytes(b"")
    with pytest.raises(NotFound, match="fuseml marketplace update"):
        shop.store.catalog()
    assert shop.follow().fetched > 0
    assert shop.store.catalog().names() == ["alpha", "beta", "gamma"]


def test_a_crash_before_the_switch_leaves_the_old_catalog(shop, monkeypatch):
    shop.publish(1)
    before = shop.follow().held
    shop.publish(2, beta=a_package("beta", versions=3))

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(CatalogStore, "switch", die)
    with pytest.raises(KeyboardInterrupt):
        shop.follow()
    monkeypatch.undo()
    assert shop.store.held() == before
    assert len(shop.store.catalog().package("beta").versions) == 1
    assert shop.follow().held.version == 2


def test_two_curators_do_not_overwrite_each_other(shop):
    shop.publish(1)
    shop.publish(2)
    with pytest.raises(InvalidInput, match="holds version 2"):
        shop.publish(2, alpha=a_package("alpha", versions=4))
    with pytest.raises(InvalidInput, match="holds the catalog 'shop'"):
        shop.publish(3, name="other")


def test_a_mirror_keeps_bytes_and_signatures_and_says_where_things_are(shop, docker_registry, tmp_path):
    artifact = shop.publish(1)
    target = Reference(docker_registry, "mirror/catalog", digest=artifact.digest)
    copy(shop.place.with_digest(artifact.digest), target)
    mirror = Shop(docker_registry, "mirror/catalog", tmp_path / "mirrored")
    moved = {"oci://localhost:5000/x/alpha": f"oci://{docker_registry}/mirror/alpha",
             "oci://localhost:5000/x/beta": "oci://elsewhere.example/mirror/beta"}
    push_relocation(mirror.client, target, Relocation(api_version=API_VERSION, catalog=artifact.digest,
                                                      repositories=moved))
    mirror.client.push_manifest("mirror/catalog", LATEST, artifact.index, media.INDEX)

    def relocation(keys):
        return lambda digest: read_relocation(mirror.source, digest, keys, docker_registry)

    held = mirror.follow(relocation=relocation([KEY.public])).held
    assert held.digest == artifact.digest
    assert list(held.relocated) == ["oci://localhost:5000/x/alpha"]  # nobody unknown leads elsewhere

    lab = generate()
    push_relocation(mirror.client, target, Relocation(api_version=API_VERSION, catalog=artifact.digest,
                                                      repositories=moved), lambda ref: sign(mirror.client, ref, lab))
    sign(mirror.client, target, lab)
    assert read_relocation(mirror.source, artifact.digest, [lab.public], docker_registry) == moved
    mirror.store = CatalogStore(tmp_path / "lab")
    assert mirror.follow(keys=(lab,), relocation=relocation([lab.public])).held.relocated == moved
