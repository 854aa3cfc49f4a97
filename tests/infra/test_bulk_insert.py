"""Many rows in one go: the same rows on both engines, and nothing cut to fit."""

import pytest
import sqlalchemy.exc
from sqlalchemy import select

from governance.errors import BadRecordError
from infra.bulk_insert import insert_rows
from infra.database import Database
from infra.tables import ledger_entries

COLUMNS = ("index", "entry", "action", "subject", "run_id")
ROWS = [
    (0, b"\x00{}\\x", "a.b", 'x:"{},\\', None),
    (1, b"", "NULL", "naïve 𝒳\n", "r'1"),
    (2, bytes(range(256)), "a.b", " ", ""),
]


@pytest.fixture
def db(database_url):
    with Database.open(database_url) as database:
        yield database


def stored(db):
    with db.read() as connection:
        return [tuple(row) for row in connection.execute(select(ledger_entries).order_by(ledger_entries.c.index))]


def test_rows_come_back_as_they_were(db):
    with db.unit_of_work() as uow:
        insert_rows(uow.connection, ledger_entries, COLUMNS, ROWS[:2])
        insert_rows(uow.connection, ledger_entries, COLUMNS, [])
        insert_rows(uow.connection, ledger_entries, COLUMNS, ROWS[2:])
    assert stored(db) == ROWS


def test_columns_may_stand_in_any_order_and_be_left_out(db):
    with db.unit_of_work() as uow:
        insert_rows(uow.connection, ledger_entries, ("subject", "index", "entry", "action"), [("x:1", 7, b"e", "a.b")])
    assert stored(db) == [(7, b"e", "a.b", "x:1", None)]


def test_one_row_that_is_refused_takes_all_with_it(db):
    with pytest.raises(sqlalchemy.exc.IntegrityError), db.unit_of_work() as uow:
        insert_rows(uow.connection, ledger_entries, COLUMNS, [*ROWS, ROWS[0]])
    assert stored(db) == []


def test_postgresql_refuses_what_is_too_long_and_cuts_nothing(postgres_url):
    with Database.open(postgres_url) as db:
        with pytest.raises(BadRecordError, match="too long"), db.unit_of_work() as uow:
            insert_rows(uow.connection, ledger_entries, COLUMNS, [(0, b"e", "a.b", "x" * 513, None)])
        assert stored(db) == []
