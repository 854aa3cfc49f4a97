"""Evidence bundles out of a home: what is in one, what is recorded, and what stops one."""

import json
import os
import threading

import pytest
from sqlalchemy import text

from governance.bundle import content
from governance.bundle.verify import ENTRIES, read_bundle, verify_files
from governance.errors import IntegrityError, UnknownSubjectError
from infra.bundle import export_bundle
from infra.home import Home
from infra.ledger import iter_entries, ledger_size
from infra.ledger_verification import verify_ledger
from infra.settings import Settings
from infra.tables import artifacts, ledger_entries

DIGEST = "d" * 64
SUBJECT = f"dataset:{DIGEST}"


@pytest.fixture
def home(database_url, tmp_path, monkeypatch):
    """A home with a dataset on record, on either engine."""
    monkeypatch.setenv("GROUNDSWELL_DATABASE_URL", database_url)
    home = Home.open(Settings.load(tmp_path / "home"))
    facts = {"name": "pictures", "num_items": 3, "licences": ["CC0-1.0"]}
    with home.database.unit_of_work() as uow:
        row = {"digest": DIGEST, "kind": "dataset", "location": "gone", "facts": json.dumps(facts), "created": uow.time}
        uow.connection.execute(artifacts.insert().values(**row))
        uow.append("dataset.imported", SUBJECT, {"num_items": 3})
        for number in range(20):
            uow.append("test.appended", f"x:{number}", {})
    yield home
    home.database.close()


def key(home):
    return home.keys.public_path("log").read_bytes()


def actor(home):
    return next(entry.subject.removeprefix("identity:") for entry in iter_entries(home.database, action="identity.created"))


def test_a_bundle_verifies_with_the_logs_key_alone_and_is_recorded(home, tmp_path):
    who = actor(home)
    made = export_bundle(home, SUBJECT, tmp_path / "evidence.zip", actor=who)
    files = read_bundle(made.file)
    verdict = verify_files(files, key(home))
    assert verdict.problems == []
    assert (verdict.subject, verdict.log_size, made.log_size) == (SUBJECT, made.index + 1, made.index + 1)
    assert set(files) == set(made.names)
    recorded = list(iter_entries(home.database, action=content.EXPORTED))
    assert [(entry.index, entry.subject, entry.actor) for entry in recorded] == [(made.index, SUBJECT, who)]
    assert recorded[0].details["files"].keys() == set(made.names) - {"checkpoint", ENTRIES, "SHA256SUMS"}
    report = verify_ledger(home.database, home.keys.log_public_key())
    assert (report.ok, report.num_checkpoints) == (True, 1)


def test_its_entries_are_those_about_the_subject_the_keys_and_the_people(home, tmp_path):
    made = export_bundle(home, SUBJECT, tmp_path / "evidence.zip", actor=actor(home))
    lines = [json.loads(line) for line in read_bundle(made.file)[ENTRIES].splitlines()]
    actions = [json.loads(line["entry"])["action"] for line in lines]
    assert actions == ["key.created", "key.created", "dataset.imported", content.EXPORTED]
    second = export_bundle(home, SUBJECT, tmp_path / "again.zip", actor=actor(home))
    assert second.num_entries == made.num_entries + 2  # the first export is an entry about the subject, by a person
    assert verify_files(read_bundle(second.file), key(home)).problems == []
    assert verify_files(read_bundle(made.file), key(home)).problems == []


def test_nothing_is_left_half_done_where_the_file_cannot_be_written(home, tmp_path, monkeypatch):
    with home.database.read() as connection:
        before = ledger_size(connection)
    (tmp_path / "evidence.zip").write_bytes(b"an older one")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        export_bundle(home, SUBJECT, tmp_path / "evidence.zip", actor=actor(home))
    monkeypatch.undo()
    assert (tmp_path / "evidence.zip").read_bytes() == b"an older one"
    assert [path.name for path in tmp_path.glob("*evidence*")] == ["evidence.zip"]
    with home.database.read() as connection:
        assert ledger_size(connection) == before


def test_bundles_exported_at_once_all_verify(home, tmp_path):
    who = actor(home)
    made = []

    def export(number):
        made.append(export_bundle(home, SUBJECT, tmp_path / f"{number}.zip", actor=who))

    threads = [threading.Thread(target=export, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({bundle.index for bundle in made}) == 4
    assert all(verify_files(read_bundle(bundle.file), key(home)).problems == [] for bundle in made)


def test_nothing_is_exported_from_a_ledger_that_does_not_verify(home, tmp_path):
    with home.database.engine.begin() as connection:
        drop = (
            "DROP TRIGGER gs_ledger_entries_no_update"
            if connection.dialect.name == "sqlite"
            else "DROP TRIGGER gs_ledger_entries_append_only ON gs_ledger_entries"
        )
        connection.execute(text(drop))
        last = connection.execute(text('SELECT max("index") FROM gs_ledger_entries')).scalar_one()
        changed = ledger_entries.update().where(ledger_entries.c.index == last - 1).values(entry=b"{}")
        connection.execute(changed)
    with pytest.raises(IntegrityError, match="no evidence is exported"):
        export_bundle(home, SUBJECT, tmp_path / "evidence.zip", actor="system")
    assert not (tmp_path / "evidence.zip").exists()


def test_an_unknown_subject_has_no_bundle(home, tmp_path):
    with pytest.raises(UnknownSubjectError):
        export_bundle(home, f"dataset:{'e' * 64}", tmp_path / "evidence.zip", actor="system")
    assert not (tmp_path / "evidence.zip").exists()
