"""What is left when a process dies with its units of work, and what the ledger makes of a clock that is set back."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from governance.identity import Role
from infra.database import Database
from infra.identities import create_identity, initialise_home, revoke_identity
from infra.keys import Keys
from infra.ledger import iter_entries, ledger_size, sign_checkpoint
from infra.ledger_verification import verify_ledger
from infra.tables import artifacts, commitments
from tests.infra.dying_writer import NUM_ENTRIES, write_unit

MAX_MOMENTS = 60


@pytest.fixture
def keys(tmp_path):
    return Keys.create(tmp_path / "keys")


@pytest.fixture
def order(database_url):
    """Gives an order to a process of its own, and returns the answer."""
    Database.open(database_url).close()
    command = [sys.executable, "-m", "tests.infra.dying_writer", database_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def give(**words):
            process.stdin.write(json.dumps(words) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield give
        process.stdin.close()


def state(db):
    with db.read() as connection:
        counts = [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (artifacts, commitments)]
        return ledger_size(connection), *counts


def test_a_unit_of_work_killed_at_any_statement_leaves_all_or_nothing(database_url, order, keys):
    db = Database.open(database_url)
    places, moment = [], 0
    while (before := state(db)) and (place := order(kill_at=moment)):
        assert state(db) == before, place
        write_unit(db, 1_000 + moment)  # what comes after finds nothing in its way
        assert state(db) == (before[0] + NUM_ENTRIES, before[1] + 1, before[2] + 1), place
        sign_checkpoint(db, keys)
        assert verify_ledger(db, keys.log_public_key()).problems == (), place
        places.append(place)
        moment += 1
        assert moment < MAX_MOMENTS
    assert state(db) == (before[0] + NUM_ENTRIES, before[1] + 1, before[2] + 1), "a commit that returned stays"
    assert verify_ledger(db, keys.log_public_key()).problems == ()
    for table in ("gs_artifacts", "gs_commitments", "gs_ledger_entries", "gs_ledger_nodes"):
        assert {f"before INSERT INTO {table}", f"after INSERT INTO {table}"} <= set(places)
    assert any(place.startswith("after UPDATE gs_ledger_head") for place in places)
    assert places[-1] == "before COMMIT"


def test_what_was_committed_before_a_kill_at_any_time_is_there_whole(database_url, order, keys):
    db = Database.open(database_url)
    for i in range(8):
        committed = order(append_for_s=0.02 + 0.013 * i, number=100_000 * (i + 1))
        size, num_artifacts, num_commitments = state(db)
        assert committed <= size <= committed + NUM_ENTRIES
        assert (num_artifacts, num_commitments) == (size // NUM_ENTRIES, size // NUM_ENTRIES)
        assert size % NUM_ENTRIES == 0
        sign_checkpoint(db, keys)
        assert verify_ledger(db, keys.log_public_key()).problems == ()


def test_a_clock_that_is_set_back_is_recorded_as_it_was_and_nothing_depends_on_it(database_url, keys):
    """Entries follow each other by index; a time is what the clock said."""
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    steps = iter([timedelta(hours=1), -timedelta(days=400), timedelta(0), timedelta(microseconds=1), -timedelta(seconds=1)] * 40)

    def clock():
        nonlocal now
        now += next(steps)
        return now

    with Database.open(database_url, clock=clock) as db:
        admin = initialise_home(db, keys, admin_name="Ada").identity_id
        other = create_identity(db, keys, name="Grace", role=Role.OPS, actor=admin).identity_id
        for _ in range(3):
            sign_checkpoint(db, keys)
            with db.unit_of_work() as uow:
                for _ in range(5):
                    uow.append("test.appended", "x:1", {})
        revoke_identity(db, identity_id=other, actor=admin)
        sign_checkpoint(db, keys)
        entries = list(iter_entries(db))
        times = [entry.time for entry in entries]
        assert [entry.index for entry in entries] == list(range(len(entries)))
        assert times != sorted(times)
        assert times[0][:4] != times[-1][:4]
        assert verify_ledger(db, keys.log_public_key()).problems == ()
