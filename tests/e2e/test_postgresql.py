"""The server on PostgreSQL, as the how-to page says: from a push to a prediction, and on after kill -9."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/use-postgresql.md"


@pytest.mark.full
def test_the_server_keeps_its_records_in_postgresql(fuseml, postgresql_url):
    """Nothing is written to SQLite, and a control process that was killed finds everything again."""
    fuseml.environment["FUSEML_DATABASE_URL"] = postgresql_url.replace("postgresql+psycopg", "postgresql")
    commands = re.findall(r"^\$ fuseml (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        fuseml(*shlex.split(command))
    fuseml("bundle", "push", "tests/e2e/bundles/numbers")
    fuseml("extension", "install", "numbers")
    fuseml("project", "create", "p")
    fuseml("project", "set", "p")
    fuseml("pipeline", "add", "mean-training", "--name", "training", "--input", "code=code://*")
    fuseml("pipeline", "add", "mean-serving", "--name", "serving", "--input", "model=model://*")
    code = fuseml.home / "code"
    code.mkdir()
    (code / "numbers.txt").write_text("1 2 3\n")

    fuseml("codeset", "push", str(code), "--name", "myapp", "--wait")
    before = fuseml.json("run", "list")
    fuseml.kill("control")
    fuseml.wait_for(lambda: fuseml("run", "list", code=None).code == 0, 60, "the control process")

    assert fuseml.json("run", "list") == before
    assert [run["state"] for run in before] == ["succeeded", "succeeded"]
    service = fuseml.json("service", "get", "myapp")
    assert fuseml.post(service["url"], [2])["predictions"] == [4.0]
    assert not (fuseml.home / "fz/fuseml.db").exists()
