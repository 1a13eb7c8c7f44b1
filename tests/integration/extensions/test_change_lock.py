"""One change of the extensions at a time: threads, servers that share PostgreSQL, and servers that die."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from fuseml_core.adapters.sql.change_lock import SqlChangeLock
from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.generations import SqlGenerations
from fuseml_core.adapters.sql.migration import migrate
from fuseml_core.domain.errors import Unavailable
from fuseml_core.domain.extensions import Member, TrustDecision
from fuseml_core.service.extensions.ports import Switch

HOLD = """
import sys, time
from fuseml_core.adapters.sql.change_lock import SqlChangeLock
from fuseml_core.adapters.sql.database import open_database
with SqlChangeLock(open_database(sys.argv[1])).alone("upgrade of the other server", 5.0, print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """An empty migrated database of either kind."""
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path}/fuseml.db"
    else:
        server, name = request.getfixturevalue("postgresql_url"), f"lock{time.time_ns()}"
        admin = open_database(server).execution_options(isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        admin.dispose()
        found = server.replace("/postgres", f"/{name}")
    engine = open_database(found)
    migrate(engine)
    engine.dispose()
    return found


def test_threads_wait_for_each_other_and_give_up_in_time(url):
    engine = open_database(url)
    lock, inside, order, said = SqlChangeLock(engine), threading.Event(), [], []

    def first():
        with lock.alone("install one", 5.0, said.append):
            inside.set()
            time.sleep(0.6)
            order.append("one")

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    assert lock.running() == "install one"
    with pytest.raises(Unavailable, match="takes very long: install one"), lock.alone("install two", 0.1, said.append):
        raise AssertionError
    with lock.alone("install two", 5.0, said.append):
        order.append("two")
    thread.join()
    assert order == ["one", "two"]
    assert set(said) == {"waiting for: install one"}
    assert lock.running() == lock.interrupted() == ""
    engine.dispose()


def test_servers_on_one_postgresql_wait_for_each_other_and_survive_each_others_death(url):
    if url.startswith("sqlite"):
        return  # has one server: it holds a lock on its folder
    other = subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True)
    engine, said = open_database(url), []
    lock = SqlChangeLock(engine)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Unavailable), lock.alone("install here", 0.3, said.append):
            raise AssertionError
        assert said == ["waiting for: upgrade of the other server"]
        assert lock.interrupted() == "", "it is alive"
        other.kill()
        other.wait(10)
        deadline = time.monotonic() + 10
        while not (found := lock.interrupted()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert found == "upgrade of the other server"
        with lock.alone("install here", 10.0, said.append):
            assert lock.running() == "install here"
        assert lock.interrupted() == ""
    finally:
        other.kill()
        other.wait(10)
        other.stdout.close()
        engine.dispose()


def test_what_an_earlier_fuseml_installed_becomes_the_first_generation(tmp_path):
    import fuseml_core.adapters.sql

    engine = open_database(f"sqlite:///{tmp_path}/fuseml.db")
    config = Config()
    config.set_main_option("script_location", f"{next(iter(fuseml_core.adapters.sql.__path__))}/migrations")
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.commit()
    with engine.begin() as connection:
        for digest, state in (("sha256:a", "active"), ("sha256:b", "retired")):
            connection.execute(sa.text(
                "INSERT INTO extension (digest, name, version, reference, descriptor, store, state, installed_at) VALUES "
                "(:digest, 'mlflow', '0.1.0', 'oci://x/mlflow:0.1.0', '{\"manifest\": {}}', '/s', :state, 1.0)"),
                {"digest": digest, "state": state})
    migrate(engine)
    current = SqlGenerations(engine).current()
    assert (current.number, [m.digest for m in current.members]) == (1, ["sha256:a"])
    assert current.members[0].requested
    assert current.members[0].trust.allowed
    engine.dispose()


def test_references_into_the_embedded_registry_follow_its_port(url):
    engine = open_database(url)
    generations = SqlGenerations(engine)
    assert not generations.embedded_at("127.0.0.1:1001")
    members = [Member(name, "0.1.0", f"sha256:{name}", f"oci://{place}/extensions/{name}:0.1.0@sha256:{name}", True, TrustDecision(True))
               for name, place in (("own", "127.0.0.1:1001"), ("other", "127.0.0.1:10010"))]
    generations.switch(Switch("install own, other", members, 0))
    assert generations.embedded_at("127.0.0.1:2002")
    assert not generations.embedded_at("127.0.0.1:2002")
    assert [m.reference.split("/")[2] for m in generations.current().members] == ["127.0.0.1:10010", "127.0.0.1:2002"]
    assert generations.work() == {}
    engine.dispose()
