"""An extension tries what it must not (R133): as another user, as root without users, as a user of its own."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

HOSTILE = Path(__file__).parent / "hostile"
#: A user and a group that own nothing.
NOBODY = 65534
#: Of no use to a plugin, and large.
LEFT_OUT = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "turtledemo",
                                  "config-*")
IMPORTED = """
import json, sys
import fuseml_core.host.isolation, fuseml_sdk.serve.application, fuseml_sdk.serve.server, fuseml_sdk.serve.__main__
names = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
print(json.dumps([file for name in names if (file := getattr(sys.modules.get(name), "__file__", None))]))
"""

#: What every hostile extension tries, by name: a function of it, and arguments.
BREAKING_OUT = {
    "key of the server": ["read", "{KEY}"], "database": ["read", "{DATABASE}"], "policy": ["read", "{POLICY}"],
    "log of another": ["read", "{LOG}"], "state of another": ["read", "{PRIVATE}"],
    "home of the server": ["folder", "{HOME}"], "folder of sockets": ["folder", "{RUN}"],
    "files of people": ["read", "{OUTSIDE}"], "root": ["folder", "/"], "temporary files of all": ["folder", "/tmp"],
    "shadow": ["read", "/etc/shadow"], "secrets by a link": ["shortcut", "{KEY}", "{STATE}/link"],
    "secrets by a hard link": ["hard_link", "{PRIVATE}", "{STATE}/hard"],
    "secrets by a child": ["elsewhere", "cat", "{KEY}"], "secrets by the root of proc": ["read", "/proc/self/root{KEY}"],
    "state by the server's proc": ["read", "/proc/{SERVER}/root{PRIVATE}"],
    "write to another": ["write", "{PRIVATE}"], "write to the server": ["write", "{HOME}/planted"],
    "change its bundle": ["write", "{BUNDLE}"], "write to all": ["write", "/tmp/fuseml-planted"],
    "move away": ["rename", "{BUNDLE}", "{STATE}/gone"], "shared memory": ["write", "/dev/shm/fuseml-planted"],
    "variables of the server": ["read", "/proc/{SERVER}/environ"], "variables of another": ["read", "/proc/{VICTIM}/environ"],
    "memory of the server": ["read", "/proc/{SERVER}/mem"], "configuration of another": ["read", "/proc/{VICTIM}/fd/0"],
    "log of the server": ["read", "/proc/{SERVER}/fd/2"],
    "maps of another": ["read", "/proc/{VICTIM}/maps"],
    "trace the server": ["attach", "{SERVER}"], "trace another": ["attach", "{VICTIM}"],
    "stop another": ["signal", "{VICTIM}", 9], "stop the server": ["signal", "{SERVER}", 15],
    "limit the server": ["limit", "{SERVER}"], "limit another": ["limit", "{VICTIM}"],
    "server's interface": ["unix", "{RUN}/control.sock"], "socket of another": ["unix", "{SOCKET}"],
    "network": ["tcp", "{TCP}"], "datagrams": ["udp", "{UDP}"], "listen": ["listen"],
    "list of sockets": ["netlink", 4], "namespaces": ["escape_by_names"],
    "namespace of users": ["clone", 0x10000000], "namespace of networks": ["clone", 0x40000000],
    "datagrams of a pair": ["datagram", "{MAILBOX}"], "memory of System V": ["old_memory", "{OLD_MEMORY}"],
    "messages of System V": ["old_messages"], "semaphores of System V": ["old_semaphores"],
    "watch the server": ["watch", "{HOME}"], "watch another": ["watch", "{HOME}/extensions/state/victim"],
    "watch all": ["watch_all"],
    **{f"{how} {whom.lower()}": ["slow_down", f"{{{whom}}}", how] for how in ("nice", "idle", "processor")
       for whom in ("SERVER", "VICTIM")}, "nice all": ["slow_down", 0, "user"],
    **{f"set-user-id by {how}": ["set_user_id", f"{{STATE}}/{how}", how] for how in ("chmod", "open", "node")},
    "much memory": ["memory", 3 << 30], "many descriptors": ["descriptors", 300],
}
#: What has to go on working.
NEEDED = {
    "its bundle": ["read", "{BUNDLE}"], "its state": ["write", "{STATE}/mine"], "modes": ["mode", "{STATE}/private"],
    "temporary": ["temporary"], "modules": ["folder", "/usr/lib"], "names": ["read", "/etc/passwd"], "about itself": ["status"], "chance": ["read", "/dev/urandom"],
    "programs": ["program", "/bin/echo", "hello"], "children": ["elsewhere", "echo", "hello"], "threads": ["threads"],
    "loop": ["loop"], "interpreter": ["interpreter"], "pair": ["pair"], "less important": ["slow_down", 0, "nice"],
    "one processor": ["slow_down", 0, "processor"], "who": ["ids"], "variables": ["variables"], "descriptors": ["descriptors", 100],
    "memory": ["memory", 50 << 20], "own descriptors": ["folder", "/proc/self/fd"],
    "renaming": ["rename", "{STATE}/mine", "{STATE}/yours"],
}


@pytest.fixture(scope="module")
def playground():
    """A folder that everybody can get to, with an interpreter that has this project; not in a private TMPDIR."""
    root = Path(tempfile.mkdtemp(prefix="fz-open-", dir="/tmp"))
    try:
        yield root, _interpreter(root)
    finally:
        shutil.rmtree(root)


def _interpreter(root: Path) -> Path:
    root.chmod(0o755)
    base, stdlib = Path(sys._base_executable).resolve(), Path(sysconfig.get_path("stdlib"))
    is_open = all(folder.stat().st_mode & stat.S_IXOTH for path in (base, stdlib) for folder in path.resolve().parents)
    system = Path(f"/usr/bin/{stdlib.name}")
    if not is_open and system.exists():
        base = system
    elif not is_open:  # It lies in a home folder that is closed to others.
        shutil.copytree(stdlib, root / "base" / "lib" / stdlib.name, ignore=LEFT_OUT, symlinks=True)
        for library in stdlib.parent.glob("libpython*.so*"):
            shutil.copy(library, root / "base" / "lib")
        (root / "base" / "bin").mkdir()
        copy = root / "base" / "bin" / base.name
        # Where it looks for its library is a path in that home folder; elf(5) ends strings with NUL.
        there, here = str(stdlib.parent).encode() + b"\0", b"$ORIGIN/../lib"
        copy.write_bytes(base.read_bytes().replace(there, here.ljust(len(there), b"\0")))
        copy.chmod(0o755)
        base = copy
    subprocess.run([base, "-m", "venv", "--without-pip", "--symlinks", root / "venv"], check=True)
    packages = next((root / "venv" / "lib").glob("python*")) / "site-packages"
    told = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True).stdout
    for file in map(Path, json.loads(told)):
        if file.name == "__init__.py":
            shutil.copytree(file.parent, packages / file.parent.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif file.parent.name == "site-packages":
            shutil.copy(file, packages)
    shutil.copytree(HOSTILE, packages, dirs_exist_ok=True)
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o755 if path.is_dir() else 0o444))
    return root / "venv" / "bin" / "python"


WHO = ["ordinary", "root", "own"]


@pytest.fixture(params=WHO)
def play(request, playground):
    """Runs a server with a victim and a hostile extension, and returns what the latter got."""
    root, python = playground
    who = request.param
    if who != "ordinary" and os.geteuid() != 0:
        pytest.skip("only root can give processes other users")
    folders = []

    def run(attempts, permissions=()):
        folder = Path(tempfile.mkdtemp(prefix="p-", dir=root))
        folders.append(folder)
        folder.chmod(0o755)
        as_whom = {}
        if who == "ordinary" and os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            as_whom = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        done = subprocess.run(
            [python, "-I", HOSTILE / "playground.py", folder, "own" if who == "own" else "shared",
             json.dumps(attempts), json.dumps(permissions)], capture_output=True, text=True, timeout=120, check=False,
            cwd=folder, env={"PATH": os.environ["PATH"], "SERVER_PASSWORD": "canary of the server", "HOME": str(folder),
                             "PIP_INDEX_URL": "http://user:canary@index.example/"}, **as_whom)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        told["who"] = who
        return told

    yield run
    for folder in folders:
        shutil.rmtree(folder)


def test_r133_an_extension_cannot_reach_the_server_or_another_extension(play):
    told = play(BREAKING_OUT)
    got = {name: answer["got"] for name, answer in told["told"].items() if "got" in answer}
    assert got == {}
    assert set(told["told"]) == set(BREAKING_OUT)
    assert told["alive"]
    assert "canary" not in json.dumps(told["told"])
    handed = told["handed"]
    assert handed.pop("harmless ") == "read: ['harmless']"
    assert {name for name, said in handed.items() if said.startswith("read")} == set(), "by way of the server"
    assert not [said for said in handed.values() if not any(word in said for word in ("leads", "not its own"))]


def test_r133_what_an_extension_needs_goes_on_working(play):
    told = play(NEEDED)
    refused = {name: answer["refused"] for name, answer in told["told"].items() if "refused" in answer}
    assert refused == {}
    got = {name: answer["got"] for name, answer in told["told"].items()}
    assert got["modes"] == "0o600"
    assert got["interpreter"] == "", "it finds whatever it reads by itself, such as a sitecustomize in /etc"
    assert got["temporary"].startswith(got["variables"]["TMPDIR"])
    assert got["about itself"]["NoNewPrivs"] == "1"
    assert int(got["about itself"]["CapEff"], 16) == 0
    assert "canary" not in json.dumps(got["variables"])
    assert set(got["variables"]) <= {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ"}
    expected = {"ordinary": NOBODY if os.geteuid() == 0 else os.geteuid(), "root": 0}.get(told["who"])
    assert got["who"]["uid"] == expected if told["who"] != "own" else 61184 < got["who"]["uid"] <= 61300


@pytest.mark.parametrize("play", ["ordinary", "own"], indirect=True)
def test_r133_what_is_declared_is_allowed_and_nothing_beside_it(play):
    permissions = ["network", "unix-sockets", "shared-memory", "filesystem:read:{OUTSIDE}", "filesystem:read:{HOME}/keys",
                   "filesystem:write:/dev", "no-such-permission"]
    shared = f"/dev/shm/fuseml-test-{os.getpid()}"
    told = play({
        "network": ["tcp", "{TCP}"], "datagrams": ["udp", "{UDP}"], "listen": ["listen"],
        "file": ["read", "{OUTSIDE}"], "memory": ["write", shared], "variables": ["variables"],
        "key": ["read", "{KEY}"], "write": ["write", "{OUTSIDE}"], "list of sockets": ["netlink", 4],
        "messages": ["old_messages"], "semaphores": ["old_semaphores"], "datagrams of a pair": ["datagram", "{MAILBOX}"],
        "state of another": ["read", "{PRIVATE}"], "server": ["unix", "{RUN}/control.sock"]}, permissions)
    Path(shared).unlink(missing_ok=True)
    answers = told["told"]
    got = {"network", "datagrams", "listen", "memory", "messages", "semaphores", "datagrams of a pair", "variables", "file"}
    if told["who"] == "ordinary":  # With a user of its own it cannot even get to the folder of the sockets.
        got.add("server")
    assert {name for name, answer in answers.items() if "got" in answer} == got
    assert answers["variables"]["got"]["PIP_INDEX_URL"] == "http://user:canary@index.example/"
    refused = told["judged"][f"filesystem:read:{told['facts']['HOME']}/keys"]
    assert "canary" not in json.dumps(told["handed"]), "a permission that is refused hands out nothing either"
    assert refused == [True, "refused: the server keeps its own files there"]
    assert told["judged"]["no-such-permission"][0] is False


@pytest.mark.parametrize("play", ["ordinary"], indirect=True)
def test_r133_a_declared_port_is_the_only_one(play):
    told = play({"declared": ["tcp", "{TCP}"], "another": ["tcp", "{OTHER}"], "listen": ["listen"]}, ["network:{TCP}"])
    enforced, reason = told["measures"]["ports"]
    if not enforced:
        assert reason
        assert next(iter(told["judged"].values()))[0] is False
        pytest.skip(f"ports are not enforced: {reason}")
    assert told["told"]["declared"] == {"got": "hello"}
    assert "PermissionError" in told["told"]["another"]["refused"]
    assert "PermissionError" in told["told"]["listen"]["refused"]
