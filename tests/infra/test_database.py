"""One database a home: locks, units of work, append-only tables, and what goes wrong with files."""

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy.exc
from sqlalchemy import delete, func, insert, select, text, update

from governance.errors import BadRecordError, IntegrityError
from governance.ledger import commitment
from infra.database import Database
from infra.errors import BackendUnavailableError, BadSettingError
from infra.tables import artifacts, commitments, ledger_checkpoints, ledger_entries, ledger_head, ledger_nodes

MOMENT = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def db(database_url):
    with Database.open(database_url, clock=lambda: MOMENT) as database:
        yield database


def count(db, table):
    with db.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def artifact(digest="d"):
    return insert(artifacts).values(digest=digest, kind="model", location="x", facts="{}", created="t")


@on_sqlite
def test_the_file_is_in_wal_mode_and_syncs_every_commit(db):
    with db.read() as connection:
        pragmas = {n: connection.exec_driver_sql(f"PRAGMA {n}").scalar() for n in ("journal_mode", "synchronous", "busy_timeout")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 60_000}


def test_a_unit_of_work_commits_rows_and_entries_together(db):
    with db.unit_of_work() as uow:
        uow.connection.execute(artifact())
        assert [uow.append("a.b", "x:1", {}), uow.append("a.c", "x:2", {"n": 1}, actor="id-1", run_id="r")] == [0, 1]
        assert (uow.size, uow.time) == (2, "2026-11-22T20:00:00.000000Z")
    assert [count(db, t) for t in (artifacts, ledger_entries, ledger_nodes)] == [1, 2, 3]
    with db.unit_of_work() as uow:
        assert uow.append("a.d", "x:3", {}) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_unit_of_work_that_fails_leaves_nothing(db, error):
    def fail():
        with db.unit_of_work() as uow:
            uow.connection.execute(artifact())
            uow.append("a.b", "x:1", {})
            uow.commit_to("Ada")
            uow.flush()
            raise error

    with pytest.raises(error):
        fail()
    assert [count(db, t) for t in (artifacts, ledger_entries, ledger_nodes, commitments)] == [0, 0, 0, 0]
    with db.unit_of_work() as uow:
        assert uow.append("a.b", "x:1", {}) == 0


def test_a_refused_entry_refuses_the_whole_unit_of_work(db):
    def work():
        with db.unit_of_work() as uow:
            uow.connection.execute(artifact())
            uow.append("a.b", "x:1", {"loss": 0.5})

    with pytest.raises(BadRecordError):
        work()
    assert count(db, artifacts) == 0


def test_entries_can_be_read_back_before_the_commit_after_a_flush(db):
    with db.unit_of_work() as uow:
        uow.append("a.b", "x:1", {})
        uow.flush()
        uow.append("a.b", "x:2", {})
        assert uow.connection.execute(select(func.count()).select_from(ledger_entries)).scalar_one() == 1
    assert count(db, ledger_entries) == 2


def test_a_commitment_keeps_its_text_beside_the_ledger(database_url):
    salts = itertools.count()
    db = Database.open(database_url, token_bytes=lambda n: bytes([next(salts)]) * n)
    with db.unit_of_work() as uow:
        first, second = uow.commit_to("Ada"), uow.commit_to("Ada")
    assert [first, second] == [commitment("Ada", bytes(32)), commitment("Ada", b"\x01" * 32)]
    with db.read() as connection:
        assert {row.value for row in connection.execute(select(commitments))} == {"Ada"}


def test_reading_cannot_write_and_sees_one_snapshot(db):
    with db.unit_of_work() as uow:
        uow.append("a.b", "x:1", {})
    with db.read() as connection:
        head = select(ledger_head.c.size)
        assert connection.execute(head).scalar_one() == 1
        with db.unit_of_work() as uow:
            uow.append("a.b", "x:2", {})
        assert connection.execute(head).scalar_one() == 1
        with pytest.raises(sqlalchemy.exc.DBAPIError, match=r"read-?only"):
            connection.execute(update(ledger_head).values(size=0))
    assert count(db, ledger_entries) == 2


@pytest.mark.parametrize("table", [ledger_entries, ledger_nodes, ledger_checkpoints])
def test_the_ledger_is_append_only(db, table):
    with db.unit_of_work() as uow:
        uow.append("a.b", "x:1", {})
        uow.connection.execute(insert(ledger_checkpoints).values(size=1, note="n", time="t"))
    column = list(table.columns)[-1]
    for statement in (delete(table), update(table).values({column: None})):
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"), db.unit_of_work() as uow:
            uow.connection.execute(statement)


@on_sqlite
@pytest.mark.parametrize("table", [ledger_entries, ledger_nodes, ledger_checkpoints])
def test_nothing_is_replaced_by_whoever_opens_the_file(db, table, tmp_path):
    with db.unit_of_work() as uow:
        uow.append("a.b", "x:1", {})
        uow.connection.execute(insert(ledger_checkpoints).values(size=1, note="n", time="t"))
    other = sqlite3.connect(tmp_path / "groundswell.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(f"INSERT OR REPLACE INTO {table.name} SELECT * FROM {table.name}")
    other.close()


def test_a_unit_of_work_inside_another_is_a_callers_bug(db):
    with db.unit_of_work(), pytest.raises(RuntimeError, match="inside"), db.unit_of_work():
        pass
    with db.unit_of_work() as uow:
        uow.append("a.b", "x:1", {})


def test_threads_append_without_a_gap(db):
    def work():
        for _ in range(5):
            with db.unit_of_work() as uow:
                uow.append("a.b", "x:1", {})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(db, ledger_entries) == 20


APPENDER = """
import sys
from infra.database import Database
db = Database.open(sys.argv[1])
for i in range(6):
    with db.unit_of_work() as uow:
        for _ in range(3):
            uow.append("test.appended", f"worker:{sys.argv[2]}/{i}", {"worker": sys.argv[2]})
"""

HALTED = """
import sys, time
from infra.database import Database
from infra.tables import artifacts
db = Database.open(sys.argv[1])
with db.unit_of_work() as uow:
    uow.connection.execute(artifacts.insert().values(digest="half", kind="model", location="x", facts="{}", created="t"))
    for i in range(5000):
        uow.append("test.appended", "x:1", {"pad": "x" * 500})
    uow.flush()
    print("ready", flush=True)
    time.sleep(60)
"""


def test_eight_processes_open_a_new_database_and_append_at_once(database_url):
    workers = [subprocess.Popen([sys.executable, "-c", APPENDER, database_url, str(i)]) for i in range(8)]
    assert [worker.wait(timeout=60) for worker in workers] == [0] * 8
    db = Database.open(database_url)
    with db.read() as connection:
        rows = connection.execute(select(ledger_entries.c.index, ledger_entries.c.subject).order_by(ledger_entries.c.index)).all()
    assert [row[0] for row in rows] == list(range(8 * 6 * 3))
    for start in range(0, len(rows), 3):
        assert len({row.subject for row in rows[start : start + 3]}) == 1, "a unit of work's entries stand together"


def test_a_process_killed_within_a_unit_of_work_leaves_no_half(database_url):
    db = Database.open(database_url)
    with db.unit_of_work() as uow:
        uow.append("a.b", "x:1", {})
    worker = subprocess.Popen([sys.executable, "-c", HALTED, database_url], stdout=subprocess.PIPE)
    assert worker.stdout.readline() == b"ready\n"
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    assert [count(db, t) for t in (artifacts, ledger_entries, ledger_nodes)] == [0, 1, 1]
    with db.unit_of_work() as uow:
        assert uow.append("a.b", "x:2", {}) == 1


def test_a_writer_that_never_ends_is_reported(database_url, db):
    other = Database.open(database_url, busy_timeout_s=0.05)
    with db.unit_of_work(), pytest.raises(BackendUnavailableError, match="locked by another process"), other.unit_of_work():
        pass


@on_sqlite
def test_a_full_disk_is_reported_and_leaves_nothing(db):
    with db.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    db.close()

    def work():
        with db.unit_of_work() as uow:
            uow.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            for _ in range(100):
                uow.append("a.b", "x:1", {"pad": "x" * 2000})

    with pytest.raises(BackendUnavailableError, match="no room"):
        work()
    db.close()
    assert count(db, ledger_entries) == 0


@pytest.mark.parametrize("content", [b"this is no database at all" * 200, b"SQLite format 3\x00" + b"\xff" * 4080])
def test_a_file_that_is_no_database_is_an_integrity_error(tmp_path, content):
    path = tmp_path / "groundswell.db"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged or no database") as caught:
        Database.open(f"sqlite:///{path}")
    assert "\n" not in caught.value.diagnosis
    assert str(path) in caught.value.diagnosis


@on_sqlite
def test_a_damaged_page_is_an_integrity_error(tmp_path, database_url):
    with Database.open(database_url) as db, db.unit_of_work() as uow:
        for _ in range(200):
            uow.append("a.b", "x:1", {"pad": "x" * 500})
    path = tmp_path / "groundswell.db"
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xa5" * (len(data) - 8192)
    path.write_bytes(data)

    def read_all():
        with Database.open(database_url) as damaged, damaged.read() as connection:
            connection.execute(select(ledger_entries)).all()

    with pytest.raises(IntegrityError, match="damaged"):
        read_all()


def test_a_folder_that_is_missing_is_an_unavailable_backend(tmp_path):
    with pytest.raises(BackendUnavailableError, match="cannot be opened") as caught:
        Database.open(f"sqlite:///{tmp_path}/none/groundswell.db")
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "nonsense",
        "nosuch://host/db",
        "mysql://host/db",
        "postgresql://host",
        "postgresql+psycopg2://h/d",
    ],
)
def test_urls_that_name_no_lasting_database_are_refused(url):
    with pytest.raises(BadSettingError):
        Database.open(url)


def test_a_missing_head_is_an_integrity_error(db):
    with db.engine.begin() as connection:
        connection.execute(text("DELETE FROM gs_ledger_head"))
    with pytest.raises(IntegrityError, match="head"), db.unit_of_work():
        pass


def test_importing_it_takes_neither_the_orm_nor_torch():
    code = "import sys, infra.database; print(sorted({'sqlalchemy.orm', 'torch', 'mlflow', 'pandas'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert answer.stdout == "[]\n"
