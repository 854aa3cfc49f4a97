"""What only somebody outside can see: entries cut off, a history written anew, a fork."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, text, update

from governance import merkle
from governance.checkpoint import sign_checkpoint as sign_note
from governance.errors import IntegrityError
from governance.log_keys import LogKeys
from infra.database import Database
from infra.errors import BackendUnavailableError, BadSettingError
from infra.home import Home
from infra.ledger import ledger_size, sign_checkpoint
from infra.ledger_verification import verify_ledger
from infra.settings import Settings
from infra.tables import ledger_checkpoints, ledger_entries, ledger_head, ledger_nodes
from infra.witnesses import FolderWitness, ask, open_witness, publish, sign_and_publish


@pytest.fixture
def home(database_url, tmp_path, monkeypatch):
    """A home on either engine whose checkpoints a folder keeps."""
    monkeypatch.setenv("GROUNDSWELL_DATABASE_URL", database_url)
    monkeypatch.setenv("GROUNDSWELL_WITNESSES", str(tmp_path / "witness"))
    home = Home.open(Settings.load(tmp_path / "home"))
    grow(home, "x")
    yield home
    home.database.close()


def grow(home, word, *, count=5):
    with home.database.unit_of_work() as uow:
        for number in range(count):
            uow.append("test.appended", f"{word}:{number}", {})


def witnessed(home):
    return [
        anchor
        for testimony in ask(home.settings.witnesses, LogKeys.of(home.keys.log_public_key()))
        for anchor in testimony.anchors
    ]


def problems(home):
    return verify_ledger(home.database, home.keys.log_public_key(), anchors=witnessed(home)).problems


def disarm(connection):
    """Drops what refuses changes, as whoever owns the database can."""
    if connection.dialect.name == "sqlite":
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'gs_%'"))
        for name in names.scalars().all():
            connection.execute(text(f"DROP TRIGGER {name}"))
        return
    for table in ("gs_ledger_entries", "gs_ledger_nodes", "gs_ledger_checkpoints"):
        connection.execute(text(f"DROP TRIGGER {table}_append_only ON {table}"))


def cut(home, size):
    """Cuts the ledger to a size, and with it all that would tell from inside."""
    with home.database.engine.begin() as connection:
        disarm(connection)
        connection.execute(delete(ledger_entries).where(ledger_entries.c.index >= size))
        connection.execute(delete(ledger_checkpoints).where(ledger_checkpoints.c.size > size))
        for level in range(size.bit_length() + 4):
            beyond = (ledger_nodes.c.level == level) & (ledger_nodes.c.position >= size >> level)
            connection.execute(delete(ledger_nodes).where(beyond))
        connection.execute(update(ledger_head).values(size=size))


def test_every_checkpoint_reaches_the_witness_once(home):
    sizes = []
    for word in "ab":
        sign_and_publish(home)
        sign_and_publish(home)
        with home.database.read() as connection:
            sizes.append(ledger_size(connection))
        grow(home, word)
    assert [anchor.size for anchor in witnessed(home)] == sizes
    assert problems(home) == ()
    assert verify_ledger(home.database, home.keys.log_public_key(), anchors=witnessed(home)).num_anchors == 2


def test_entries_cut_off_are_seen_from_outside_alone(home):
    with home.database.read() as connection:
        before = ledger_size(connection)
    grow(home, "secret")
    sign_and_publish(home)
    cut(home, before)
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()
    (problem,) = problems(home)
    assert "entries are gone" in problem
    assert str(home.settings.witnesses[0]) in problem


def test_a_history_written_anew_with_the_logs_own_key_is_seen_from_outside_alone(home):
    with home.database.read() as connection:
        before = ledger_size(connection)
    grow(home, "true")
    sign_and_publish(home)
    cut(home, before)
    grow(home, "false")
    grow(home, "more")
    sign_checkpoint(home.database, home.keys)
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()
    (problem,) = problems(home)
    assert "another history" in problem
    publish(home.settings.witnesses, sign_checkpoint(home.database, home.keys))
    assert len(problems(home)) == 1, "the witness keeps both, and nothing is written over"
    assert len(witnessed(home)) == 2


def test_a_witness_that_is_away_stops_nothing_and_gets_the_next(home, tmp_path):
    (tmp_path / "file").write_text("no folder")
    locations = (str(tmp_path / "file"), str(tmp_path / "witness"))
    both = replace(home, settings=replace(home.settings, witnesses=locations))
    _, missed = sign_and_publish(both)
    (line,) = missed
    assert "missed this checkpoint" in line
    assert "\n" not in line
    assert len(witnessed(home)) == 1
    (tmp_path / "file").unlink()
    grow(home, "y")
    assert sign_and_publish(both)[1] == []
    assert [len(each.anchors) for each in ask(locations, LogKeys.of(home.keys.log_public_key()))] == [1, 2]


def test_what_a_witness_keeps_is_believed_only_under_the_logs_signature(home, tmp_path):
    sign_and_publish(home)
    (path,) = (tmp_path / "witness").iterdir()
    (tmp_path / "witness" / "README").write_text("not ours")
    assert len(witnessed(home)) == 1
    forged = sign_note(size=1, root_hash=merkle.EMPTY_ROOT, private_key=Ed25519PrivateKey.generate())
    for content in (forged, "", "?", path.read_text().replace("\n", "\r\n")):
        path.write_text(content, newline="")
        with pytest.raises(IntegrityError, match="anchor "):
            witnessed(home)
    path.write_bytes(b"\xff")
    with pytest.raises(IntegrityError, match="no text"):
        witnessed(home)


def test_of_very_many_checkpoints_the_newest_and_an_even_selection_are_asked_for(tmp_path):
    with Database.open(f"sqlite:///{tmp_path}/x.db") as _:
        pass
    home = Home.open(Settings.load(tmp_path / "home"))
    key = home.keys.log_private_key()
    folder = str(tmp_path / "witness")
    for size in range(1, 1001):
        publish([folder], sign_note(size=size, root_hash=bytes(32), private_key=key))
    (testimony,) = ask([folder], LogKeys.of(key.public_key()))
    sizes = [anchor.size for anchor in testimony.anchors]
    assert len(sizes) <= 200
    assert sizes[0] == 1
    assert sizes[-100:] == list(range(901, 1001))


@pytest.mark.parametrize("location", ["https://x/y", "ftp://x", "mlflow-artifacts:/x"])
def test_a_place_that_can_be_no_witness_is_told(location):
    with pytest.raises(BadSettingError, match="is no witness"):
        open_witness(location)


def test_credentials_in_a_witness_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_WITNESSES", f"{tmp_path}, s3://key:secret@bucket/x")
    with pytest.raises(BadSettingError, match="credentials") as caught:
        Settings.load(tmp_path / "home")
    assert "secret" not in caught.value.diagnosis


def test_a_folder_that_cannot_be_read_is_away(tmp_path):
    (tmp_path / "file").write_text("?")
    with pytest.raises(BackendUnavailableError):
        FolderWitness(tmp_path / "file").read("x")


def test_a_bucket_keeps_checkpoints(home, s3_bucket):
    location = f"s3://{s3_bucket}/anchors"
    bucket = replace(home, settings=replace(home.settings, witnesses=(location,)))
    for word in "ab":
        assert sign_and_publish(bucket)[1] == []
        assert sign_and_publish(bucket)[1] == []
        grow(home, word)
    assert len(witnessed(bucket)) == 2
    assert problems(bucket) == ()
    cut(home, 4)
    assert any("entries are gone" in problem for problem in problems(bucket))


def test_a_bucket_that_is_away_is_told(home, s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    key = home.keys.log_public_key()
    (line,) = publish([f"s3://{s3_bucket}/x"], sign_checkpoint(home.database, home.keys))
    assert "missed this checkpoint" in line
    (testimony,) = ask([f"s3://{s3_bucket}/x"], LogKeys.of(key))
    assert testimony.problem
    assert testimony.anchors == ()
