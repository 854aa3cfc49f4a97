"""A period of the ledger as a file, checked as somebody would who has the file, the key and RFC 9162."""

import hashlib
import json
import zipfile
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from governance.checkpoint import verify_checkpoint
from governance.errors import BadRecordError, IntegrityError
from governance.ledger import parse_entry
from governance.merkle import leaf_hash, verify_inclusion
from infra.database import Database
from infra.errors import BadSettingError
from infra.keys import Keys
from infra.ledger import iter_proven, prove_entries
from infra.ledger_verification import verify_ledger
from infra.period_export import export_period

DAY = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = DAY

    def __call__(self):
        return self.now


@pytest.fixture
def keys(tmp_path):
    return Keys.create(tmp_path / "keys")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def db(database_url, clock):
    """Ten entries a day for five days."""
    with Database.open(database_url, clock=clock) as database:
        for day in range(5):
            clock.now = DAY + timedelta(days=day, hours=12)
            append(database, 10)
        yield database


def append(db, number):
    with db.unit_of_work() as uow:
        for i in range(number):
            uow.append("test.appended", f"x:{i}", {"text": "naïve"})


def export(db, keys, output, since=None, until=None):
    return export_period(db, keys, output, since=since, until=until, actor="system", progress=lambda done, total: None)


def read(output):
    with zipfile.ZipFile(output) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_each_entry_of_the_period_proves_itself_against_the_signed_checkpoint(db, keys, tmp_path):
    made = export(db, keys, tmp_path / "out.zip", since="7", until="31")
    files = read(tmp_path / "out.zip")
    head = verify_checkpoint(files["checkpoint"].decode(), load_pem_public_key(files["public_key.pem"]))
    lines = [json.loads(line) for line in files["entries.jsonl"].splitlines()]
    assert [line["index"] for line in lines] == [*range(7, 32), 50]
    for line in lines:
        proof = [bytes.fromhex(step) for step in line["proof"]]
        assert verify_inclusion(leaf_hash(line["entry"].encode()), line["index"], head.size, proof, head.root_hash)
    said = parse_entry(lines[-1]["entry"].encode())
    assert (said.action, said.details) == ("ledger.exported", {"from": 7, "to": 31, "num_entries": 25})
    assert (made.first, made.last, made.num_entries, made.entry, made.size) == (7, 31, 25, 50, 51)
    assert verify_ledger(db, keys.log_public_key(), anchors=[head]).ok


def test_the_sums_are_those_of_sha256sum(db, keys, tmp_path):
    export(db, keys, tmp_path / "out.zip")
    files = read(tmp_path / "out.zip")
    names = ["checkpoint", "entries.jsonl", "public_key.pem"]
    expected = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in names)
    assert files["SHA256SUMS"].decode() == expected


@pytest.mark.parametrize(
    ("since", "until", "first", "last"),
    [
        (None, None, 0, 49),
        ("2026-03-02", "2026-03-03", 10, 29),
        ("2026-03-02T12:00:00Z", "2026-03-02T13:00:00+01:00", 10, 19),
        ("15", "2026-03-02", 15, 19),
        ("2026-03-04", "41", 30, 41),
        ("49", None, 49, 49),
    ],
)
def test_bounds_are_indices_days_or_times(db, keys, tmp_path, since, until, first, last):
    made = export(db, keys, tmp_path / "out.zip", since=since, until=until)
    assert (made.first, made.last) == (first, last)


def test_a_clock_that_was_set_back_loses_nothing_of_a_day(db, keys, clock, tmp_path):
    clock.now = DAY + timedelta(days=1)
    append(db, 3)
    made = export(db, keys, tmp_path / "out.zip", since="2026-03-02", until="2026-03-02")
    assert (made.first, made.last) == (10, 52)


@pytest.mark.parametrize(("since", "until"), [("50", None), ("9", "3"), ("2027-01-01", None), (None, "2026-02-28")])
def test_a_period_without_entries_is_refused_and_nothing_is_recorded(db, keys, tmp_path, since, until):
    with pytest.raises(BadRecordError, match="no entries from"):
        export(db, keys, tmp_path / "out.zip", since=since, until=until)
    assert verify_ledger(db, keys.log_public_key()).num_entries == 50
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize("bound", ["yesterday", "-1", "2026-03-02T12:00:00", "2026-02-30", "9999999999999999999"])
def test_a_bound_that_is_none_is_named(db, keys, tmp_path, bound):
    with pytest.raises(BadRecordError, match="is neither an index nor a day nor a time"):
        export(db, keys, tmp_path / "out.zip", since=bound)


def test_the_same_state_gives_the_same_bytes(keys, tmp_path):
    outputs = []
    for name in ("a", "b"):
        with Database.open(f"sqlite:///{tmp_path / name}.db", clock=Clock()) as db:
            append(db, 5)
            export(db, keys, tmp_path / f"{name}.zip")
            outputs.append((tmp_path / f"{name}.zip").read_bytes())
    assert outputs[0] == outputs[1]


def test_a_file_that_cannot_be_written_is_said_before_anything_is_recorded(db, keys, tmp_path):
    for output in (tmp_path, tmp_path / "missing" / "out.zip"):
        with pytest.raises(BadSettingError):
            export(db, keys, output)
    assert verify_ledger(db, keys.log_public_key()).num_entries == 50


def test_nothing_is_left_of_a_file_whose_entries_do_not_verify(db, keys, tmp_path, monkeypatch):
    monkeypatch.setattr("governance.merkle.verify_inclusion", lambda *_: False)
    with pytest.raises(IntegrityError, match="entry 0 is not what"):
        export(db, keys, tmp_path / "out.zip")
    assert {path.name for path in tmp_path.iterdir()} <= {"keys", "groundswell.db", "groundswell.db-wal", "groundswell.db-shm"}


@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 2500])
def test_proofs_in_a_row_are_those_one_by_one(tmp_path, size):
    with Database.open(f"sqlite:///{tmp_path / 'groundswell.db'}") as db:
        append(db, size)
        with db.read() as connection:
            assert list(iter_proven(connection, 0, size, size)) == prove_entries(connection, range(size), size)
            assert list(iter_proven(connection, size // 2, size - size // 3, size)) == prove_entries(
                connection, range(size // 2, size - size // 3), size
            )
            with pytest.raises(ValueError, match="no entries"):
                list(iter_proven(connection, 0, size + 1, size))
