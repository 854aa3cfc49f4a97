"""The ledger in the database: proofs, signed heads, and that nothing can be changed unseen."""

import itertools
import sqlite3

import psycopg
import pytest
from sqlalchemy import insert
from sqlalchemy.engine import make_url

from governance import merkle
from governance.checkpoint import sign_checkpoint as sign_note
from governance.checkpoint import verify_checkpoint
from governance.errors import IntegrityError, UnknownSubjectError
from infra.database import Database
from infra.identities import initialise_home
from infra.keys import Keys
from infra.ledger import (
    consistency_proof,
    inclusion_proof,
    iter_entries,
    ledger_size,
    prove_entries,
    read_entry,
    root_hash,
    sign_checkpoint,
)
from infra.ledger_verification import verify_ledger
from infra.tables import artifacts, assets, model_versions, runs

BATCH = 2048
DIGEST, OTHER = "ab" * 32, "cd" * 32
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ANOTHER_RUN = (
    "INSERT INTO gs_runs SELECT 'r2', pipeline, status, runner, params, actor, started, ended, error, pid, host, "
    "mlflow_run_id, overhead_s FROM gs_runs"
)


@pytest.fixture
def keys(tmp_path):
    return Keys.create(tmp_path / "keys")


@pytest.fixture
def db(database_url):
    with Database.open(database_url) as database:
        yield database


@pytest.fixture
def tamper(database_url, db):
    """Changes the database as somebody does who can write it: triggers dropped, no questions asked."""
    url = make_url(database_url)
    if url.drivername == "sqlite":
        connection = sqlite3.connect(url.database, isolation_level=None)
        triggers = "SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'"
    else:
        connection = psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True)
        triggers = "SELECT 'DROP TRIGGER ' || tgname || ' ON ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal"
    for (statement,) in connection.execute(triggers).fetchall():
        connection.execute(statement)

    def execute(statement, parameters=()):
        if url.drivername != "sqlite":
            statement = statement.replace("?", "%s").replace("x'00'", "'\\x00'::bytea")
        return connection.execute(statement, parameters)

    yield execute
    connection.close()


@pytest.fixture
def story(db, keys):
    """A home with a run, a dataset, a model version and a picture, and two checkpoints."""
    initialise_home(db, keys, admin_name="Ada")
    sign_checkpoint(db, keys)
    with db.unit_of_work() as uow:
        uow.connection.execute(
            insert(runs).values(
                run_id="r1", pipeline="training", status="completed", runner="subprocess", params='{"rate": 0.001}',
                actor="system", started="t",
            )
        )  # fmt: skip
        uow.connection.execute(
            insert(artifacts).values(digest=DIGEST, kind="dataset", location="x", facts='{"num_items": 7, "x": 1}', created="t")
        )
        uow.connection.execute(
            insert(model_versions).values(
                name="flags", version=1, root_digest=OTHER, location="x", run_id="r1", metrics='{"kid": 0.25}',
                inputs="{}", created="t",
            )
        )  # fmt: skip
        condition = uow.commit_to("a red flag")
        uow.connection.execute(
            insert(assets).values(
                sha256="ef" * 32, run_id="r1", position=0, model_name="flags", model_version=1, root_digest=OTHER, seed="5",
                condition_commitment=condition, file_name="0.png", created="t",
            )
        )  # fmt: skip
        uow.append("run.started", "run:r1", {"pipeline": "training", "runner": "subprocess"}, run_id="r1")
        uow.append("dataset.imported", f"dataset:{DIGEST}", {"num_items": 7}, run_id="r1")
        uow.append("model.registered", "model-version:flags/1", {"root_digest": OTHER, "metrics": {"kid": "0.25"}}, run_id="r1")
        details = {"position": 0, "root_digest": OTHER, "seed": "5", "condition_commitment": condition}
        uow.append("asset.generated", f"media:{'ef' * 32}", details, run_id="r1")
        uow.append("run.completed", "run:r1", {}, run_id="r1")
    sign_checkpoint(db, keys)
    return db


def problems(db, keys):
    return list(verify_ledger(db, keys.log_public_key()).problems)


def append(db, number):
    with db.unit_of_work() as uow:
        for i in range(number):
            uow.append("test.appended", f"x:{i % 3}", {"i": i})


def test_a_sound_ledger_verifies(story, keys):
    seen = []
    report = verify_ledger(story, keys.log_public_key(), lambda done, total: seen.append((done, total)))
    assert (report.ok, report.num_entries, report.num_checkpoints, list(report.problems)) == (True, 9, 2, [])
    with story.read() as connection:
        assert report.root_hash == root_hash(connection, 9).hex()
    assert seen == [(9, 9)]


def test_an_empty_ledger_verifies(db, keys):
    sign_checkpoint(db, keys)
    report = verify_ledger(db, keys.log_public_key())
    assert (report.ok, report.num_entries, report.root_hash) == (True, 0, merkle.EMPTY_ROOT.hex())


def test_proofs_hold_against_the_signed_head(db, keys):
    append(db, 37)
    checkpoint = verify_checkpoint(sign_checkpoint(db, keys), keys.log_public_key())
    append(db, 20)
    with db.read() as connection:
        assert ledger_size(connection) == 57
        for proven in prove_entries(connection, [0, 17, 36], checkpoint.size):
            leaf = merkle.leaf_hash(proven.data)
            assert merkle.verify_inclusion(leaf, proven.entry.index, 37, proven.proof, checkpoint.root_hash)
            assert list(proven.proof) == inclusion_proof(connection, proven.entry.index, 37)
        proof = consistency_proof(connection, 37, 57)
        assert merkle.verify_consistency(37, 57, proof, checkpoint.root_hash, root_hash(connection, 57))
        with pytest.raises(UnknownSubjectError, match="no entry 57"):
            read_entry(connection, 57)


def test_entries_are_read_by_page_action_and_subject(db):
    append(db, 2500)
    assert [e.index for e in iter_entries(db)] == list(range(2500))
    assert [e.index for e in iter_entries(db, 2, subject="x:1", limit=3)] == [4, 7, 10]
    assert [e.index for e in iter_entries(db, -2)] == [2498, 2499]
    assert not list(iter_entries(db, action="no.such"))
    assert len(list(iter_entries(db, limit=1500))) == 1500


def test_signing_again_gives_the_same_note_and_moves_nothing(story, keys):
    note = sign_checkpoint(story, keys)
    assert sign_checkpoint(story, keys) == note
    assert verify_checkpoint(note, keys.log_public_key()).size == 9
    assert verify_ledger(story, keys.log_public_key()).num_checkpoints == 2


def test_any_flipped_byte_of_an_entry_is_found(story, keys, tamper):
    for index, data in tamper('SELECT "index", entry FROM gs_ledger_entries').fetchall():
        for place in range(index % 7, len(data), 61):
            flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            tamper('UPDATE gs_ledger_entries SET entry = ? WHERE "index" = ?', (flipped, index))
            assert problems(story, keys), (index, place)
        tamper('UPDATE gs_ledger_entries SET entry = ? WHERE "index" = ?', (data, index))
    assert not problems(story, keys)


@on_sqlite
def test_a_flipped_byte_in_the_database_file_is_found(story, keys, tmp_path):
    with story.read() as connection:
        entry, node = read_entry(connection, 5)[1], root_hash(connection, 8)
    story.close()
    path = tmp_path / "groundswell.db"
    sound = path.read_bytes()
    for stored in (entry, node):
        start = sound.index(stored)
        for place in range(start, start + len(stored), 11):
            damaged = bytearray(sound)
            damaged[place] ^= 0x04
            path.write_bytes(damaged)
            assert problems(story, keys)
            story.close()


@on_sqlite
def test_a_damaged_schema_is_an_integrity_error(story, keys, tmp_path):
    story.close()
    path = tmp_path / "groundswell.db"
    sound = path.read_bytes()
    for old, new in ((b"CREATE TABLE gs_runs", b"CREATE TAB\xcfE gs_runs"), (b"pipeline VARCHAR", b"piqeline VARCHAR")):
        assert old in sound
        path.write_bytes(sound.replace(old, new))
        with pytest.raises(IntegrityError, match="damaged or no database"):
            problems(story, keys)
        story.close()


def test_any_flipped_byte_of_a_node_is_found(story, keys, tamper):
    for level, position, value in tamper("SELECT level, position, hash FROM gs_ledger_nodes").fetchall():
        place = (level + position) % 32
        flipped = value[:place] + bytes([value[place] ^ 0x80]) + value[place + 1 :]
        tamper("UPDATE gs_ledger_nodes SET hash = ? WHERE level = ? AND position = ?", (flipped, level, position))
        assert any(f"node {position} of level {level}" in problem for problem in problems(story, keys))
        tamper("UPDATE gs_ledger_nodes SET hash = ? WHERE level = ? AND position = ?", (value, level, position))
    assert not problems(story, keys)


def test_any_flipped_byte_of_a_checkpoint_is_found(story, keys, tamper):
    for size, note in tamper("SELECT size, note FROM gs_ledger_checkpoints").fetchall():
        for place in range(size % 5, len(note), 13):
            flipped = note[:place] + chr(ord(note[place]) ^ 1) + note[place + 1 :]
            tamper("UPDATE gs_ledger_checkpoints SET note = ? WHERE size = ?", (flipped, size))
            assert problems(story, keys), place
        tamper("UPDATE gs_ledger_checkpoints SET note = ? WHERE size = ?", (note, size))
    assert not problems(story, keys)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ('DELETE FROM gs_ledger_entries WHERE "index" = 3', "entry 3 is missing"),
        ('UPDATE gs_ledger_entries SET "index" = -1 WHERE "index" = 3', "entry 0 is missing, the next is -1"),
        ('DELETE FROM gs_ledger_entries WHERE "index" = 8', "head says 9 entries, there are 8"),
        ("UPDATE gs_ledger_entries SET action = 'run.failed' WHERE \"index\" = 8", "entry 8: action of the row is"),
        ("UPDATE gs_ledger_entries SET run_id = NULL WHERE \"index\" = 8", "entry 8: run_id of the row is None"),
        ("DELETE FROM gs_ledger_nodes WHERE level = 1 AND position = 2", "node 2 of level 1 is missing"),
        ("INSERT INTO gs_ledger_nodes VALUES (9, 9, x'00')", "nodes, 17 are stored"),
        ("UPDATE gs_ledger_head SET size = 8", "head says 8 entries, there are 9"),
        ("DELETE FROM gs_ledger_head", "head is not one row"),
        ("UPDATE gs_ledger_checkpoints SET size = 5 WHERE size = 4", "checkpoint 5: the note is of 4 entries"),
        ("UPDATE gs_commitments SET value = 'a blue flag' WHERE value = 'a red flag'", "the text kept for it is not the one"),
        ("UPDATE gs_commitments SET salt = upper(salt)", "the text kept for it is not the one"),
        ("UPDATE gs_runs SET status = 'failed'", "run r1: status is 'failed', the ledger says 'completed'"),
        ("UPDATE gs_runs SET pipeline = 'codec'", "run r1: pipeline"),
        ("UPDATE gs_runs SET actor = 'id-x'", "run r1: actor"),
        ("DELETE FROM gs_runs", "run r1 has an entry but no row"),
        (ANOTHER_RUN, "run r2 has a row but no entry"),
        ("UPDATE gs_model_versions SET root_digest = 'x'", "model version flags/1: root_digest is 'x'"),
        ("UPDATE gs_model_versions SET metrics = '{\"kid\": 0.1}'", "model version flags/1: metrics"),
        ("UPDATE gs_model_versions SET run_id = 'r2'", "model version flags/1: run_id"),
        ("UPDATE gs_assets SET seed = '6'", "seed is '6', the ledger says '5'"),
        ("UPDATE gs_assets SET sha256 = 'x'", "asset x/r1/0 has a row but no entry"),
        ("UPDATE gs_artifacts SET facts = '{\"num_items\": 8}'", "num_items is '8', the ledger says '7'"),
        ("UPDATE gs_artifacts SET digest = 'x'", "artifact dataset:x has a row but no entry"),
        ("UPDATE gs_artifacts SET kind = 'model'", f"artifact model:{DIGEST} has a row but no entry"),
        ("UPDATE gs_identities SET role = 'auditor'", "role is 'auditor', the ledger says 'admin'"),
        ("UPDATE gs_identities SET revoked = 'now'", "revoked is 'now'"),
    ],
)  # fmt: skip
def test_each_change_of_a_record_is_named(story, keys, tamper, statement, said):
    tamper(statement)
    report = verify_ledger(story, keys.log_public_key())
    assert not report.ok
    assert any(said in problem for problem in report.problems), report.problems


@on_sqlite
def test_an_entry_stored_as_text_is_named(story, keys, tamper):
    tamper('UPDATE gs_ledger_entries SET entry = CAST(entry AS TEXT) WHERE "index" = 2')
    assert any("entry 2: it is not stored as bytes" in problem for problem in problems(story, keys))


def test_a_history_written_anew_is_found_by_its_checkpoints(story, keys, tamper):
    """Whoever can write the file can rebuild the tree, but not sign it."""
    for table in ("gs_ledger_entries", "gs_ledger_nodes"):
        tamper(f"DELETE FROM {table}")
    tamper("UPDATE gs_ledger_head SET size = 0")
    append(story, 9)
    found = problems(story, keys)
    assert found[0] == "checkpoint 4: the entries before it are not those that were signed"
    with pytest.raises(IntegrityError, match="does not continue its checkpoint"):
        sign_checkpoint(story, keys)


def test_a_ledger_cut_short_is_found_by_its_checkpoints(story, keys, tamper):
    tamper('DELETE FROM gs_ledger_entries WHERE "index" >= 7')
    tamper("DELETE FROM gs_ledger_nodes WHERE (position + 1) << level > 7")
    tamper("UPDATE gs_ledger_head SET size = 7")
    assert problems(story, keys)[0].startswith("a checkpoint of 9 entries is signed, the ledger has 7")
    with pytest.raises(IntegrityError, match="does not continue"):
        sign_checkpoint(story, keys)


def test_another_logs_key_verifies_no_checkpoint(story, tmp_path):
    other = Keys.create(tmp_path / "others")
    assert "the key is that of" in verify_ledger(story, other.log_public_key()).problems[0]


def test_changed_entries_are_not_proven(story, tamper):
    data = tamper('SELECT entry FROM gs_ledger_entries WHERE "index" = 0').fetchone()[0]
    tamper('UPDATE gs_ledger_entries SET entry = ? WHERE "index" = 0', (data.replace(b'"home"', b'"hole"'),))
    with story.read() as connection, pytest.raises(IntegrityError, match="not what the ledger's tree says"):
        prove_entries(connection, [0], 9)
    tamper("UPDATE gs_ledger_entries SET entry = x'00' WHERE \"index\" = 1")
    with story.read() as connection, pytest.raises(IntegrityError, match="entry 1 of the ledger"):
        read_entry(connection, 1)
    with pytest.raises(IntegrityError, match="entry 1 of the ledger"):
        list(iter_entries(story))


def test_a_floating_parameter_is_compared_by_the_digest_of_its_json(db, keys, tamper):
    from governance.canonical import canonical_digest

    with db.unit_of_work() as uow:
        uow.connection.execute(
            insert(runs).values(
                run_id="r1", pipeline="p", status="running", runner="s", params='{"rate": 1e-3}', actor="system", started="t"
            )
        )
        uow.append("run.started", "run:r1", {"params_digest": canonical_digest({"rate": 0.001}, floats=True)})
    assert not problems(db, keys)
    tamper("UPDATE gs_runs SET params = '{\"rate\": 0.002}'")
    assert "run r1: params_digest" in problems(db, keys)[0]


def test_a_thousand_faults_are_reported_by_the_first_hundred(db, keys, tamper):
    append(db, 300)
    tamper("UPDATE gs_ledger_entries SET entry = x'00'")
    found = problems(db, keys)
    assert len(found) == 100
    assert found[0].startswith("entry 0:")


def test_sizes_across_a_page_border_verify(db, keys):
    for number in itertools.chain([BATCH - 1], [1, 1, BATCH + 70]):
        append(db, number)
        sign_checkpoint(db, keys)
        report = verify_ledger(db, keys.log_public_key())
        with db.read() as connection:
            assert (report.problems, report.root_hash) == ((), root_hash(connection, report.num_entries).hex())
    assert report.num_checkpoints == 4


@pytest.mark.parametrize("index", [0, 1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH - 1, 2 * BATCH])
def test_a_fault_is_named_wherever_a_page_begins_or_ends(db, keys, tamper, index):
    append(db, 2 * BATCH + 1)
    changed = tamper('SELECT entry FROM gs_ledger_entries WHERE "index" = ?', (index,)).fetchone()[0]
    tamper('UPDATE gs_ledger_entries SET entry = ? WHERE "index" = ?', (changed.replace(b"test", b"rest"), index))
    assert problems(db, keys)[:2] == [
        f"entry {index}: action of the row is 'test.appended', the entry says 'rest.appended'",
        f"node {index} of level 0 is not the hash of entries {index} to {index}",
    ]
    tamper('DELETE FROM gs_ledger_entries WHERE "index" = ?', (index,))
    found = verify_ledger(db, keys.log_public_key())
    assert found.num_entries == index
    missing = f"entry {index} is missing, the next is {index + 1}"
    assert (
        f"the ledger's head says {2 * BATCH + 1} entries, there are {index}" if index == 2 * BATCH else missing
    ) in found.problems


def test_each_of_many_checkpoints_between_two_pages_is_compared(db, keys, tamper):
    for number in (BATCH - 3, 1, 1, 1, 1, 1, 50):
        append(db, number)
        sign_checkpoint(db, keys)
    assert not problems(db, keys)
    for size in (BATCH - 2, BATCH, BATCH + 2, BATCH + 52):
        note = tamper("SELECT note FROM gs_ledger_checkpoints WHERE size = ?", (size,)).fetchone()[0]
        forged = sign_note(size=size, root_hash=bytes(32), private_key=keys.log_private_key())
        tamper("UPDATE gs_ledger_checkpoints SET note = ? WHERE size = ?", (forged, size))
        assert problems(db, keys) == [f"checkpoint {size}: the entries before it are not those that were signed"]
        tamper("UPDATE gs_ledger_checkpoints SET note = ? WHERE size = ?", (note, size))


def test_a_root_is_compared_once_where_the_entries_end_with_a_page(db, keys, tamper):
    append(db, BATCH)
    forged = sign_note(size=BATCH, root_hash=bytes(32), private_key=keys.log_private_key())
    tamper("INSERT INTO gs_ledger_checkpoints VALUES (?, ?, 't')", (BATCH, forged))
    append(db, 2)
    tamper('DELETE FROM gs_ledger_entries WHERE "index" = ?', (BATCH,))
    assert problems(db, keys)[:2] == [
        f"checkpoint {BATCH}: the entries before it are not those that were signed",
        f"entry {BATCH} is missing, the next is {BATCH + 1}",
    ]


def test_a_missing_row_is_seen_where_another_stands_twice(story, keys, tamper):
    """Whoever drops the primary key can make up the number."""
    append(story, 1)
    with story.unit_of_work() as uow:
        row = {"kind": "dataset", "location": "x", "facts": "{}", "created": "t"}
        uow.connection.execute(insert(artifacts).values(digest="12" * 32, **row))
        uow.append("dataset.imported", f"dataset:{'12' * 32}", {})
    assert not problems(story, keys)
    tamper("CREATE TABLE copied AS SELECT * FROM gs_artifacts")
    tamper("DROP TABLE gs_artifacts")
    tamper("ALTER TABLE copied RENAME TO gs_artifacts")
    tamper("UPDATE gs_artifacts SET digest = ? WHERE digest = ?", (DIGEST, "12" * 32))
    assert f"artifact dataset:{'12' * 32} has an entry but no row" in problems(story, keys)
