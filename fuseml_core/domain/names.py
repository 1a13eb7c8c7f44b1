"""Names that people give: projects, artifacts, pipelines, services."""

from __future__ import annotations

import re

from fuseml_core.domain.errors import Invalid

LABEL = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?\Z")
#: A name that looks like this would read as a version in `model://myproj/4c88e8f252be`.
HEX_LIKE = re.compile(r"^[0-9a-f]{7,64}$")
#: Projects that belong to FuseML itself.
RESERVED_PROJECTS = frozenset({"fuseml"})


def check_name(value: str, what: str) -> str:
    """Return `value` if it may name a thing of sort `what` (such as "project").

    Raises:
        Invalid: It may not; the message says why and what is allowed.
    """
    if not LABEL.match(value) or ".." in value or value.endswith(".git"):
        raise Invalid(
            f"{value!r} cannot name a {what}",
            hint="Use 1 to 63 of a-z, 0-9, -, _ and ., beginning and ending with a letter or digit.",
        )
    if HEX_LIKE.match(value):
        raise Invalid(
            f"{value!r} cannot name a {what}: it looks like a version (7 to 64 hexadecimal digits)",
            hint="Add a letter beyond f, or a hyphen.",
        )
    return value


def check_project(value: str) -> str:
    """Return `value` if it may name a project.

    Raises:
        Invalid: It may not, or it is reserved.
    """
    check_name(value, "project")
    if value in RESERVED_PROJECTS:
        raise Invalid(f"the project name {value!r} is reserved", hint="Choose another name.")
    return value
