"""What the pages show, in HTML and as JSON, of a registry with real bundles and a signed catalog."""

from __future__ import annotations

import json
import re
import time
from xml.etree import ElementTree as ET

import requests

from fuseml_oci.signing import keys
from fuseml_oci.signing.sign import attach, attest, sign

ATOM = {"a": "http://www.w3.org/2005/Atom"}
SBOM = {"bomFormat": "CycloneDX", "components": [
    {"name": "numpy", "version": "2.4.0", "licenses": [{"license": {"id": "BSD-3-Clause"}}],
     "hashes": [{"alg": "SHA-256", "content": "ab" * 32}]}]}


def _names(found: dict) -> list[str]:
    return [entry["name"] for entry in found["packages"]]


def _table(page: str, caption: str) -> list[list[str]]:
    """Rows of a table by its caption, without tags."""
    found = re.search(rf"<caption[^>]*>{re.escape(caption)}</caption>.*?</table>", page, re.DOTALL)
    assert found, f"no table {caption!r}"
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)]
            for row in re.findall(r"<tr>(.*?)</tr>", found[0], re.DOTALL)]


def test_r169_search_finds_words_in_names_summaries_and_contents(market):
    """All words must occur; the best match comes first; what is only similar is suggested."""
    assert _names(market.json("/search?q=mlflow"))[0] == "mlflow"
    assert _names(market.json("/search?q=open+inference")) == ["kserve"]
    assert "churn" in _names(market.json("/search?q=counting"))
    found = market.json("/search?q=mlfow")
    assert (found["total"], found["suggestions"][0]) == (0, "mlflow")
    assert "Did you mean" in market.page("/?q=mlfow")


def test_facets_narrow_and_count(market):
    """Values of one facet widen, facets together narrow; counts say what each value would give."""
    found = market.json("/search?kind=builder")
    assert _names(found) == ["mlflow"]
    kinds = {value["value"]: value["count"] for value in found["facets"]["kind"]}
    assert kinds["template"] >= 6
    assert kinds["builder"] == 1
    assert _names(market.json("/search?kind=builder&kind=template&licence=Apache-2.0&q=ml")) == ["mlflow", "mlflow-end-to-end"]
    assert _names(market.json("/search?namespace=team&fits=yes")) == ["base", "churn"]
    assert _names(market.json("/search?channel=stable")) == ["base", "churn"]
    assert _names(market.json("/search?keyword=tabular")) == ["churn"]
    assert _names(market.json("/search?keyword=nothing-like-it")) == []
    page = market.page("/?kind=builder")
    assert re.search(r'name="kind" value="builder" checked', page)
    assert "Remove the filter" in page


def test_order_and_pages_of_results(market):
    """Odd parameters are passed over; pages beyond the end are the last one."""
    assert _names(market.json("/search?sort=name")) == sorted(_names(market.json("/search?sort=name")))
    sizes = [entry["size"] for entry in market.json("/search?sort=size")["packages"]]
    assert sizes == sorted(sizes)
    for odd in ("page=999", "page=-1", "page=%F0%9D%9F%99", "sort=nonsense", "q=%00%FF", "kind=", "fits=no&fits=no", "x=1"):
        assert market.json(f"/search?{odd}")["page"] == 1


def test_r128_r170_r172_a_package_shows_what_it_is(market):
    """README without its own title, install command, contents with inputs and parameters, needs."""
    page = market.page("/packages/extensions/mlflow")
    assert "fuseml extension install mlflow</code>" in page
    assert page.count("<h1") == 1
    assert '<h3 id="readme-what-is-recognised">' in page
    assert _table(page, "Inputs of mlflow-training")[1][:3] == ["mlflow_code", "codeset", "mlflow-project"]
    assert _table(page, "Parameters of mlflow-training")[1][:3] == ["entry_point", "string", "main"]
    assert _table(page, "What mlflow may do once it is installed, and why")[1][2] == "enforced"
    assert "Fits this server." in page
    about = market.json("/packages/extensions/mlflow")
    assert about["contents"]["components"] == [
        {"family": "builder", "name": "mlflow", "summary": "Makes a trainer and a predictor of an MLflow project."}]
    assert about["fit"] == {"fits": True, "reason": "It needs FuseML >=0.1,<1; this server is 0.1.0. Its environment "
                                                    "needs Python >=3.11."}
    assert about["requires_python"] == ">=3.11"


def test_settings_mark_secrets_and_never_show_their_defaults(market):
    """A default of a secret is a secret."""
    page = market.page("/packages/team/churn")
    rows = {row[0]: row for row in _table(page, "Settings of churn")[1:]}
    assert rows["url"][2] == "required"
    assert "password Secret" in rows
    assert "hunter2" not in page
    assert "hunter2" not in json.dumps(market.json("/packages/team/churn"))


def test_what_does_not_fit_says_why(market):
    """Another FuseML, or a dependency that is not here."""
    assert "It needs FuseML &gt;=7, but this server is 0.1.0." in market.page("/packages/team/future")
    assert market.json("/search?q=future")["packages"][0]["fits"] is False
    end_to_end = market.json("/packages/extensions/mlflow-end-to-end")
    assert [(need["name"], need["available"]) for need in end_to_end["dependencies"]] == [
        ("mlflow", "0.1.0"), ("kserve", "0.1.0")]
    market.push_raw("alone/needy", {"name": "needy", "dependencies": [{"name": "mlflow", "range": ">=9"}]})
    assert "needs the extension mlflow &gt;=9, which this registry does not have" in market.page("/packages/alone/needy")


def test_r169_catalogs_say_channels_yanks_and_deprecations(market):
    """A yanked version is passed over and named as such; who said so and why is shown."""
    about = market.json("/packages/team/churn")
    assert (about["version"], about["latest"]) == ("1.0.0", "1.0.0")
    states = {entry["version"]: (entry["advice"], entry["channels"]) for entry in about["versions"]}
    assert states["1.1.0"] == ("yanked", ["candidate"])
    assert states["1.0.0"] == ("", ["stable"])
    yanked = market.page("/packages/team/churn/-/1.1.0")
    assert "loses rows" in yanked
    assert "Says ben in the catalog demo" in yanked
    assert "no known key" not in yanked.split("loses rows")[1].split("</div>")[0]
    deprecated = market.page("/packages/team/base")
    assert "use something newer" in deprecated
    assert "<strong>churn</strong> instead" in deprecated
    assert "! Deprecated" in market.page("/?q=base")


def test_reviews_are_shown_with_their_checks(market):
    """Who, when and why; the newest first; of another version nothing."""
    history = market.json("/packages/team/churn")["history"]
    assert [(entry["action"], entry["by"], entry["channel"]) for entry in history] == [
        ("promoted", "ben", "stable"), ("accepted", "ann", "")]
    rows = _table(market.page("/packages/team/churn"), "Checks when it was accepted, 2026-11-01")
    assert rows[1:] == [["lint", "✓ passed", ""], ["tests", "✕ failed", "2 of 7"]]
    assert market.json("/packages/team/churn/-/1.1.0")["history"] == []


def test_a_mirrored_catalog_is_recognised_by_what_it_lists(market, key):
    """Bundles of a mirror lie in other repositories than the catalog names, with the same digests."""
    reference = market.push_raw("mirror/copied", {"name": "copied"})
    market.push_catalog("mirror/catalog", 1, key, {
        "name": "copied", "repository": "oci://origin.example/somewhere/copied",
        "versions": [{"version": "1.0.0", "digest": reference.digest, "published_at": "2026-11-01T00:00:00Z",
                      "published_by": "ann"}], "channels": {"edge": [{"version": "1.0.0"}]}})
    time.sleep(1.2)
    assert market.json("/search?q=copied&channel=edge")["total"] == 1
    assert market.json("/packages/mirror/copied")["catalogs"][0]["channels"] == ["edge"]


def test_a_catalog_and_its_mirror_in_one_registry_are_heard_once(market, key):
    reference = market.push_raw("twice/said", {"name": "said"})
    package = {"name": "said", "repository": f"oci://{market.host}/twice/said",
               "deprecations": [{"message": "once is enough", "by": "ann", "at": "2026-11-01T00:00:00Z"}],
               "versions": [{"version": "1.0.0", "digest": reference.digest, "published_at": "2026-11-01T00:00:00Z",
                             "published_by": "ann"}], "channels": {"edge": [{"version": "1.0.0"}]}}
    decisions = {"said": [{"at": "2026-11-01T00:00:00Z", "by": "ann", "action": "accepted", "version": "1.0.0"}]}
    for repository in ("twice/catalog", "twice/mirror/catalog"):
        market.push_catalog(repository, 1, key, package, histories=decisions)
    time.sleep(1.2)
    about = market.json("/packages/twice/said")
    assert (len(about["catalogs"]), len(about["history"])) == (1, 1)
    assert market.page("/packages/twice/said").count("once is enough") == 1


def test_a_catalog_that_nobody_known_signed_is_said_to_be_so(market, key):
    """Whoever may push could push a catalog; what it says about other contents counts for nothing."""
    digest = market.client.get_manifest("team/future", "0.3.0")[2]
    entry = {"published_at": "2026-11-01T00:00:00Z", "published_by": "mallory"}
    market.push_catalog("mallory/catalog", 1, keys.generate(), {
        "name": "future", "repository": "oci://elsewhere.example/team/future",
        "versions": [{"version": "0.3.0", "digest": digest, **entry}],
        "deprecations": [{"message": "use mine", "by": "mallory", "at": "2026-11-03T00:00:00Z"}]}, {
        "name": "mlflow", "repository": "oci://elsewhere.example/extensions/mlflow",
        "versions": [{"version": "0.1.0", "digest": f"sha256:{'0' * 64}", **entry,
                      "yanked": {"reason": "no", "by": "mallory", "at": "2026-11-03T00:00:00Z"}}]})
    time.sleep(1.2)
    assert "which no known key signed" in market.page("/packages/team/future")
    assert market.json("/packages/extensions/mlflow")["versions"][0]["advice"] == ""


def test_signatures_are_checked_against_known_keys(market, key):
    """In both layouts; a stranger's signature is named apart."""
    about = market.json("/packages/extensions/mlflow")
    assert {(entry["layout"], entry["name"], entry["key"]) for entry in about["signatures"]["good"]} == {
        ("bundle", "registry", key.public.fingerprint), ("legacy", "registry", key.public.fingerprint)}
    page = market.page("/packages/extensions/mlflow")
    assert key.public.fingerprint in page
    assert "✓ by registry" in page
    unsigned = market.json("/packages/extensions/mlflow-end-to-end")
    assert unsigned["signatures"]["good"] == []
    reference = market.push_raw("strange/signed", {"name": "signed"}, readme=b"x")
    sign(market.client, reference, keys.generate())
    stranger = market.json("/packages/strange/signed")["signatures"]
    assert (stranger["good"], len(stranger["others"])) == ([], 2)
    assert "No known key signed this version." in market.page("/packages/strange/signed")


def test_bills_of_materials_and_provenance_are_tables_and_downloads(market, key):
    """Attached as they are, or inside a signed statement."""
    reference = market.push_raw("attached/thing", {"name": "thing"})
    attach(market.client, reference, "application/vnd.cyclonedx+json", json.dumps(SBOM).encode())
    attest(market.client, reference, "https://slsa.dev/provenance/v1", {"builder": {"id": "https://ci.example/1"}}, key)
    attest(market.client, reference, "https://cyclonedx.org/bom", SBOM, key)
    found = {entry["label"]: entry for entry in market.json("/packages/attached/thing")["attachments"]
             if entry["kind"] != "signature"}
    assert set(found) == {"Bill of materials (CycloneDX)", "Provenance (SLSA)"}
    page = market.page("/packages/attached/thing")
    links = re.findall(r'href="/marketplace(/packages/attached/thing/-/1\.0\.0/attachments/sha256:[0-9a-f]{64})"', page)
    assert len(links) == 3
    texts = [market.page(link) for link in links]
    assert sum("numpy" in text and "BSD-3-Clause" in text for text in texts) == 2
    assert any("https://ci.example/1" in text for text in texts)
    assert "✓ by registry" in page
    download = market.http.get(f"{market.url}{links[0]}/0", timeout=20)
    assert download.headers["Content-Disposition"].startswith("attachment;")
    assert download.headers["Content-Type"] == "application/octet-stream"
    assert "sandbox" in download.headers["Content-Security-Policy"]
    market.page(f"{links[0]}/7", 404)
    market.page(f"/packages/attached/thing/-/1.0.0/attachments/sha256:{'0' * 64}", 404)


def test_versions_and_what_changed_between_them(market):
    """Permissions and dependencies that came with a version stand out; the list of versions is complete."""
    assert [entry["version"] for entry in market.json("/packages/team/churn")["versions"]] == ["2.0.0-rc.1", "1.1.0", "1.0.0"]
    changed = market.json("/packages/team/churn/-/1.1.0/diff/1.0.0")
    sections = {section["title"]: section["changes"] for section in changed["sections"]}
    assert sections["Permissions"] == [
        {"what": "secrets:WAREHOUSE", "change": "added", "before": "", "after": "logs in"}]
    assert sections["Dependencies"][0]["what"] == "base"
    page = market.page("/packages/team/churn/-/1.1.0/diff/1.0.0")
    assert "+ added" in page
    assert "secrets:WAREHOUSE" in page
    versions = market.page("/packages/team/churn/-/versions")
    assert versions.count("/-/1.1.0/diff/1.0.0") == 1
    assert "first version" in versions
    assert "current version is" in market.page("/packages/team/churn/-/1.1.0")


def test_new_versions_are_a_feed(market):
    """Atom, with addresses that work."""
    answer = market.http.get(f"{market.url}/packages/team/churn/-/feed.atom", timeout=20)
    assert answer.headers["Content-Type"].startswith("application/atom+xml")
    feed = ET.fromstring(answer.content)
    assert len(feed.findall("a:entry", ATOM)) == 3
    link = feed.find("a:entry/a:link", ATOM)
    assert link is not None
    assert requests.get(link.attrib["href"], timeout=20).status_code == 200


def test_the_index_follows_the_registry(market, source, tmp_path):
    """A new package, a new version and a deleted one are seen within about a second; others are not read again."""
    market.push_source(source(tmp_path / "a", "fresh", "1.0.0"), "scratch/fresh")
    time.sleep(1.2)
    assert market.json("/search?q=fresh")["packages"][0]["version"] == "1.0.0"
    market.push_source(source(tmp_path / "b", "fresh", "1.0.1", permissions={"network": "x"}), "scratch/fresh")
    time.sleep(1.2)
    assert market.json("/search?q=fresh")["packages"][0]["version"] == "1.0.1"
    for version in ("1.0.0", "1.0.1"):
        digest = market.client.get_manifest("scratch/fresh", version)[2]
        assert market.http.delete(f"http://{market.host}/v2/scratch/fresh/manifests/{digest}", timeout=20).status_code == 202
    time.sleep(1.2)
    assert market.json("/search?q=fresh")["total"] == 0
    market.page("/packages/scratch/fresh", 404)


def test_development_builds_are_shown_by_the_tag_that_moves(market, source, tmp_path):
    """Among builds named after digests the highest number says nothing; `dev` points to the newest."""
    from fuseml_oci.bundles import build

    first = build(source(tmp_path / "a", "work", "0.1.0"), dev=True)
    second = build(source(tmp_path / "b", "work", "0.1.0", permissions={"network": "x"}), dev=True)
    for bundle in (first, second, first):
        market.push(bundle, "scratch/work")
        assert market.json("/packages/scratch/work")["version"] == bundle.descriptor.version
    assert f"work:{first.descriptor.version}</code>" in market.page("/packages/scratch/work")


def test_other_registries_are_named_in_the_command(market):
    """Short names lead to the server's own registry and its namespace `extensions` only."""
    assert market.json("/packages/team/base")["install"] == f"fuseml extension install oci://{market.host}/team/base"
    assert market.json("/packages/extensions/kserve/-/0.1.0")["install"] == "fuseml extension install kserve"


def test_unknown_pages_say_so_and_only_get_is_answered(market):
    """In HTML for people and as a problem document for programs."""
    for path in ("/packages/no/such", "/packages/extensions/mlflow/-/9.9.9", "/nothing", "/static/none-0.css",
                 "/packages/EXTENSIONS/mlflow", "/packages/extensions/mlflow/-/0.1.0/diff/0.0.1", "/" + "a" * 5000,
                 "/packages/..%2f..%2fetc/passwd", "/packages/team/catalog", "/packages/extensions/mlflow/-/0.1.0/icon/x"):
        assert "All packages" in market.page(path, 404)
    assert market.json("/packages/no/such", 404)["status"] == 404
    assert market.http.post(f"{market.url}/", timeout=20).status_code == 405
    assert market.http.head(f"{market.url}/", timeout=20).status_code == 200
    assert market.http.get(market.url + "?q=x", allow_redirects=False, timeout=20).headers["Location"].endswith("/marketplace/?q=x")


def test_every_answer_forbids_what_pages_do_not_need(market):
    """No scripts but ours, no frames, no referrer, no guessing of types; only files with a fingerprint are cached."""
    paths = ["/", "/packages/extensions/mlflow", "/packages/no/such", "/api/search", "/packages/team/churn/-/feed.atom",
             "/packages/extensions/mlflow/-/0.1.0/icon", "/packages/extensions/mlflow/-/0.1.0/readme"]
    static = re.findall(r'"/marketplace(/static/[^"]+)"', market.page("/"))
    assert len(set(static)) == 3
    for path in [*paths, *static]:
        headers = market.http.get(f"{market.url}{path}", timeout=20).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert ("immutable" in headers["Cache-Control"]) == (path in static)
    icon = market.http.get(f"{market.url}{paths[5]}", timeout=20).headers
    assert icon["Content-Type"] == "image/svg+xml"
    assert "sandbox" in icon["Content-Security-Policy"]
    assert market.http.get(f"{market.url}{paths[6]}", timeout=20).headers["Content-Type"].startswith("text/plain")


def test_the_standalone_registry_leads_to_its_pages(serve, tmp_path, source):
    """`/` redirects; a registry that serves no one server judges nobody and gives the whole reference."""
    from fuseml_oci.bundles import build, push
    from fuseml_oci.client import RegistryClient
    from fuseml_oci.reference import Reference

    with serve(tmp_path / "root") as alone, RegistryClient(alone.host) as client:
        empty = requests.get(f"http://{alone.host}/marketplace/", timeout=20).text
        assert f"fuseml bundle push path/to/bundle oci://{alone.host}/team/name" in empty
        push(build(source(tmp_path / "a", "lonely", "1.0.0")), Reference(alone.host, "extensions/lonely"), client)
        time.sleep(1.2)  # the index may be a second old
        answer = requests.get(f"http://{alone.host}/", timeout=20)
        assert answer.url == f"http://{alone.host}/marketplace/"
        assert "lonely" in answer.text
        about = requests.get(f"http://{alone.host}/marketplace/api/packages/extensions/lonely", timeout=20).json()
        assert about["fit"]["fits"] is None
        assert about["install"] == f"fuseml extension install oci://{alone.host}/extensions/lonely:1.0.0"
    with serve(tmp_path / "root", listen={"external_url": "https://packages.example"}) as proxied:
        about = requests.get(f"http://{proxied.host}/marketplace/api/packages/extensions/lonely", timeout=20).json()
        assert about["url"] == "https://packages.example/marketplace/packages/extensions/lonely/-/1.0.0"
        assert about["install"] == "fuseml extension install oci://packages.example/extensions/lonely:1.0.0"


def test_pages_show_nobody_what_they_may_not_pull(serve, tmp_path, source):
    """With users, a visitor is asked for a name; repositories that the rules hide do not exist for them."""
    from fuseml_oci.bundles import build, push
    from fuseml_oci.client import RegistryClient
    from fuseml_oci.reference import Reference
    from fuseml_registry.access.accounts import Accounts

    root = tmp_path / "root"
    with serve(root) as open_to_all, RegistryClient(open_to_all.host) as client:
        for name in ("public", "secret"):
            bundle = build(source(tmp_path / name, name, "1.0.0"))
            push(bundle, Reference(open_to_all.host, f"{name}/{name}"), client)
    users = tmp_path / "users"
    Accounts(users).add("ann", "a long password")
    access = [{"users": ["anonymous"], "repositories": ["public/**"], "actions": ["pull"]},
              {"users": ["ann"], "actions": ["pull", "push"]}]
    for method in ("basic", "token"):
        with serve(root, auth={"method": method, "users": users}, access=access) as guarded:
            base = f"http://{guarded.host}/marketplace"
            answer = requests.get(f"{base}/api/search", timeout=20)
            assert answer.status_code == 200, answer.text
            found = answer.json()
            assert [entry["name"] for entry in found["packages"]] == ["public"]
            assert [value["value"] for value in found["facets"]["namespace"]] == ["public"]
            for path in ("packages/secret/secret", "packages/secret/secret/-/1.0.0/readme", "api/packages/secret/secret"):
                assert requests.get(f"{base}/{path}", timeout=20).status_code == 404
            session = {"auth": ("ann", "a long password"), "timeout": 20}
            assert requests.get(f"{base}/api/search", **session).json()["total"] == 2
            assert requests.get(f"{base}/packages/secret/secret", **session).status_code == 200
            assert requests.get(f"{base}/", auth=("ann", "wrong"), timeout=20).status_code == 401
        with serve(root, auth={"method": method, "users": users}) as closed:
            answer = requests.get(f"http://{closed.host}/marketplace/", timeout=20)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
