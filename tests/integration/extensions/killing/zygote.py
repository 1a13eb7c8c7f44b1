"""Changes extensions in processes that die at a chosen durable step. Run by test_killed_changes.py.

Reads one JSON command a line, forks for each, so that only the first pays for imports, and answers one JSON line:
`{"code": exit code, "result": what the child wrote, or null}`. A child that is told to die at step N ends without
any cleaning up just before the Nth time that something becomes durable: a rename, an fsync, a commit, or a tree of
files that is removed; each step is counted before and after.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

import fuseml_core.cli  # noqa: F401 - as much as possible is imported before the first fork
from fuseml_core.adapters.sql.migration import migrate  # noqa: F401
from fuseml_core.bootstrap import bootstrap
from fuseml_core.domain.errors import FusemlError, NotFound
from fuseml_core.launcher.directories import prepare_directories
from fuseml_core.service.extensions import Options
from fuseml_core.settings import from_environment

#: Exit code of a child that died as it was told.
DIED = 77


class Steps:
    """Counts durable steps, and dies at one of them."""

    def __init__(self, last: int) -> None:
        self.count, self.last = 0, last

    def step(self) -> None:
        self.count += 1
        if self.count == self.last:
            os._exit(DIED)

    def around(self, call: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.step()
            result = call(*arguments, **named)
            self.step()
            return result

        return counted

    def install(self) -> None:
        for name in ("replace", "rename", "fsync", "link"):
            setattr(os, name, self.around(getattr(os, name)))
        shutil.rmtree = self.around(shutil.rmtree)
        commit = DefaultDialect.do_commit
        counted = self.around(commit)

        def only_writes(dialect: Any, connection: Any) -> None:
            (counted if dialect.fuseml_wrote else commit)(dialect, connection)
            dialect.fuseml_wrote = False

        DefaultDialect.fuseml_wrote = False
        DefaultDialect.do_commit = only_writes

        @event.listens_for(Engine, "after_cursor_execute")
        def _wrote(connection: Any, _cursor: Any, statement: str, *_others: Any) -> None:
            if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA", "BEGIN", "SHOW")):
                connection.dialect.fuseml_wrote = True


def change(application: Any, command: dict[str, Any]) -> dict[str, Any]:
    """Do what a command says."""
    extensions, what = application.extensions, command["change"]
    if what == "install":
        return extensions.install(command["references"])
    if what == "upgrade":
        return extensions.upgrade([])
    if what == "rollback":
        return extensions.rollback(command["to"], Options(force=True))
    return extensions.uninstall(command["names"], prune=True)


def look(application: Any, command: dict[str, Any]) -> dict[str, Any]:
    """What a new server finds: everything that a test compares."""
    extensions, home = application.extensions, Path(os.environ["FUSEML_HOME"])
    extensions.load_installed()
    extensions.resume()
    records = extensions._records.list()
    for record in records:
        extensions._host.check(record)
    found = {"active": {r.name: r.version for r in records}, "number": extensions.generation().number,
             "members": {m.name: m.version for m in extensions.generation().members},
             "store": sorted(p.name for p in (home / "extensions/store").glob("*")),
             "known": sorted(r.digest[7:] for r in extensions._records.all()),
             "work": dict(extensions._generations.work()), "running": extensions._lock.running()}
    if command.get("again"):
        try:
            change(application, command["again"])
        except NotFound as error:
            found["again_error"] = error.message
        found["after"] = {r.name: r.version for r in extensions._records.list()}
    return found


def prepare(application: Any, command: dict[str, Any]) -> dict[str, Any]:
    """Bring a new home into the state from which changes start."""
    application.start()
    for references in command["installs"]:
        application.extensions.install(references)
    application.extensions.stop()
    return {}


def child(command: dict[str, Any], answer: Path) -> None:
    """What a forked process does."""
    os.environ |= command["environment"]
    settings = from_environment()
    prepare_directories(settings)
    application = bootstrap(settings)
    steps = Steps(command.get("die_at", 0))
    do = {"prepare": prepare, "look": look, "change": change}[command["do"]]
    if command["do"] == "change":
        application.extensions.load_installed()
        steps.install()
    try:
        result = do(application, command)
    except FusemlError as error:
        result = {"error": error.message}
    steps.last = 0  # a thread that watches the components may still write
    answer.write_text(json.dumps({"result": result, "steps": steps.count}))
    if command["do"] == "prepare":
        application.stop()
    # Otherwise it ends here: its plugins notice by their lifelines.


def main() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        answer = Path(tempfile.mkdtemp(prefix="fz-a-")) / "answer"
        pid = os.fork()
        if not pid:
            code = 1
            try:
                child(command, answer)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        told = json.loads(answer.read_text()) if code == 0 else {"result": None, "steps": 0}
        shutil.rmtree(answer.parent)
        print(json.dumps({"code": code, **told}), flush=True)


main()
