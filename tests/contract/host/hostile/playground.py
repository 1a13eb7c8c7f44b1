"""Plays a server with a victim and a hostile extension, as whatever user it is started; prints JSON.

Arguments: a folder to play in, `shared` or `own` (users), JSON of attempts in which {NAME} stands for a fact, JSON of
the permissions of the hostile extension.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import threading
from pathlib import Path

from fuseml_core.host import Component, PluginHost
from fuseml_core.host.isolation import Isolation
from fuseml_core.host.limits import Limits
from fuseml_core.host.own_users import OwnUsers
from fuseml_sdk import hookimpl
from fuseml_sdk.errors import PluginError
from fuseml_sdk.types import (
    AgentDescription,
    ArtifactRef,
    RunnableDescriptor,
    Workload,
    WorkloadInput,
    WorkloadStatus,
)

HERE = Path(__file__).parent


def main() -> None:
    root, users, attempts, permissions = Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    home, runtime = root / "home", root / "run"
    files = _make_files(root, home)
    runtime.mkdir(mode=0o700)
    control, tcp, other, udp = (socket.socket(socket.AF_UNIX), socket.socket(), socket.socket(),
                                socket.socket(type=socket.SOCK_DGRAM))
    control.bind(str(runtime / "control.sock"))
    for numbered in (tcp, other, udp):
        numbered.bind(("127.0.0.1", 0))
    for listener in (control, tcp, other):
        listener.listen()
        threading.Thread(target=_greet, args=(listener,), daemon=True).start()
    mailbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    mailbox.bind(str(root / "mailbox"))
    (root / "mailbox").chmod(0o777)
    old_memory = _old_memory()
    isolation = Isolation(
        protected=(home, runtime), users=OwnUsers(home, 61184, 61300) if users == "own" else None,
        limits=Limits(memory=2 << 30, open_files=256, processes=200, file_size=1 << 20))
    host = PluginHost(runtime_dir=runtime, log_dir=home / "logs", drain_seconds=5, isolation=isolation)
    try:
        victim = _component("victim", home, root, {"attempts": {}, "token": "canary-of-the-victim"}, ())
        host.add(victim)
        host.call("victim", "store_describe", {}, 60)
        (home / "extensions/state/victim/private").write_text("canary of the state")
        pid = next(info.pid for info in host.components())
        facts = {**files, "HOME": str(home), "RUN": str(runtime), "SERVER": os.getpid(), "VICTIM": pid,
                 "TCP": tcp.getsockname()[1], "OTHER": other.getsockname()[1],
                 "UDP": udp.getsockname()[1], "MAILBOX": str(root / "mailbox"), "OLD_MEMORY": old_memory,
                 "SOCKET": str(next(runtime.glob("p-*.sock"))), "STATE": str(home / "extensions/state/hostile")}
        permissions = [permission.format(**facts) for permission in permissions]
        hostile = _component("hostile", home, root, {
            "attempts": _filled(json.loads(attempts), facts),
            "handed": {f"h{number}": pair for number, pair in enumerate(_handings(facts))}}, permissions)
        host.add(hostile)
        host.call("hostile", "store_describe", {}, 60)
        handed = _handed(host, home)
        told = host.call("hostile", "fuseml_health", {}, 60)
        alive = host.call("victim", "store_describe", {}, 60) is not None
        print(json.dumps({
            "told": told, "facts": facts, "handed": handed, "alive": alive, "enforced": isolation.enforced(hostile),
            "measures": {m.name: [m.enforced, m.reason] for m in isolation.measures()},
            "judged": {name: isolation.judge(name) for name in permissions}}))
    finally:
        host.shutdown()
        ctypes.CDLL(None).shmctl(old_memory, 0, None)  # IPC_RMID


class Reader:
    """An agent in the server's own process, whose workloads read their inputs as the server."""

    @hookimpl
    def agent_describe(self) -> AgentDescription:
        return AgentDescription(name="reader", kinds=["job"], environments=["python"], schemes=["file"])

    @hookimpl
    def agent_submit(self, workload: Workload) -> WorkloadStatus:
        top = workload.inputs[0].location.uri.removeprefix("file://")
        read = [Path(at, name).read_text() for at, _, names in os.walk(top, followlinks=True) for name in names]
        return WorkloadStatus(name=workload.name, state="succeeded", log_tail=read)


def _handings(facts: dict[str, object]) -> list[tuple[str, str]]:
    """How the hostile extension hands out which files."""
    return [("harmless", ""), *(
        (how, str(facts.get(name, name))) for how in ("link", "swapped folder", "swapped file", "permission")
        for name in ("PRIVATE", "KEY", "DATABASE", "/etc/shadow"))]


def _handed(host: PluginHost, home: Path) -> dict[str, str]:
    """What a workload of the server's own read of what the hostile extension hands out, or why it did not."""
    host.add(Component(id="reader", extension="built-in", version="1", digest="", family="agent", name="reader",
                       plugin="playground:Reader", hosting="in-process", config={}, state_dir=home / "state/built-in"))
    runnable, told = RunnableDescriptor(name="r", kind="custom", command=["true"]), {}
    for name, pair in host.info("hostile").component.config["handed"].items():
        ref = ArtifactRef(kind="model", project="p", name=name)
        try:
            location = host.store("hostile").locate(ref, ["file"])
            host.store("hostile").ui_url(ref)
            given = WorkloadInput(name="set", kind="model", location=location)
            said = host.agent("reader").submit(Workload(name=name, runnable=runnable, inputs=[given])).log_tail
            told[" ".join(pair)] = f"read: {said}"
        except PluginError as error:
            told[" ".join(pair)] = f"{type(error).__name__}: {error}"
    return told


def _old_memory() -> int:
    """Memory of System V, as another program of this user may have it; everybody of the user may attach to it."""
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    number = int(libc.shmget(0, 4096, 0o600))
    ctypes.memmove(libc.shmat(number, None, 0), b"canary", 6)
    return number


def _make_files(root: Path, home: Path) -> dict[str, str]:
    named = {
        "KEY": home / "keys/registry.key", "DATABASE": home / "fuseml.db", "POLICY": home / "policy.toml",
        "LOG": home / "logs/victim.log", "STRANGER": root / "stranger", "BUNDLE": home / "extensions/store/d/about",
        "PRIVATE": home / "extensions/state/victim/private", "OUTSIDE": root / "outside/data",
    }
    home.mkdir(mode=0o700)
    for name, path in named.items():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(f"canary of {name.lower()}")
    (home / "extensions/store/d").chmod(0o755)
    (root / "outside").chmod(0o755)
    return {name: str(path) for name, path in named.items()}


def _greet(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"hello")
        connection.close()


def _component(name: str, home: Path, root: Path, config: dict[str, object], permissions: object) -> Component:
    return Component(
        id=name, extension=name, version="1.0.0", digest="sha256:0", family="store", name="store",
        plugin="hostile_extension:store", hosting="subprocess", config=config, state_dir=home / "extensions/state" / name,
        python=Path(sys.executable), permissions=tuple(permissions),
        readable=(HERE, home / "extensions/store/d", *(Path(p) for p in sys.path if Path(p).is_dir())))


def _filled(attempts: dict[str, list[object]], facts: dict[str, object]) -> dict[str, list[object]]:
    def fill(value: object) -> object:
        if not isinstance(value, str):
            return value
        if value[1:-1] in facts and value == f"{{{value[1:-1]}}}":
            return facts[value[1:-1]]
        return value.format(**facts)

    return {name: [what, *map(fill, arguments)] for name, (what, *arguments) in attempts.items()}


if __name__ == "__main__":
    main()
