"""Linting: every rule finds what it is for, says why and what to do, and can be excepted with a reason."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from fuseml_oci.bundles import build, open_layout, write
from fuseml_oci.bundles.lint import RULES, Severity, lint_bundle, lint_source, refuse_errors
from fuseml_oci.bundles.scaffold import KINDS, create
from fuseml_oci.bundles.wheels import normalise
from fuseml_oci.digests import digest_bytes
from fuseml_sdk.errors import InvalidInput

PLUGIN = "from fuseml_sdk import hookimpl\n\nplugin = object()\n"
README = "# Good\n\n" + "It counts words in text files and keeps the counts where a pipeline finds them again. " * 2
PIN = f"packaging==26.3 \\\n    --hash=sha256:{'a' * 64}\n"


def wheel(name: str = "good", version: str = "1.0", *, tag: str = "py3-none-any", requires: tuple[str, ...] = (),
          python: str = "", files: dict[str, str] | None = None) -> tuple[str, bytes]:
    """A wheel, made by hand."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in {f"{name}.py": PLUGIN, **(files or {})}.items():
            archive.writestr(path, text)
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}",
                 *(f"Requires-Dist: {line}" for line in requires), *([f"Requires-Python: {python}"] if python else [])]
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{name}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr(f"{name}-{version}.dist-info/RECORD", "")
    return f"{name}-{version}-{tag}.whl", buffer.getvalue()


class Source:
    """The source of a bundle in which no rule finds anything; tests spoil it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fields = {"name": "good", "version": "0.2.0", "summary": "Counts words.", "licence": "Apache-2.0",
                       "icon": "icon.svg", "requires_fuseml": ">=0.1,<1"}
        self.tables = ['[links]\nsource = "https://example.org/good"']
        self.write("README.md", README)
        self.write("CHANGELOG.md", "# Changes\n\n## 0.2.0\n\n- Counts faster.\n\n## 0.1.0\n\n- First.\n")
        self.write("icon.svg", '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>')
        self.write("files/count.py", "print('counting')\n")
        self.runnable = {"name": "count", "kind": "transformer", "description": "Counts.",
                         "command": ["{python}", "{runnable}/files/count.py", "{input.text}", "{parameter.least}"],
                         "inputs": [{"name": "text", "kind": "codeset"}], "outputs": [{"name": "n", "kind": "dataset"}],
                         "parameters": [{"name": "least", "type": "integer", "default": 1, "minimum": 1}]}
        self.template = {"name": "counting", "summary": "Counts.", "inputs": {"text": {"kind": "codeset"}},
                         "parameters": {"least": {"type": "integer", "default": 1}},
                         "steps": {"count": {"runnable": "count", "inputs": {"text": "inputs.text"},
                                             "parameters": {"least": "{parameters.least}"}}},
                         "outputs": {"n": {"from": "count.n"}}}

    def write(self, name: str, text: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def carry(self, *wheels: tuple[str, bytes], lock: str = "", python: str = ">=3.11", component: bool = True) -> None:
        """Give the bundle wheels, a lock and a plugin."""
        for name, data in wheels:
            self.write(f"wheels/{name}", data)
        names = json.dumps([f"wheels/{name}" for name, _ in wheels])
        self.tables.append(f'[environment]\npython = "{python}"\nwheels = {names}')
        if component:
            self.tables.append('[[components]]\nfamily = "store"\nname = "good"\nplugin = "good:plugin"')
        if lock:
            self.write("requirements.lock", lock)

    def plugin(self, lock: str = "", **options) -> None:
        """The bundle with a plugin and the SDK that it needs."""
        self.carry(wheel(**options), wheel("fuseml_sdk", "0.1.0", files={"fuseml_sdk/__init__.py": ""}), lock=lock)

    def lint(self, **options):
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.fields.items()]
        self.write("extension.toml", "\n".join(lines) + "\n" + "\n\n".join(self.tables) + "\n")
        if self.runnable:
            self.write("runnables/count.json", json.dumps(self.runnable))
        if self.template:
            self.write("templates/counting.json", json.dumps(self.template))
        return lint_source(self.folder, **options)


@pytest.fixture
def source(tmp_path) -> Source:
    return Source(tmp_path / "good")


def test_r168_a_good_bundle_has_no_findings(source):
    report, built = source.lint(published=["0.1.0", "0.1.1", "latest"])
    assert report.findings == ()
    assert report.passes(strict=True)
    refuse_errors(built)


def _set(**fields):
    return lambda s: s.fields.update(fields)


def _table(text):
    return lambda s: s.tables.append(text)


def _file(name, text):
    return lambda s: s.write(name, text)


def _runnable(**fields):
    return lambda s: s.runnable.update(fields)


def _both(*changes):
    def change(s):
        for each in changes:
            each(s)

    return change


def _spoil_link(s):
    s.write("files/real.py", "")
    (s.folder / "files/link.py").symlink_to("/etc/hostname")


def _empty(s):
    s.runnable = s.template = None


#: For each rule that looks at a source: what spoils the good one, and a word of the finding.
SPOILED = {
    "B001": (_set(colour="red"), "colour"),
    "B002": (_set(requires_fuseml=">=x"), "requires_fuseml"),
    "B003": (_spoil_link, "link"),
    "B004": (_runnable(comand=["x"]), "comand"),
    "B005": (_both(_table("[environment]"), _file("requirements.lock", "packaging>=26\n")), "line 1"),
    "B006": (_table('[environment]\nwheels = ["nothing"]'), "neither"),
    "B007": (_table('[environment]\n[[components]]\nfamily = "store"\nname = "x"\nplugin = "gone:plugin"'), "gone"),
    "B008": (_runnable(command=["{python}", "{input.other}"]), "other"),
    "B009": (lambda s: s.template["steps"]["count"].update(runnable="gone"), "gone"),
    "B010": (_empty, "no components"),
    "B011": (_file("icon.svg", '<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'), "script"),
    "B012": (_file("README.md", "x " * (1 << 20)), "bytes"),
    "B101": (_file("README.md", "# Good\n"), "words"),
    "B102": (_file("README.md", README + "\nSay here what it does.\n"), "template"),
    "B103": (_file("README.md", README + "\n[more](docs/more.md)\n"), "docs/more.md"),
    "B104": (_file("README.md", README + "\n<img src=x onerror=alert(1)>\n"), "onerror"),
    "B105": (_set(requires_fuseml=">=0.1"), "upper"),
    "B106": (_table('[[dependencies]]\nname = "other"\nrange = ">=1"'), "upper"),
    "B107": (_set(licence="Apache 2"), "SPDX"),
    "B108": (_table('[[permissions]]\nname = "network"\nreason = "needed"'), "explains nothing"),
    "B109": (_table('[[permissions]]\nname = "network"\nreason = "Asks the tracking server for runs."\n' * 2), "twice"),
    "B116": (_table('[[permissions]]\nname = "disk"\nreason = "Keeps the tracking server\'s files here."'), "disk"),
    "B110": (lambda s: s.fields.pop("icon"), "no icon"),
    "B111": (lambda s: s.tables.pop(0), "source"),
    "B112": (lambda s: s.tables.__setitem__(
        0, '[links]\nsource = "https://example.org"\ndocs = "javascript:alert(1)"'), "javascript"),
    "B113": (_table('[config_schema.properties.api_token]\ntype = "string"\ndescription = "x"'), "api_token"),
    "B114": (_table("[config_schema.properties.url]\nminLength = 1"), "no type and no description"),
    "B115": (_set(summary="counts words"), "sentence"),
    "B201": (_runnable(command=["{python}", "{runnable}/files/gone.py"]), "files/gone.py"),
    "B202": (_runnable(command=["{python}", "{runnable}/files/count.py", "{output_dir}"]), "{output_dir}"),
    "B203": (lambda s: s.template["parameters"]["least"].update(default=0), "less than 1"),
    "B204": (_both(_runnable(parameters=[{"name": "other", "required": True}, {"name": "least", "type": "integer"}])),
             "'other' is required"),
    "B205": (lambda s: s.runnable["parameters"][0].update(choices=[2, 3]), "among"),
    "B206": (_runnable(description=""), "description"),
    "B207": (_file("files/large.bin", b"\0" * (33 << 20)), "33 MiB"),
    "B208": (_file("files/tool-1.0.tar.gz", b"x"), "source distribution"),
    "B209": (_file("files/run.sh", b"#!/bin/sh\r\necho\r\n"), "carriage return"),
    "B210": (_file("runnables/other.json", '{"name": "other", "description": "x", "command": ["{python}"]}'), "other"),
    "B211": (_file("files/count.py", "import os\n\nprint('counting'\n"), "files/count.py:3 SyntaxError: '(' was never"),
    "B301": (lambda s: s.plugin(requires=("requests>=2",)), "requests"),
    "B303": (lambda s: s.plugin(tag="cp312-cp312-manylinux_2_17_x86_64"), "Python 3.11 on linux-x86_64"),
    "B304": (lambda s: s.plugin(python=">=3.13"), "excludes 3.11, 3.12"),
    "B305": (lambda s: s.plugin(files={"evil.pth": "import os"}), "runs at every start"),
    "B306": (lambda s: s.carry(wheel(), wheel("other", files={"good.py": ""}), component=False), "also in"),
    "B307": (lambda s: (s.write("plugin/pyproject.toml", '[build-system]\nrequires = ["hatchling"]\nbuild-backend = '
                                '"hatchling.build"\n[project]\nname = "p"\nversion = "1"\n'),
                        s.write("plugin/src/p/__init__.py", ""), s.tables.append('[environment]\nwheels = ["plugin"]')),
             "pins"),
    "B309": (_table('[environment]\npython = "<3"'), "accepts none"),
    "B310": (lambda s: s.plugin(files={"good.py": PLUGIN + "def describe(self:\n"}), "good.py:4 SyntaxError"),
    "B311": (lambda s: s.plugin(files={"good.py": "class Plugins:\n    plugin = 1\n"}), "good.py defines no 'plugin'"),
    "B401": (_file("files/key.pem", "-----BEGIN " + "PRIVATE KEY-----\n"), "a private key"),
    "B402": (_file("files/conf.py", 'password = "hunter2hunter2"\n'), "fixed password"),
    "B403": (_file("files/.pypirc", "[pypi]\n"), "credentials"),
    "B502": (_file("CHANGELOG.md", "# Changes\n\n## 0.1.0\n\n- First.\n"), "0.2.0"),
    "B901": (_table('[[lint]]\nrule = "B110"\nreason = "Nobody has drawn one yet."'), "does not find"),
    "B902": (_table('[[lint]]\nrule = "B401"\nreason = "It is only a test key, really."'), "is an error"),
}
#: Rules that look beyond a source; each has a test of its own below.
BEYOND = {"B302", "B308", "B501", "B503", "B504"}


def test_every_rule_has_a_test():
    assert set(SPOILED) | BEYOND == set(RULES)
    for rule in RULES.values():
        assert rule.title.endswith("."), rule
        assert rule.reason
        assert rule.fix


@pytest.mark.parametrize("id_", SPOILED)
def test_r168_a_rule_finds_what_it_is_for_and_only_that(source, id_):
    change, word = SPOILED[id_]
    change(source)
    report, built = source.lint(make=None)
    found = [finding for finding in report.findings if finding.rule.id == id_]
    assert found, [(f.rule.id, f.message) for f in report.findings]
    assert any(word in f"{f.where} {f.message}" for f in found), found
    assert all(finding.fix for finding in found)
    error = RULES[id_].severity is Severity.ERROR
    assert report.passes() is not error
    assert report.passes(strict=True) is (RULES[id_].severity is Severity.NOTICE)
    if error and built is not None and id_ != "B902":
        with pytest.raises(InvalidInput, match=id_):
            refuse_errors(built)
    elif error and id_ != "B902":
        with pytest.raises(InvalidInput):
            build(source.folder)


def test_all_mistakes_of_a_source_are_found_at_once(source):
    for id_ in ("B002", "B004", "B011"):
        SPOILED[id_][0](source)
    report, built = source.lint()
    assert {finding.rule.id for finding in report.findings} >= {"B002", "B004", "B011"}
    assert built is None


def test_an_exception_with_a_reason_accepts_a_finding(source):
    source.fields.pop("licence")
    source.tables.append('[[lint]]\nrule = "B107"\nreason = "Lawyers are still at it."\nwhere = "extension.toml*"')
    report, _ = source.lint()
    assert [finding.accepted for finding in report.findings] == ["Lawyers are still at it."]
    assert report.passes(strict=True)
    assert report.to_json()["findings"][0]["accepted"] == "Lawyers are still at it."


def test_an_exception_for_another_place_accepts_nothing(source):
    source.fields.pop("licence")
    source.tables.append('[[lint]]\nrule = "B107"\nreason = "Lawyers are still at it."\nwhere = "files/*"')
    report, _ = source.lint()
    assert {finding.rule.id for finding in report.findings if not finding.accepted} == {"B107", "B901"}


def test_a_version_must_exceed_the_published_ones(source):
    report, _ = source.lint(published=["0.1.0", "0.3.0", "latest", "0.9.0-dev.abc"])
    assert [(f.rule.id, f.message) for f in report.findings] == [
        ("B501", "0.2.0 is not greater than 0.3.0, which is published")]


def test_a_bundle_in_a_registry_should_have_documents(source):
    _, built = source.lint()
    report = lint_bundle(built, referrers=[])
    assert {finding.rule.id for finding in report.findings} == {"B503", "B504"}
    assert not lint_bundle(built, referrers=["https://cyclonedx.org/bom", "https://slsa.dev/provenance/v1"]).findings


def test_vendored_wheels_must_be_those_of_the_lock(source, tmp_path):
    name, data = wheel("packaging", "26.3", tag="cp311-cp311-manylinux_2_17_x86_64")
    (tmp_path / name).write_bytes(data)
    lock = PIN.replace("a" * 64, digest_bytes(data)[7:])
    source.plugin(lock=lock)
    report, _ = source.lint(vendored=[tmp_path / name])
    assert [finding.rule.id for finding in report.findings] == ["B308"]
    assert "Python 3.12 on linux-x86_64" in report.findings[0].message
    source.write("requirements.lock", PIN)
    report, built = source.lint(vendored=[tmp_path / name])
    assert "B302" in {finding.rule.id for finding in report.findings}
    with pytest.raises(InvalidInput, match="B302"):
        refuse_errors(built)


def test_a_bundle_is_linted_as_its_source_is(source, tmp_path):
    SPOILED["B105"][0](source)
    SPOILED["B402"][0](source)
    _, built = source.lint()
    layout = open_layout(write(built, tmp_path / "x.oci.tar"))
    assert {finding.rule.id for finding in lint_bundle(layout).findings} == {"B105", "B402"}


@pytest.mark.parametrize("name", ["x.oci.tar", "layout"])
def test_wheels_are_read_where_they_lie_and_verified(source, tmp_path, name):
    """In a layout nothing large is read into memory, and nothing is believed."""
    source.plugin(files={"conf.py": 'password = "hunter2hunter2"\n'})
    _, built = source.lint()
    layout = open_layout(write(built, tmp_path / name))
    assert [(f.rule.id, f.where) for f in lint_bundle(layout).findings] == [("B402", "wheels/good-1.0-py3-none-any.whl!conf.py:1")]
    path = tmp_path / name if name.endswith("tar") else next(
        tmp_path / name / "blobs/sha256" / each.digest[7:] for each in built.descriptor.layers if each.title.startswith("good"))
    path.write_bytes(path.read_bytes().replace(b"hunter2hunter2", b"hunter3hunter3"))
    with pytest.raises(InvalidInput, match="has the digest"):
        lint_bundle(open_layout(tmp_path / name))


def test_secrets_are_not_repeated_in_messages(source):
    token = "ghp_" + "a1B2" * 9
    source.write("files/conf.txt", f"x\n\ntoken: {token}\n")
    report, _ = source.lint()
    (finding,) = [f for f in report.findings if f.rule.id == "B401"]
    assert finding.where == "files/conf.txt:3"
    assert token not in json.dumps(report.to_json())


@pytest.mark.parametrize("kind", KINDS)
def test_r168_what_bundle_new_makes_needs_only_words(tmp_path, kind):
    folder = tmp_path / "new-thing"
    create(folder, "new-thing", kind)
    report, built = lint_source(folder)
    assert built is not None
    assert {finding.rule.id for finding in report.findings} == {"B102", "B111"}
    assert report.passes()


@pytest.mark.parametrize("name", ["mlflow", "kserve", "mlflow-end-to-end", "seldon"])
def test_our_own_bundles_pass(name):
    root = Path(__file__).parents[3]
    manifest = (root / f"bundles/{name}/extension.toml").read_text()
    report, _ = lint_source(root / "bundles" / name, make=_cached(root))
    assert report.passes(), [(f.rule.id, f.where, f.message) for f in report.findings]
    assert "name" in manifest


def _cached(root: Path):
    """Wheels of the workspace without building: what the rules read of them is in pyproject.toml."""
    import tomllib

    from fuseml_oci.bundles.wheels import normalise

    def make(folder: Path, *, constraints=None):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        module = project["name"].replace("-", "_")
        files = {f"{module}/{path.relative_to(folder / 'src' / module).as_posix()}": path.read_text()
                 for path in sorted((folder / "src" / module).rglob("*.py"))}
        name, data = wheel(module, project["version"], requires=tuple(project["dependencies"]),
                           python=project["requires-python"], files=files)
        return normalise(name, data)

    return make


def in_source(source: Source, text: str, plugin: str = "good:Good"):
    """Lint a source with a project folder whose module has this text; its wheel is made by hand."""
    source.write("code/src/good.py", text)
    source.write("build-constraints.txt", PIN)
    source.carry(wheel("fuseml_sdk", "0.1.0", files={"fuseml_sdk/__init__.py": ""}), component=False)
    source.tables[-1] = source.tables[-1].replace("wheels = [", 'wheels = ["code", ')
    source.tables.append(f'[[components]]\nfamily = "store"\nname = "good"\nplugin = "{plugin}"')

    def make(path, **_options):
        return normalise(*(wheel(files={"good.py": text}) if path.is_dir() else (path.name, path.read_bytes())))

    report, _ = source.lint(make=make)
    return [(finding.rule.id, finding.where, finding.message, finding.fix) for finding in report.findings
            if finding.rule.severity is Severity.ERROR]


def test_r168_mistakes_are_told_by_the_place_in_the_source_and_nothing_is_executed(source, tmp_path):
    trace = tmp_path / "executed"
    runs = f"open({str(trace)!r}, 'w')\nclass Good:\n    pass\n"
    assert in_source(source, f"{runs}def hook(:\n") == [
        ("B310", "code/src/good.py:4", "SyntaxError: invalid syntax", RULES["B310"].fix)]
    assert not trace.exists()


@pytest.mark.parametrize(("text", "plugin", "said"), [
    ("class Good:\n    pass\n", "good:Godo", [("B311", "code/src/good.py defines no 'Godo'", 'Write plugin = "good:Good".')]),
    ("class Good:\n    Inner = 1\n", "good:Inner", [(
        "B311", "code/src/good.py defines no 'Inner'",
        "Define Inner in code/src/good.py, or correct `plugin` in extension.toml.")]),
    ("class Good:\n    Inner = 1\n", "good:Good.Inner", []),
    ("class Good:\n    pass\n", "goood:Good", [(
        "B007", "extension.toml: components: good: plugin: no wheel of the bundle holds the module of 'goood:Good'",
        "Add its project folder to environment.wheels, or name the module 'good'.")]),
    ("from elsewhere import *\n", "good:Good", []),
    ("def __getattr__(name):\n    return 1\n", "good:Good", []),
    ("try:\n    from elsewhere import x as Good\nexcept ImportError:\n    Good = None\n", "good:Good", [])])
def test_r168_a_plugin_that_is_not_where_the_manifest_says_is_told(source, text, plugin, said):
    assert [(id_, message, fix) for id_, _, message, fix in in_source(source, text, plugin)] == said


def test_the_syntax_of_a_later_python_is_no_mistake(source):
    """Neither in an extension that does not run on this Python nor in a runnable with another one."""
    source.runnable["environment"] = {"python": "3.99"}
    source.write("files/count.py", "later syntax\n")
    source.carry(wheel(files={"good.py": "later syntax\n"}), wheel("fuseml_sdk", "0.1.0", files={
        "fuseml_sdk/__init__.py": ""}), python=">=3.99")
    report, _ = source.lint()
    assert not {"B211", "B310", "B311"} & {finding.rule.id for finding in report.findings}
