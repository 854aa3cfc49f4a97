"""What is PostgreSQL's own: how it is reached, what it refuses, and what a server does that ends in the middle."""

import json
import os
import subprocess
import sys
import threading
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import func, insert, select, text

from governance.errors import BadRecordError, IntegrityError
from infra.database import Database
from infra.engines import check_server
from infra.errors import BackendUnavailableError, BadSettingError
from infra.home import Home
from infra.ledger_verification import verify_ledger
from infra.run_records import begin_run, end_dead_runs, end_run
from infra.runs import StepError
from infra.settings import Settings
from infra.tables import artifacts, ledger_entries
from tests.servers import PASSWORD, postgres_server

QUOTED = "correct%25horse%40battery%2Fstaple"


@pytest.fixture(scope="module")
def own():
    """A server that a test may stop."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def db(postgres_url):
    with Database.open(postgres_url) as database:
        yield database


def append(db, number=1):
    with db.unit_of_work() as uow:
        for _ in range(number):
            uow.append("test.appended", "x:1", {})


def size(db):
    with db.read() as connection:
        return connection.execute(select(func.count()).select_from(ledger_entries)).scalar_one()


def artifact(digest="d"):
    return insert(artifacts).values(digest=digest, kind="model", location="x", facts="{}", created="t")


def failure(work):
    """Returns the one-line error of something that must fail, after looking for the password in all that could be shown."""
    with pytest.raises(BackendUnavailableError) as caught:
        work()
    everything = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert PASSWORD not in everything
    assert QUOTED not in everything
    assert "\n" not in caught.value.diagnosis
    assert caught.value.hint
    return caught.value.diagnosis


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_the_url_reaches_the_server(postgres_url, scheme):
    with Database.open(postgres_url.replace("postgresql+psycopg", scheme)) as db:
        append(db)
        assert db.name == f"postgresql://{postgres_url.rpartition('@')[2]}"
        assert size(db) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"port": 1}, "does not answer"),
        ({"host": "nosuch.invalid"}, "is on a host that has no address"),
        ({"password": "wrong"}, "refuses the login"),
        ({"password": None}, "refuses the login"),
        ({"username": "nobody"}, "refuses the login"),
        ({"database": "nosuch"}, "does not exist"),
        ({"query": {"sslmode": "require"}}, "cannot be reached by TLS"),
        ({"query": {"sslmode": "nonsense"}}, "cannot be reached: connection is bad: invalid sslmode value"),
        ({"query": {"nonsense": "1"}}, "cannot be reached: invalid connection option"),
        ({"database": "postgres"}, "refuses this to the role: permission denied for schema public"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(postgres, changes, said):
    url = postgres.url(changes.pop("database", "postgres"), **changes)
    assert said in failure(lambda: Database.open(url))


@pytest.mark.parametrize("url", [f"postgresql://me:{PASSWORD}@host/db", "postgresql://me:secret@word@host/db"])
def test_a_password_that_is_not_quoted_is_refused_without_showing_half_of_it(url):
    with pytest.raises(BadSettingError, match="cannot be read") as caught:
        Database.open(url)
    assert "staple" not in str(caught.value)
    assert "word@" not in str(caught.value)


def test_an_old_server_or_another_encoding_is_refused(postgres):
    with pytest.raises(BackendUnavailableError, match="is on PostgreSQL 12, which is too old"):
        check_server("db", 120_022, "UTF8")
    with postgres.connect() as connection:
        connection.execute("CREATE DATABASE latin OWNER groundswell ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    assert "keeps text as LATIN1" in failure(lambda: Database.open(postgres.url("latin")))


def test_waiting_has_bounds_and_the_urls_own_options_count(postgres_url):
    with Database.open(f"{postgres_url}?options=-c%20work_mem%3D5MB&connect_timeout=3") as db, db.read() as connection:
        names = ("lock_timeout", "idle_in_transaction_session_timeout", "work_mem", "application_name")
        found = {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names}
        parameters = connection.connection.dbapi_connection.info.get_parameters()
    assert found == dict(zip(names, ("1min", "5min", "5MB", "groundswell"), strict=True))
    assert (parameters["connect_timeout"], parameters["keepalives_idle"]) == ("3", "20")


def test_a_server_that_dies_within_a_unit_of_work_leaves_no_half(own):
    db = Database.open(own.create_database())
    append(db)

    def work():
        with db.unit_of_work() as uow:
            uow.connection.execute(artifact())
            uow.append("test.appended", "x:2", {})
            uow.flush()
            own.stop(crash=True)

    assert "has ended the connection" in failure(work)
    assert "does not answer" in failure(lambda: append(db))
    assert "does not answer" in failure(lambda: size(db))
    own.start()
    assert size(db) == 1
    append(db)
    with db.read() as connection:
        assert connection.execute(select(artifacts)).all() == []
        assert connection.execute(select(ledger_entries.c.index)).scalars().all() == [0, 1]


def test_a_connection_that_was_cut_while_idle_is_made_anew(own):
    db = Database.open(own.create_database())
    append(db)
    own.stop()
    own.start()
    append(db)
    assert size(db) == 2


def test_a_reader_whose_connection_is_cut_says_so(db, postgres):
    def work():
        with db.read() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            with postgres.connect() as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
            connection.execute(select(ledger_entries)).all()

    assert "has ended the connection" in failure(work)
    assert size(db) == 0


def test_a_server_without_a_free_connection_says_so(own):
    url = own.create_database()
    Database.open(url).close()
    own.stop()
    own.start(max_connections="6", superuser_reserved_connections="1")
    with ExitStack() as held:
        connections: list[psycopg.Connection] = []
        while len(connections) < 5:  # the one that start() asked with may not be gone yet
            with suppress(psycopg.OperationalError):
                connections.append(held.enter_context(psycopg.connect(url.replace("+psycopg", ""))))
        assert "takes no more connections" in failure(lambda: Database.open(url))
    own.stop()
    own.start()
    assert size(Database.open(url)) == 0


@pytest.mark.parametrize(
    ("sqlstate", "said"),
    [
        ("53100", "has no room left on its disk"),
        ("53200", "has no memory left"),
        ("40P01", "is locked by another process"),
        ("40001", "is locked by another process"),
        ("25P03", "was idle for too long"),
        ("57014", "has cancelled a statement"),
        ("58030", "the server's disk answers with an error"),
    ],
)
def test_what_the_server_cannot_do_is_said_and_nothing_is_kept(db, postgres, postgres_url, sqlstate, said):
    with postgres.connect(postgres_url) as admin:
        body = f"BEGIN RAISE EXCEPTION 'the cause' USING ERRCODE = '{sqlstate}'; END"
        admin.execute(f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS '{body.replace(chr(39), chr(39) * 2)}'")
        admin.execute("CREATE TRIGGER fail BEFORE INSERT ON gs_ledger_nodes EXECUTE FUNCTION fail()")
    assert said in failure(lambda: append(db))
    assert size(db) == 0
    with postgres.connect(postgres_url) as admin:
        admin.execute("DROP TRIGGER fail ON gs_ledger_nodes")
    append(db)
    assert size(db) == 1


def test_a_standby_can_be_read_and_not_written(db, postgres, postgres_url):
    append(db)
    db.close()
    with postgres.connect() as admin:
        admin.execute(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET default_transaction_read_only = on")
    with Database.open(postgres_url) as standby:
        assert size(standby) == 1
        assert "the server is a standby or read-only" in failure(lambda: append(standby))


def test_a_stricter_default_of_the_server_does_not_refuse_writers(postgres, postgres_url):
    with postgres.connect() as admin:
        admin.execute(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET default_transaction_isolation = 'serializable'")
    with Database.open(postgres_url) as db:
        threads = [threading.Thread(target=lambda: [append(db) for _ in range(5)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert size(db) == 20


def test_values_that_the_server_cannot_hold_are_bad_records(db):
    for digest in ("d" * 65, "a\0b"):
        with pytest.raises(BadRecordError, match="cannot hold a value"), db.unit_of_work() as uow:
            uow.connection.execute(artifact(digest))
    with pytest.raises(BadRecordError, match="NUL"), db.unit_of_work() as uow:
        uow.commit_to("a\0b")


def test_a_table_that_is_gone_is_an_integrity_error(db):
    with db.engine.begin() as connection:
        connection.execute(text("DROP TABLE gs_ledger_nodes"))
    with pytest.raises(IntegrityError, match="damaged or no database"):
        append(db)


@pytest.mark.parametrize("table", ["gs_ledger_entries", "gs_ledger_nodes", "gs_ledger_checkpoints"])
def test_even_a_superuser_in_a_replicas_session_changes_nothing_unasked(db, postgres, postgres_url, table):
    append(db)
    for statement in (f"TRUNCATE {table} CASCADE", f"DELETE FROM {table}"):  # champions refer to their entries
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"), db.engine.begin() as connection:
            connection.exec_driver_sql(statement)
    with postgres.connect(postgres_url) as admin:
        admin.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="append-only"):
            admin.execute(f"DELETE FROM {table}")


RUNNER = """
import platform, sys, uuid
from pathlib import Path
platform.node = lambda: sys.argv[1]
from infra.home import Home
from infra.locking import try_lock
from infra.run_records import begin_run, end_dead_runs, end_run, lock_path
from infra.settings import Settings
home = Home.open(Settings.load(Path(sys.argv[2])), create=False)
for i in range(8):
    run_id = str(uuid.uuid4())
    with try_lock(lock_path(home, run_id)):
        begin_run(home, run_id=run_id, pipeline="training", runner="subprocess", params={}, actor="system")
        assert end_dead_runs(home) == []
        end_run(home, run_id=run_id, status="completed")
run_id = str(uuid.uuid4())
begin_run(home, run_id=run_id, pipeline="training", runner="subprocess", params={}, actor="system")
print(run_id)
"""


@pytest.fixture
def first(tmp_path, postgres_url, monkeypatch):
    """A home on PostgreSQL."""
    monkeypatch.setenv("GROUNDSWELL_DATABASE_URL", postgres_url)
    home = Home.open(Settings.load(tmp_path / "first"))
    yield home
    home.database.close()


def test_two_hosts_run_on_one_database_and_leave_each_others_runs_alone(first, tmp_path):
    (tmp_path / "second").mkdir()
    subprocess.run(["cp", "-a", first.path / "keys", tmp_path / "second" / "keys"], check=True)
    names = ("first", "second")
    started = [
        subprocess.Popen([sys.executable, "-c", RUNNER, f"host-{name}", tmp_path / name], stdout=subprocess.PIPE, text=True)
        for name in names
    ]
    left = [process.communicate(timeout=120)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    report = verify_ledger(first.database, first.keys.log_public_key())
    assert (report.ok, report.num_entries) == (True, 4 + 2 * (8 * 2 + 1))
    assert len(set(left)) == 2
    assert end_dead_runs(first) == [], "runs of other hosts are theirs to end"


def test_a_home_with_other_keys_is_refused_and_makes_none(first, tmp_path):
    for _ in range(2):
        with pytest.raises(BadSettingError, match="are not those of database") as caught:
            Home.open(Settings.load(tmp_path / "second"))
        assert caught.value.hint
        assert not (tmp_path / "second" / "keys").exists()
    assert size(first.database) == 4


@pytest.mark.parametrize(
    "command",
    [
        ["audit", "log"],
        ["audit", "checkpoint"],
        ["audit", "verify"],
        ["runs", "list"],
        ["runs", "show", "0198f3a2"],
        ["lineage", "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11", "--format", "json"],
        ["models", "list"],
        ["identity", "list"],
        ["doctor"],
    ],
)
def test_commands_answer_on_postgresql_without_the_password(first, command):
    run_id = "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11"
    begin_run(first, run_id=run_id, pipeline="training", runner="subprocess", params={"rate": 0.5}, actor="system")
    end_run(first, run_id=run_id, status="failed", error=StepError(diagnosis="no room", hint="", exit_code=6))
    arguments = [sys.executable, "-m", "groundswell.cli.main", "--home", str(first.path), "--json", *command]
    called = subprocess.run(arguments, capture_output=True, text=True, check=False, env=os.environ, cwd=Path(__file__).parents[2])
    assert called.returncode == 0, called.stderr
    json.loads(called.stdout)
    for secret in (PASSWORD, QUOTED):
        assert secret not in called.stdout + called.stderr
