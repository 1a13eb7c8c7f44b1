"""Which installed Python an extension runs on."""

from __future__ import annotations

import platform
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from fuseml_core.domain.errors import Invalid
from fuseml_sdk.environments import find_python, inspect_python

#: Tried in this order when the server's own is not accepted.
_OTHERS = ("3.13", "3.12", "3.14", "3.11", "3.10")


def accepted_python(accepted: str, pythons: tuple[str, ...], subject: str) -> Path:
    """The server's interpreter if it is in a range, else another installed one that is.

    Args:
        accepted: `environment.python` of the manifest, such as `>=3.12`; empty accepts all.
        pythons: Interpreters or folders to look at first.
        subject: Whose range it is, for errors.

    Raises:
        Invalid: It is no range, or nothing that is installed is in it.
    """
    try:
        specifiers = SpecifierSet(accepted)
    except InvalidSpecifier:
        raise Invalid(f"{subject}: environment.python: {accepted!r} is not a range of versions") from None
    own, _ = find_python(None, pythons)
    if specifiers.contains(platform.python_version(), prereleases=True):
        return own
    tried = [platform.python_version()]
    for wanted in _OTHERS:
        python, _ = find_python(wanted, pythons)
        facts = inspect_python(python)
        if facts is not None and specifiers.contains(facts.version, prereleases=True):
            return python
        tried.append(facts.version if facts else str(python))
    raise Invalid(f"{subject} needs Python {accepted}; there is {', '.join(dict.fromkeys(tried))}",
                  hint="Install it, or name it in FUSEML_PYTHONS.")
