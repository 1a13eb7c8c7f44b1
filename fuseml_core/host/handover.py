"""Files that cross the border of a confined component: sources are handed in, locations handed out are looked at."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel

from fuseml_core.host.components import Component
from fuseml_core.host.folders import HostFolders
from fuseml_core.host.own_users import User, take
from fuseml_sdk.errors import InvalidInput, Permanent
from fuseml_sdk.permissions import parse, unknown
from fuseml_sdk.types import ArtifactDescriptor, Location, RegisterRequest

#: Hooks whose results say where bytes lie that the server reads afterwards.
_TELLING = frozenset({"store_locate", "store_register", "store_get", "store_update", "store_search", "agent_submit",
                      "agent_status", "agent_events", "agent_cancel"})


@contextlib.contextmanager
def handed_over(component: Component, hook: str, arguments: dict[str, Any],
                user_of: Callable[[Component], User | None]) -> Iterator[dict[str, Any]]:
    """Put the `file:` source of a registration where the component may read and change it.

    Files are linked where that is as good as a copy, and stay where they were, so that a registration can be repeated
    after a crash. What the store has not taken is removed afterwards.

    Args:
        component: Who is called.
        hook: Which hook.
        arguments: Of the call.
        user_of: Says which user of its own a component has, if any.

    Yields:
        The arguments to call it with.

    Raises:
        InvalidInput: The source is neither a file nor a folder.
        Permanent: It cannot be put there, such as on a full disk.
    """
    request = arguments.get("request")
    source = _local(request.source.uri) if isinstance(request, RegisterRequest) and request.source else None
    if hook != "store_register" or source is None or _is_own(component, source) or not os.path.lexists(source):
        yield arguments
        return
    assert isinstance(request, RegisterRequest)
    assert request.source is not None
    folders = HostFolders(component.state_dir)
    making = folders.making()
    incoming = folders.incoming / making.name
    try:
        _transfer(source, making / source.name)
        user = user_of(component)
        if user is not None:
            take(making, user)
        making.rename(incoming)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise Permanent(f"{source} cannot be handed over to {component.title}: {error}") from error
    try:
        location = request.source.model_copy(update={"uri": f"file://{quote(str(incoming / source.name))}"})
        yield {**arguments, "request": request.model_copy(update={"source": location})}
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def check_locations(component: Component, hook: str, result: Any) -> None:
    """Refuse files that a component hands out and may not read itself: the server would read them in its place.

    Raises:
        Permanent: A location names such a file.
    """
    if hook not in _TELLING:
        return
    for uri in _locations(result):
        path = _local(uri)
        if path is not None and not _is_own(component, path):
            raise Permanent(f"{component.title} hands out {path}, which is not its own", hint="A component may hand "
                            "out files below its state folder, and those that it has a permission for.")


def _transfer(source: Path, target: Path) -> None:
    kind = source.lstat().st_mode
    if stat.S_ISDIR(kind):
        shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)
    elif stat.S_ISREG(kind):
        _link_or_copy(str(source), str(target))
    else:
        raise InvalidInput(f"{source} is neither a file nor a folder")


def _link_or_copy(source: str, target: str) -> None:
    """A file that has other names already is copied: whoever gets it could change what those names stand for."""
    if os.lstat(source).st_nlink == 1:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(source, target, follow_symlinks=False)
            return
    shutil.copy2(source, target, follow_symlinks=False)


def _local(uri: str) -> Path | None:
    """The path of an address of a file on this machine."""
    parts = urlsplit(uri)
    if parts.scheme.rpartition("+")[2] != "file" or parts.netloc not in ("", "localhost") or not parts.path:
        return None
    return Path(unquote(parts.path))


def _is_own(component: Component, path: Path) -> bool:
    real = path.resolve()
    declared = [parse(name) for name in component.permissions if not unknown([name])]
    roots = [component.state_dir, HostFolders(component.state_dir).incoming, *component.readable,
             *(Path(each.argument) for each in declared if each.kind.form.startswith("filesystem:"))]
    return any(real == root or root in real.parents for root in (each.resolve() for each in roots))


def _locations(value: Any) -> Iterator[str]:
    if isinstance(value, Location):
        yield value.uri
    elif isinstance(value, ArtifactDescriptor):
        yield value.location
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _locations(getattr(value, name))
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _locations(entry)
