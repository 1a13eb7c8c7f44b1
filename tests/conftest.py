"""What several folders of tests need."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def postgresql_url():
    """A PostgreSQL server of our own on loopback, stopped at the end."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:  # continuous integration has it; a person may do without
        (pytest.fail if os.environ.get("CI") else pytest.skip)("PostgreSQL is not installed: apt-get install postgresql")
    # The server refuses to run as root; its own user must be able to enter the directory, unlike pytest's.
    root = Path(tempfile.mkdtemp(prefix="fz-pg-", dir="/tmp"))
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if as_user:
        shutil.chown(root, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, run = root / "data", {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/", "timeout": 120}
    control = [*as_user, found[-1].with_name("pg_ctl"), "-D", data]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    subprocess.run([*as_user, found[-1], "-D", data, "-U", "fuseml", "-A", "trust", "--no-sync"], **run)
    subprocess.run([*control, "-w", "-l", root / "log", "-o", options, "start"], **run)
    yield f"postgresql+psycopg://fuseml@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], **run)
    shutil.rmtree(root)
