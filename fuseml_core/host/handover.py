"""Files that cross the border of a confined component.

Sources of a store and inputs of a workload are handed in, locations handed out are looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel

from fuseml_core.host.components import Component
from fuseml_core.host.folders import HostFolders
from fuseml_core.host.own_users import User, take
from fuseml_sdk.errors import InvalidInput, Permanent
from fuseml_sdk.permissions import parse, unknown
from fuseml_sdk.types import ArtifactDescriptor, Location, RegisterRequest, Workload

#: Hooks whose results say where bytes lie that the server reads afterwards.
_TELLING = frozenset({"store_locate", "store_register", "store_get", "store_update", "store_search", "agent_submit",
                      "agent_status", "agent_events", "agent_cancel"})


def crosses(hook: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a call of a hook hands over anything, so that it must be made within :func:`handed_over`."""
    if hook == "store_register":
        request = arguments.get("request")
        return isinstance(request, RegisterRequest) and request.source is not None
    return hook in ("agent_submit", "agent_collect")


@contextlib.contextmanager
def handed_over(component: Component, hook: str, arguments: dict[str, Any],
                user_of: Callable[[Component], User | None]) -> Iterator[dict[str, Any]]:
    """Put what a hook is to read where the component may read it.

    The `file:` source of a registration is linked where that is as good as a copy, and stays where it was, so that a
    registration can be repeated after a crash; what the store has not taken is removed after the call. What a workload
    reads is copied, because an agent may change its copy, and stays until the workload is collected.

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
    if hook == "store_register":
        with _source_of(component, arguments, user_of) as given:
            yield given
    elif hook == "agent_submit":
        yield _inputs_of(component, arguments, user_of)
    else:
        yield arguments
        if hook == "agent_collect":
            shutil.rmtree(_inputs_folder(component, str(arguments["name"])), ignore_errors=True)


@contextlib.contextmanager
def _source_of(component: Component, arguments: dict[str, Any],
               user_of: Callable[[Component], User | None]) -> Iterator[dict[str, Any]]:
    request = arguments.get("request")
    given = request.source if isinstance(request, RegisterRequest) else None
    source = _foreign(component, given.uri) if given is not None else None
    if source is None or given is None:
        yield arguments
        return
    assert isinstance(request, RegisterRequest)
    incoming = HostFolders(component.state_dir).incoming / secrets.token_hex(8)
    _put(component, {source: source.name}, incoming, user_of(component), _link_or_copy)
    try:
        location = given.model_copy(update={"uri": f"file://{quote(str(incoming / source.name))}"})
        yield {**arguments, "request": request.model_copy(update={"source": location})}
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _inputs_of(component: Component, arguments: dict[str, Any],
               user_of: Callable[[Component], User | None]) -> dict[str, Any]:
    workload = arguments["workload"]
    if not isinstance(workload, Workload):
        return arguments
    locations = [each.location for each in workload.inputs] + ([workload.contents] if workload.contents else [])
    sources = sorted({path for each in locations if (path := _foreign(component, each.uri)) is not None})
    if not sources:
        return arguments
    incoming = _inputs_folder(component, workload.name)
    places = {path: f"{number}/{path.name}" for number, path in enumerate(sources)}
    if not incoming.exists():  # submitted again: the agent may be reading what is there
        _put(component, places, incoming, user_of(component), shutil.copy2)

    def moved(location: Location) -> Location:
        path = _local(location.uri)
        if path not in places:
            return location
        parts = urlsplit(location.uri)._replace(path=quote(str(incoming / places[path])))
        return location.model_copy(update={"uri": parts.geturl()})

    inputs = [each.model_copy(update={"location": moved(each.location)}) for each in workload.inputs]
    contents = moved(workload.contents) if workload.contents else None
    return {**arguments, "workload": workload.model_copy(update={"inputs": inputs, "contents": contents})}


def _inputs_folder(component: Component, workload: str) -> Path:
    """Where a workload's inputs lie; the name is hashed, because an agent may be asked to collect any name."""
    return HostFolders(component.state_dir).workloads / hashlib.sha256(workload.encode()).hexdigest()[:32]


def _put(component: Component, sources: Mapping[Path, str], place: Path, user: User | None,
         copy: Callable[[str, str], object]) -> None:
    """Make a folder with these files, whole or not at all."""
    making = HostFolders(component.state_dir).making()
    try:
        for source, name in sources.items():
            (making / name).parent.mkdir(exist_ok=True)
            _transfer(source, making / name, copy)
        if user is not None:
            take(making, user)
        making.rename(place)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        if place.is_dir():  # somebody else has just made the same
            return
        what = ", ".join(map(str, sources))
        raise Permanent(f"{what} cannot be handed over to {component.title}: {error}") from error
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _foreign(component: Component, uri: str) -> Path | None:
    """The path behind an address if it is on this machine and the component may not read it by itself."""
    path = _local(uri)
    return path if path is not None and not _is_own(component, path) and os.path.lexists(path) else None


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


def _transfer(source: Path, target: Path, copy: Callable[[str, str], object]) -> None:
    kind = source.lstat().st_mode
    if stat.S_ISDIR(kind):
        shutil.copytree(source, target, symlinks=True, copy_function=copy)
    elif stat.S_ISREG(kind):
        copy(str(source), str(target))
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
    if not uri:
        return None
    parts = urlsplit(uri)
    if parts.scheme.rpartition("+")[2] != "file" or parts.netloc not in ("", "localhost") or not parts.path:
        return None
    return Path(unquote(parts.path))


def _is_own(component: Component, path: Path) -> bool:
    real = path.resolve()
    declared = [parse(name) for name in component.permissions if not unknown([name])]
    folders = HostFolders(component.state_dir)
    roots = [component.state_dir, folders.incoming, folders.workloads, *component.readable,
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
