"""A registry with real bundles, pushed through its own protocol, and its marketplace pages as a server mounts them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from fuseml_oci import media
from fuseml_oci.bundles import build, push
from fuseml_oci.bundles.build import BuiltBundle
from fuseml_oci.catalog.contents import Contents, assemble
from fuseml_oci.catalog.format import History, Package
from fuseml_oci.catalog.publish import publish
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import canonical_json
from fuseml_oci.digests import digest_bytes
from fuseml_oci.reference import Reference
from fuseml_oci.signing import keys
from fuseml_oci.signing.sign import sign
from fuseml_registry.app import create_app
from fuseml_registry.pages.app import create_app as create_pages

BUNDLES = Path(__file__).resolve().parents[3] / "bundles"
ENGINE = "0.1.0"


@dataclass
class Market:
    """The registry, its pages, and a browser without a screen."""

    root: Path
    host: str
    client: RegistryClient
    http: requests.Session

    @property
    def url(self) -> str:
        """Where the pages are."""
        return f"http://{self.host}/marketplace"

    def page(self, path: str = "/", status: int = 200, **headers: str) -> str:
        """The HTML of a page."""
        answer = self.http.get(f"{self.url}{path}", headers=headers, timeout=30)
        assert answer.status_code == status, answer.text[:2000]
        return answer.text

    def json(self, path: str, status: int = 200) -> Any:
        """A JSON document below `/api/`."""
        answer = self.http.get(f"{self.url}/api{path}", timeout=30)
        assert answer.status_code == status, answer.text[:2000]
        return answer.json()

    def push(self, bundle: BuiltBundle, repository: str) -> Reference:
        """Push a bundle under its version."""
        return push(bundle, Reference(self.host, repository), self.client)

    def push_source(self, folder: Path, repository: str) -> Reference:
        """Build a folder and push it."""
        return self.push(build(folder), repository)

    def push_raw(self, repository: str, manifest: Mapping[str, Any], *, readme: bytes | None = None,
                 icon: bytes | None = None, wheel: bytes | None = None, tag: str = "", **descriptor: Any) -> Reference:
        """Push a bundle as somebody would who does not use our tools: nothing is checked on the way."""
        blobs, layers, annotations = {}, [], []
        for kind, title, media_type, data in (("wheel", "thing-1.0-py3-none-any.whl", media.EXTENSION_WHEEL, wheel),
                                              ("readme", "README.md", "text/markdown", readme),
                                              ("icon", "icon.svg", "image/svg+xml", icon)):
            if data is not None:
                digest = digest_bytes(data)
                blobs[digest] = data
                layers.append({"kind": kind, "media_type": media_type, "digest": digest, "size": len(data),
                               "title": title})
                annotations.append({"mediaType": media_type, "digest": digest, "size": len(data),
                                    "annotations": {media.TITLE: title}})
        config = json.dumps({"api_version": "fuseml.io/v1", "manifest": {"version": "1.0.0", "summary": "s",
                                                                          **manifest},
                             "layers": layers, **descriptor}).encode()
        for digest, data in blobs.items():
            self.client.push_blob(repository, data, digest, "application/octet-stream")
        self.client.push_blob(repository, config, digest_bytes(config), media.EXTENSION_CONFIG)
        document = canonical_json({
            "schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": media.EXTENSION, "layers": annotations,
            "config": {"mediaType": media.EXTENSION_CONFIG, "digest": digest_bytes(config), "size": len(config)}})
        tag = tag or manifest.get("version", "1.0.0")
        self.client.push_manifest(repository, tag, document, media.MANIFEST)
        return Reference(self.host, repository, tag, digest_bytes(document))

    def push_catalog(self, repository: str, version: int, key: keys.PrivateKey, *packages: Mapping[str, Any],
                     histories: Mapping[str, list[dict[str, Any]]] | None = None) -> None:
        """Publish a catalog, signed."""
        read = [Package.model_validate({"api_version": "fuseml.io/catalog/v1", "namespace": "demo", **package})
                for package in packages]
        decided = {name: History.model_validate({"api_version": "fuseml.io/catalog/v1", "package": name,
                                                 "decisions": decisions}) for name, decisions in (histories or {}).items()}
        artifact = assemble(Contents({package.name: package for package in read}, histories=decided), name="demo",
                            version=version, issued="2026-11-23T00:00:00Z", expires="2036-11-23T00:00:00Z")
        publish(artifact, Reference(self.host, repository), self.client,
                lambda reference: sign(self.client, reference, key) and None)


@pytest.fixture(scope="session")
def open_market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Market]]:
    """Start a registry with pages."""
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket, Market]] = []

    def started() -> Market:
        root = tmp_path_factory.mktemp("market")
        (root / "keys").mkdir()
        app = Starlette(routes=[
            Mount("/v2", app=create_app({"root": root})),
            Mount("/marketplace", app=create_pages({"root": root, "engine": ENGINE, "keys": root / "keys"}))])
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        listening = socket.create_server(("127.0.0.1", 0))
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        http = requests.Session()
        http.trust_env = False
        market = Market(root, host, RegistryClient(host), http)
        running.append((server, thread, listening, market))
        return market

    yield started
    for server, thread, listening, market in running:
        market.http.close()
        market.client.close()
        server.should_exit = True
        thread.join(20)
        listening.close()


@pytest.fixture(scope="session")
def key() -> keys.PrivateKey:
    """A key that nobody knows until it is made known."""
    return keys.generate()


@pytest.fixture(scope="session")
def market(open_market: Callable[[], Market], key: keys.PrivateKey,
           tmp_path_factory: pytest.TempPathFactory) -> Market:
    """A registry with the bundles of this repository, a few made-up ones and a signed catalog."""
    market = open_market()
    (market.root / "keys" / "registry.pub").write_bytes(key.public.pem)
    references = {name: market.push_source(BUNDLES / name, f"extensions/{name}")
                  for name in ("mlflow", "kserve", "mlflow-end-to-end")}
    for name in ("mlflow", "kserve"):
        sign(market.client, references[name], key)
    folder = tmp_path_factory.mktemp("sources")
    churn = {version: market.push_source(write_source(folder / f"churn-{version}", "churn", version, **more), "team/churn")
             for version, more in {
                 "1.0.0": {"permissions": {"network": "asks the warehouse"}},
                 "1.1.0": {"permissions": {"network": "asks the warehouse", "secrets:WAREHOUSE": "logs in"},
                           "dependencies": {"base": ">=1"}},
                 "2.0.0-rc.1": {}}.items()}
    market.push_source(write_source(folder / "base", "base", "1.2.0"), "team/base")
    market.push_source(write_source(folder / "future", "future", "0.3.0", requires=">=7"), "team/future")
    entry = {"published_at": "2026-11-01T00:00:00Z", "published_by": "ann"}
    market.push_catalog("team/catalog", 1, key, {
        "name": "churn", "repository": f"oci://{market.host}/team/churn", "keywords": ["retention", "Tabular"],
        "versions": [{"version": "1.0.0", "digest": churn["1.0.0"].digest, **entry},
                     {"version": "1.1.0", "digest": churn["1.1.0"].digest, **entry,
                      "yanked": {"reason": "loses rows", "by": "ben", "at": "2026-11-02T00:00:00Z"}}],
        "channels": {"stable": [{"version": "1.0.0"}], "candidate": [{"version": "1.1.0"}]}}, {
        "name": "base", "repository": f"oci://{market.host}/team/base",
        "versions": [{"version": "1.2.0", "digest": market.client.get_manifest("team/base", "1.2.0")[2], **entry}],
        "channels": {"stable": [{"version": "1.2.0"}]},
        "deprecations": [{"message": "use something newer", "replacement": "churn", "by": "ann",
                          "at": "2026-11-03T00:00:00Z"}]}, histories={"churn": [
            {"action": "accepted", "by": "ann", "at": "2026-11-01T00:00:00Z", "why": "reads well", "version": "1.0.0",
             "checks": [{"name": "lint", "outcome": "passed"}, {"name": "tests", "outcome": "failed", "text": "2 of 7"}]},
            {"action": "promoted", "by": "ben", "at": "2026-11-02T00:00:00Z", "version": "1.0.0", "channel": "stable"}]})
    return market


def write_source(folder: Path, name: str, version: str, *, permissions: Mapping[str, str] | None = None,
                 dependencies: Mapping[str, str] | None = None, requires: str = ">=0.1,<1") -> Path:
    """The source of a bundle with one runnable and one template."""
    lines = [f'name = "{name}"', f'version = "{version}"', f'summary = "About {name}."', 'licence = "MIT"',
             f'requires_fuseml = "{requires}"']
    for permission, reason in (permissions or {}).items():
        lines += ["[[permissions]]", f'name = "{permission}"', f'reason = "{reason}"']
    for dependency, wanted in (dependencies or {}).items():
        lines += ["[[dependencies]]", f'name = "{dependency}"', f'range = "{wanted}"']
    lines += ["[config_schema]", 'type = "object"', 'required = ["url"]', "[config_schema.properties.url]",
              'type = "string"', 'description = "Where."', "[config_schema.properties.password]", 'type = "string"',
              "writeOnly = true", 'default = "hunter2"']
    for path, text in {
        "extension.toml": "\n".join(lines),
        "README.md": f"# {name}\n\nSee [the guide](docs/guide.md) and [the web](https://example.org/).\n",
        "runnables/count.yaml": "kind: custom\nname: count\ncommand: ['{python}', 'x.py']\n"
                                "inputs: [{name: code, kind: codeset}]\noutputs: [{name: lines, kind: value}]\n",
        "templates/counting.yaml": "name: counting\nsummary: Counts lines.\ninputs:\n  code: {kind: codeset}\n"
                                   "steps:\n  count: {runnable: count, inputs: {code: inputs.code}}\n"
                                   "outputs:\n  lines: {from: count.lines}\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text + "\n")
    return folder


@pytest.fixture(scope="session")
def source() -> Callable[..., Path]:
    """Write the source of a bundle."""
    return write_source
