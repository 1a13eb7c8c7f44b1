"""An extension that tries whatever its configuration lists, and tells how far it got."""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from fuseml_sdk import hookimpl
from fuseml_sdk.types import Location, StoreDescription

_LIBC = ctypes.CDLL(None, use_errno=True)


def read(path):
    with open(path, "rb") as file:
        return file.read(200).decode("utf-8", "replace")


def folder(path):
    return sorted(os.listdir(path))


def write(path):
    Path(path).write_text("changed")
    return "changed"


def rename(old, new):
    os.rename(old, new)
    return "renamed"


def hard_link(old, new):
    os.link(old, new)
    return Path(new).read_text()


def shortcut(target, link):
    Path(link).symlink_to(target)
    return Path(link).read_text()


def tcp(port):
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        return connection.recv(100).decode()


def listen():
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        own.listen()
        return "listens"


def udp(port):
    with socket.socket(type=socket.SOCK_DGRAM) as own:
        return own.sendto(b"secret", ("127.0.0.1", port))


def unix(path):
    with socket.socket(socket.AF_UNIX) as own:
        own.settimeout(5)
        own.connect(path)
        return own.recv(100).decode()


def netlink(protocol):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol):
        return "open"


def attach(pid):
    if _LIBC.ptrace(16, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _LIBC.ptrace(17, pid, 0, 0)
    return "attached"


def signal(pid, number):
    os.kill(pid, number)
    return "sent"


def limit(pid):
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
    return "changed"


def memory(amount):
    return len(bytearray(amount))


def descriptors(count):
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    for descriptor in held:
        os.close(descriptor)
    return len(held)


def program(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def interpreter():
    """What the interpreter complains about when it starts with nothing compiled, as the first time."""
    command = [sys.executable, "-I", "-B", "-X", f"pycache_prefix={tempfile.gettempdir()}", "-c", ""]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stderr


def elsewhere(*command):
    """The same through a child that sheds what it can."""
    return program("/bin/sh", "-c", f"umask 000; exec {' '.join(command)}")


def escape_by_names():
    if _LIBC.unshare(0x10000000 | 0x00020000) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "in a namespace"


def clone(flags):
    """A child by the system call itself; 17 is SIGCHLD, and the numbers of the call are of x86_64 and aarch64."""
    child = _called({"x86_64": 56, "aarch64": 220}[os.uname().machine], flags | 17, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "in a namespace"


def datagram(path):
    """One end of a pair of sockets sends to a socket of somebody else."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return pair[0].sendto(b"secret", path)


def pair():
    one, other = socket.socketpair()
    one.sendall(b"hello")
    return other.recv(5).decode()


def watch(path):
    handle = _checked(_LIBC.inotify_init1(0))
    return _checked(_LIBC.inotify_add_watch(handle, path.encode(), 0x100))


def watch_all():
    """fanotify_init(FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME, 0)."""
    return _checked(_LIBC.fanotify_init(0xE00, 0))


def old_memory(number):
    """Attach to memory of System V."""
    _LIBC.shmat.restype = ctypes.c_void_p
    found = _LIBC.shmat(number, None, 0)
    if found in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return ctypes.string_at(found, 6).decode()


def old_messages():
    return _checked(_LIBC.msgget(0, 0o600))


def old_semaphores():
    return _checked(_LIBC.semget(0, 1, 0o600))


def slow_down(pid, how):
    """Make another process wait for everybody else."""
    if how == "nice":
        os.setpriority(os.PRIO_PROCESS, pid, 19)
    elif how == "user":
        os.setpriority(os.PRIO_USER, 0, 19)
    elif how == "idle":
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    elif how == "processor":
        os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
    return "slower"


def set_user_id(path, how):
    """A file that runs as its owner, whoever starts it."""
    if how == "open":
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o4755))
    elif how == "node":
        os.mknod(path, 0o104755)
    else:
        Path(path).write_text("mine")
        os.chmod(path, 0o4755)
    return oct(Path(path).stat().st_mode)


def _called(number, *arguments):
    _LIBC.syscall.restype = ctypes.c_long
    return _checked(_LIBC.syscall(*map(ctypes.c_long, (number, *arguments))))


def _checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def gain(uid):
    os.setuid(uid)
    return "is now somebody else"


def temporary():
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_text("mine")
        return file.name


def mode(path):
    Path(path).write_text("mine")
    return oct(Path(path).stat().st_mode & 0o777)


def threads():
    seen = []
    many = [threading.Thread(target=seen.append, args=(n,)) for n in range(8)]
    for thread in many:
        thread.start()
    for thread in many:
        thread.join()
    return len(seen)


def loop():
    return asyncio.run(asyncio.sleep(0, "went round"))


def ids():
    return {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups()}


def status():
    return dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)


def variables():
    return dict(os.environ)


class Store:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.config, self.state = config, Path(state_dir)

    @hookimpl
    def store_locate(self, ref, accepts):
        """Hand out a folder with something harmless, or with a link in it to what is not its own."""
        how, target = self.config["handed"][ref.name]
        folder = self.state / "handed" / ref.name
        folder.mkdir(parents=True)
        (folder / "data").write_text("harmless")
        if how == "link":
            (folder / "more").symlink_to(target)
        return Location(uri=folder.as_uri() if how != "permission" else f"file://{target}")

    @hookimpl
    def store_ui_url(self, ref):
        """The moment after the check: put a link where the folder was, or where the file was."""
        how, target = self.config["handed"][ref.name]
        folder = self.state / "handed" / ref.name
        if how == "swapped folder":
            folder.rename(self.state / f"{ref.name}-gone")
            folder.symlink_to(Path(target).parent)
        elif how == "swapped file":
            (folder / "data").unlink()
            (folder / "data").symlink_to(target)
        return "https://example.org"

    @hookimpl
    def store_describe(self):
        return StoreDescription(name="hostile", kinds=["model"], schemes=["file"], capabilities=[])

    @hookimpl
    def fuseml_health(self):
        return {name: _tried(what, arguments) for name, (what, *arguments) in self.config["attempts"].items()}


def _tried(what, arguments):
    try:
        return {"got": globals()[what](*arguments)}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}


store = Store()
