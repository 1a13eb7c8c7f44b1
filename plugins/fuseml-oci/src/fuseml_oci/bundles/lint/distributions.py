"""Rules about wheels and the lock: what is installed must be complete, fit, and be what was locked."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from fuseml_oci.bundles.build import MANIFEST_FILE
from fuseml_oci.bundles.lint.rules import Found, Severity, rule
from fuseml_oci.bundles.lint.subject import Subject
from fuseml_oci.bundles.targets import Target, best_wheel
from fuseml_oci.bundles.vendoring import hashes_of

#: Python versions that servers run on.
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
#: Platforms that servers run on.
SERVERS = ("linux-x86_64", "linux-aarch64", "macos-arm64")


@rule("B301", Severity.ERROR, reason="Wheels are installed without asking an index, after the lock: what neither of "
      "them holds is missing when the plugin is imported.",
      fix="Lock again: uv pip compile --universal --generate-hashes --no-emit-index-url … -o requirements.lock")
def lock_has_what_wheels_require(bundle: Subject) -> Found:
    """Lock and wheels together hold every requirement of the wheels, in a version that satisfies it."""
    pins, own = bundle.pins, {wheel.distribution: wheel.version for wheel in bundle.wheels}
    plugins = any(component.plugin for component in bundle.manifest.components)
    installed = plugins or any(environment.wheels and not environment.from_input
                               for runnable in bundle.runnables.values()
                               for environment in (runnable.environment, *runnable.environments.values()))
    for wheel in bundle.wheels if installed else ():
        for requirement in wheel.requires:
            name = canonicalize_name(requirement.name)
            versions = {own[name]} if name in own else pins.get(name, set())
            if not versions and _counts(requirement, bundle):
                yield wheel.filename, f"requires {requirement}, which neither the lock nor a wheel holds"
            elif versions and not any(requirement.specifier.contains(v, prereleases=True) for v in versions):
                yield wheel.filename, f"requires {requirement}; the lock has {', '.join(sorted(versions))}"


@rule("B302", Severity.ERROR, reason="Hashes are checked at install; a wheel that the lock does not know is refused.",
      fix="Build with --with-wheels again after locking.")
def vendored_wheels_are_locked(bundle: Subject) -> Found:
    """Every vendored wheel has a hash that the lock allows."""
    allowed = hashes_of(bundle.locks)
    for wheel in bundle.vendored:
        if bundle.hashes.get(wheel.filename) not in allowed.get(wheel.distribution, ()):
            yield f"vendored/{wheel.filename}", "the lock does not have its hash"


@rule("B303", Severity.WARNING, reason="Where a wheel does not fit, the extension cannot be installed.",
      fix="Build the missing wheels, or narrow environment.python.")
def wheels_fit_python_and_platform(bundle: Subject) -> Found:
    """The extension's own wheels fit every Python version it accepts, on the platforms that servers run on."""
    names: dict[str, list[str]] = {}
    for wheel in bundle.wheels:
        names.setdefault(wheel.distribution, []).append(wheel.filename)
    for distribution, files in names.items():
        misses = [str(each) for each in _targets(bundle) if best_wheel(files, each) is None]
        if misses:
            yield ", ".join(files), f"no wheel of {distribution} fits {'; '.join(misses)}"


@rule("B304", Severity.WARNING, reason="uv refuses to install a wheel on a Python that the wheel excludes.",
      fix="Write the same range in pyproject.toml and extension.toml.")
def wheels_accept_the_range_of_pythons(bundle: Subject) -> Found:
    """`requires-python` of the wheels accepts every version that `environment.python` does."""
    for wheel in bundle.wheels:
        refused = [python for python in _pythons(bundle) if not _accepts(wheel.requires_python, python)]
        if refused:
            yield wheel.filename, f"requires Python {wheel.requires_python}, which excludes {', '.join(refused)}"


@rule("B305", Severity.WARNING, reason="Such a file runs code in every program that uses the environment.",
      fix="Do it in the plugin's module.")
def wheels_run_nothing_at_start(bundle: Subject) -> Found:
    """No wheel carries `.pth` files."""
    for wheel in bundle.wheels:
        for name in sorted(name for name in wheel.names if name.endswith(".pth")):
            yield f"{wheel.filename}: {name}", "runs at every start of Python"


@rule("B306", Severity.WARNING, reason="The wheel that is installed last wins, and which one that is says nobody.",
      fix="Put each module into one project.")
def wheels_do_not_overlap(bundle: Subject) -> Found:
    """No two wheels install the same file."""
    owners: dict[str, str] = {}
    for wheel in bundle.wheels:
        for name in sorted(name for name in wheel.names if not name.endswith("/")):
            other = owners.setdefault(name, wheel.distribution)
            if other != wheel.distribution:
                yield wheel.filename, f"{name!r} is also in {other}"


@rule("B307", Severity.WARNING, reason="The next release of a build tool changes the digest of an unchanged source.",
      fix="Pin what builds the wheels, with hashes, in build-constraints.txt beside extension.toml.")
def build_tools_are_pinned(bundle: Subject) -> Found:
    """A source whose wheels are built has a build-constraints.txt with hashes."""
    environment = bundle.manifest.environment
    if bundle.source is None or environment is None or not _built_projects(bundle):
        return
    pins = bundle.source / "build-constraints.txt"
    if not pins.is_file() or "--hash=sha256:" not in pins.read_text(encoding="utf-8", errors="replace"):
        yield "build-constraints.txt", "nothing pins what builds the wheels"


@rule("B308", Severity.NOTICE, reason="On others an index is needed at install.",
      fix="Build with --with-wheels --python VERSION --platform NAME for each.")
def vendored_wheels_cover_the_targets(bundle: Subject) -> Found:
    """Vendored wheels cover every Python version the extension accepts, on the platforms that servers run on."""
    if not bundle.vendored:
        return
    names: dict[str, list[str]] = {}
    for wheel in bundle.vendored:
        names.setdefault(wheel.distribution, []).append(wheel.filename)
    misses = [str(each) for each in _targets(bundle)
              if any(best_wheel(files, each) is None for files in names.values())]
    if misses:
        yield "vendored/", f"not complete for {'; '.join(misses)}"


@rule("B309", Severity.ERROR, reason="No installed version of Python can be found for it.",
      fix='Write a range such as python = ">=3.11".')
def range_of_pythons_is_possible(bundle: Subject) -> Found:
    """`environment.python` accepts a version of Python that servers run on."""
    if bundle.manifest.environment is not None and not _pythons(bundle):
        yield (f"{MANIFEST_FILE}: environment.python",
               f"{bundle.manifest.environment.python!r} accepts none of {', '.join(PYTHONS)}")


def _pythons(bundle: Subject) -> list[str]:
    environment = bundle.manifest.environment
    return [python for python in PYTHONS if environment is None or _accepts(environment.python, python)]


def _targets(bundle: Subject) -> Iterator[Target]:
    return (Target(python, platform) for platform in SERVERS for python in _pythons(bundle))


def _accepts(text: str, python: str) -> bool:
    """Whether some patch release of a minor version is accepted."""
    try:
        specifiers = SpecifierSet(text)
    except InvalidSpecifier:
        return False
    return any(specifiers.contains(f"{python}.{patch}") for patch in (0, 1, 5, 10, 20, 99))


def _counts(requirement: Requirement, bundle: Subject) -> bool:
    """Whether it is needed on any Python version that the extension accepts, on Linux."""
    if requirement.marker is None:
        return True
    for python in _pythons(bundle):
        known = {"python_version": python, "python_full_version": f"{python}.5", "sys_platform": "linux",
                 "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64", "extra": "",
                 "implementation_name": "cpython", "platform_python_implementation": "CPython"}
        try:
            if requirement.marker.evaluate(known):
                return True
        except UndefinedEnvironmentName:
            return True
    return False


def _built_projects(bundle: Subject) -> list[str]:
    """Projects of the source whose wheels are built; finished wheels need no tools."""
    from fuseml_oci.bundles.build import read_source_manifest

    assert bundle.source is not None
    environment = read_source_manifest(bundle.source).environment
    return [path for path in (environment.wheels if environment else [])
            if not path.endswith(".whl") and not _is_built_by_uv(bundle.source / path / "pyproject.toml")]


def _is_built_by_uv(project: Path) -> bool:
    """Whether uv builds it itself, without build tools from an index."""
    try:
        system = tomllib.loads(project.read_text(encoding="utf-8")).get("build-system") or {}
    except (OSError, ValueError):
        return False
    return system.get("build-backend") == "uv_build" and len(system.get("requires") or []) == 1
