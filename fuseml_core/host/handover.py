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
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel

from fuseml_core.host.components import Component
from fuseml_core.host.copies import copy_strange
from fuseml_core.host.folders import HostFolders
from fuseml_core.host.grounds import Grounds
from fuseml_core.host.own_users import User, take
from fuseml_sdk.errors import InvalidInput, Permanent
from fuseml_sdk.types import ArtifactDescriptor, Location, RegisterRequest, Workload, WorkloadOutput, WorkloadStatus

#: Hooks whose arguments may name files that somebody else can change or that the component may not read.
CROSSING = frozenset({"store_register", "agent_submit", "agent_collect"})
#: Hooks whose results say where bytes lie that the server reads afterwards.
_TELLING = frozenset({"store_locate", "store_register", "store_get", "store_update", "store_search", "agent_submit",
                      "agent_status", "agent_events", "agent_cancel"})
#: How the address of a Unix socket begins, of a service.
_SOCKET = "unix:"


def crosses(hook: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a call of a hook hands over anything, so that it must be made within :meth:`Handover.given`."""
    if hook == "store_register":
        request = arguments.get("request")
        return not isinstance(request, RegisterRequest) or request.source is not None
    return hook in CROSSING


@dataclass(frozen=True)
class Handover:
    """Hands files to one component.

    Args:
        component: Who is called.
        grounds: Say whose folders are whose.
        user_of: Says which user of its own a component has, if any.
    """

    component: Component
    grounds: Grounds
    user_of: Callable[[Component], User | None] = lambda _: None

    @contextlib.contextmanager
    def given(self, hook: str, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Put what a hook is to read where the component may read it, and nobody else can change it.

        The `file:` source of a registration is linked where that is as good as a copy, and stays where it was, so that
        a registration can be repeated after a crash; what the store has not taken is removed after the call. What a
        workload reads is copied, because an agent may change its copy, and stays until the workload is collected.
        A component in the server's own process may read everything: it gets copies of what other components could
        still replace by something that is not theirs.

        Args:
            hook: Which hook.
            arguments: Of the call.

        Yields:
            The arguments to call it with.

        Raises:
            InvalidInput: Something is neither a file nor a folder, or leads out of what was handed out.
            Permanent: It cannot be put there, such as on a full disk.
        """
        if hook == "store_register":
            with self._source_of(arguments) as changed:
                yield changed
        elif hook == "agent_submit":
            yield self._inputs_of(arguments)
        else:
            yield arguments
            if hook == "agent_collect":
                shutil.rmtree(self._inputs_folder(str(arguments["name"])), ignore_errors=True)

    def check(self, hook: str, result: Any) -> Any:
        """Refuse files that a component hands out and may not read itself: the server would read them in its place.

        What somebody else runs reads what it likes, if it is on this machine at all; but nothing of the server's.

        Args:
            hook: Which hook.
            result: Its result.

        Returns:
            The result, with paths as they are without links: what is read later lies where it lay now.

        Raises:
            Permanent: A location names such a file.
        """
        return _mapped(result, self._checked) if hook in _TELLING else result

    def _checked(self, uri: str) -> str:
        path = Path(uri.removeprefix(_SOCKET)) if uri.startswith(_SOCKET) else _local(uri)
        if path is None:
            return uri
        real = os.path.realpath(path)
        if self.component.hosting == "address":
            if self.grounds.shields(self.component, path):
                raise Permanent(f"{self.component.title} hands out {path}, which is the server's own",
                                hint="Let it put what it hands out into a folder of its own.")
            return f"{_SOCKET}{real}" if uri.startswith(_SOCKET) else uri
        if not self.grounds.owns(self.component, path):
            raise Permanent(f"{self.component.title} hands out {path}, which is not its own", hint="A component may "
                            "hand out files below its state folder, and those that it has a permission for.")
        if real == str(path):
            return uri
        return f"{_SOCKET}{real}" if uri.startswith(_SOCKET) else _at(uri, Path(real))

    @contextlib.contextmanager
    def _source_of(self, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        request = arguments.get("request")
        given = request.source if isinstance(request, RegisterRequest) else None
        if not isinstance(request, RegisterRequest) or given is None:
            yield arguments
            return
        path = _local(given.uri)
        if path is not None and self._by_others(path) and not self.grounds.owns(self.component, path):
            # Digests that a confined agent tells are not believed: others would get its contents under theirs.
            request = request.model_copy(update={"files": None})
        source = self._foreign(given.uri)
        if source is None:
            yield {**arguments, "request": request}
            return
        incoming = HostFolders(self.component.state_dir).incoming / secrets.token_hex(8)
        self._put({source: source.name}, incoming, _link_or_copy)
        try:
            location = given.model_copy(update={"uri": f"file://{quote(str(incoming / source.name))}"})
            yield {**arguments, "request": request.model_copy(update={"source": location})}
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _inputs_of(self, arguments: dict[str, Any]) -> dict[str, Any]:
        workload = arguments["workload"]
        if not isinstance(workload, Workload):
            return arguments
        locations = [each.location for each in workload.inputs] + ([workload.contents] if workload.contents else [])
        sources = sorted({path for each in locations if (path := self._foreign(each.uri)) is not None})
        if not sources:
            return arguments
        incoming = self._inputs_folder(workload.name)
        places = {path: f"{number}/{path.name}" for number, path in enumerate(sources)}
        if not incoming.exists():  # submitted again: the agent may be reading what is there
            self._put(places, incoming, shutil.copy2)

        def moved(location: Location) -> Location:
            path = _local(location.uri)
            if path not in places:
                return location
            return location.model_copy(update={"uri": _at(location.uri, incoming / places[path])})

        inputs = [each.model_copy(update={"location": moved(each.location)}) for each in workload.inputs]
        contents = moved(workload.contents) if workload.contents else None
        return {**arguments, "workload": workload.model_copy(update={"inputs": inputs, "contents": contents})}

    def _inputs_folder(self, workload: str) -> Path:
        """Where a workload's inputs lie; the name is hashed, because an agent may be asked to collect any name."""
        return HostFolders(self.component.state_dir).workloads / hashlib.sha256(workload.encode()).hexdigest()[:32]

    def _put(self, sources: Mapping[Path, str], place: Path, copy: Callable[[str, str], object]) -> None:
        """Make a folder with these files, whole or not at all."""
        folders = HostFolders(self.component.state_dir)
        if not place.parent.is_dir():  # those of a confined component were made when it was started
            folders.prepare()
        making = folders.making()
        try:
            for source, name in sources.items():
                (making / name).parent.mkdir(exist_ok=True)
                root = self._by_others(source)
                if root is None:
                    _transfer(source, making / name, copy)
                else:
                    copy_strange(source, root, making / name)
            user = self.user_of(self.component)
            if user is not None:
                take(making, user)
            making.rename(place)
        except OSError as error:
            shutil.rmtree(making, ignore_errors=True)
            if place.is_dir():  # somebody else has just made the same
                return
            what = ", ".join(map(str, sources))
            raise Permanent(f"{what} cannot be handed over to {self.component.title}: {error}") from error
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise

    def _foreign(self, uri: str) -> Path | None:
        """The path behind an address, if it is on this machine and must not be read by the component where it is."""
        path = _local(uri)
        if path is None or not os.path.lexists(path):
            return None
        if self.component.hosting == "subprocess":
            return None if self.grounds.owns(self.component, path) else path
        return path if self._by_others(path) is not None else None

    def _by_others(self, path: Path) -> Path | None:
        """The folder around a path that another component may change; None if there is none."""
        return self.grounds.root_of(path)


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


def _at(uri: str, path: Path) -> str:
    """The same address with another path."""
    return urlsplit(uri)._replace(path=quote(str(path))).geturl()


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A result with each address of contents in it changed."""
    if isinstance(value, Location):
        return value.model_copy(update={"uri": change(value.uri)})
    if isinstance(value, ArtifactDescriptor):
        return value.model_copy(update={"location": change(value.location)})
    if isinstance(value, BaseModel):
        given = {name: getattr(value, name) for name in type(value).model_fields}
        changed = {name: new for name, old in given.items() if (new := _mapped(old, change)) is not old}
        if isinstance(value, WorkloadOutput) and value.value and not value.value.startswith(_SOCKET):
            changed["value"] = change(value.value)  # as the input of a later step it may be taken for a location
        if isinstance(value, WorkloadStatus) and value.endpoint:
            changed["endpoint"] = change(value.endpoint)  # the gateway connects to it
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, list | tuple):
        mapped = [_mapped(entry, change) for entry in value]
        return mapped if any(new is not old for new, old in zip(mapped, value, strict=True)) else value
    return value
