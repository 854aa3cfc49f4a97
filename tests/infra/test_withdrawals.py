"""Withdrawn items in the database: rows and entries together or not at all, in every dataset that holds the same bytes."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import insert, select
from sqlalchemy.engine import make_url

import infra.withdrawals
from governance.digest import tree_digest
from governance.errors import BadRecordError, RefusedError, UnknownSubjectError
from governance.identity import Role
from governance.ledger import SYSTEM
from governance.withdrawal import ACTION, MAX_ITEMS_PER_ENTRY
from infra.database import Database, UnitOfWork
from infra.erasure import erase
from infra.identities import create_identity, initialise_home, revoke_identity
from infra.keys import Keys
from infra.ledger import iter_entries, ledger_size
from infra.ledger_verification import verify_ledger
from infra.recorded_datasets import RecordedDataset, look_into
from infra.tables import artifacts, commitments, ledger_entries, withdrawals
from infra.withdrawals import (
    WithdrawalOutcome,
    WithdrawalRequest,
    extend_withdrawals,
    require_nothing_withdrawn,
    when_withdrawn,
    withdraw,
    withdrawals_from,
    withdrawn_items,
)
from model_core.data.dataset import Dataset
from model_core.data.importing import import_dataset
from tests.model_core.data.toy import SIZE, lines, picture_folder

REASON = "the licence of the walrus pictures ended"


@dataclass(frozen=True)
class Archive:
    """A database with two datasets on record: the second holds the first's pictures, and more."""

    db: Database
    keys: Keys
    actor: str
    datasets: Path
    folders: tuple[Path, Path]

    @property
    def subjects(self) -> list[str]:
        return [f"dataset:{tree_digest(folder)}" for folder in self.folders]

    def items(self, which: int = 0) -> list[str]:
        return sorted(Dataset.open(self.folders[which]).columns["sha256"])

    def withdraw(self, *items: str, which: int = 0, reason: str = REASON, **more: Any) -> WithdrawalOutcome:
        actor = more.pop("actor", self.actor)
        request = WithdrawalRequest(dataset=self.subjects[which], items=items, reason=reason, **more)
        return withdraw(self.db, request, actor=actor, datasets=self.datasets)

    def rows(self) -> list[Any]:
        with self.db.read() as connection:
            return list(connection.execute(select(withdrawals).order_by(withdrawals.c.dataset, withdrawals.c.item)))

    def problems(self) -> list[str]:
        return list(verify_ledger(self.db, self.keys.log_public_key()).problems)


def record(db: Database, folder: Path, *, location: str | None = None) -> str:
    digest = tree_digest(folder)
    with db.unit_of_work() as uow:
        uow.connection.execute(
            insert(artifacts).values(
                digest=digest,
                kind="dataset",
                location=location or str(folder),
                facts=json.dumps({"name": folder.name}),
                created=uow.time,
            )
        )
        uow.append("dataset.imported", f"dataset:{digest}", {})
        extend_withdrawals(uow, digest, set(Dataset.open(folder).columns["sha256"]))
    return digest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets of 6 and 9 pictures."""
    folder = tmp_path_factory.mktemp("made")
    for number in (6, 9):
        source = picture_folder(folder / f"source-{number}", lines(number))
        import_dataset(str(source), folder / f"toy-{number}", size=SIZE, workers=1)
    return folder


@pytest.fixture
def archive(database_url: str, made: Path, tmp_path: Path) -> Iterator[Archive]:
    datasets = tmp_path / "datasets"
    folders = tuple(shutil.copytree(made / name, datasets / name) for name in ("toy-6", "toy-9"))
    keys = Keys.create(tmp_path / "keys")
    with Database.open(database_url) as db:
        actor = initialise_home(db, keys, admin_name="Ada").identity_id
        for folder in folders:
            record(db, folder)
        yield Archive(db, keys, actor, datasets, (folders[0], folders[1]))


def test_rows_and_entries_say_the_same_and_the_reason_stays_out_of_the_ledger(archive: Archive) -> None:
    chosen = archive.items()[:2]
    outcome = archive.withdraw(*reversed(chosen))
    entry = next(iter_entries(archive.db, outcome.named.entries[0]))
    assert (entry.action, entry.subject, entry.actor) == (ACTION, archive.subjects[0], archive.actor)
    assert entry.details["items"] == chosen
    assert entry.details["num_items"] == 2
    own = [row for row in archive.rows() if f"dataset:{row.dataset}" == archive.subjects[0]]
    assert [(row.item, row.reason_commitment, row.actor) for row in own] == [
        (item, entry.details["reason_commitment"], archive.actor) for item in chosen
    ]
    with archive.db.read() as connection:
        stored = b"".join(connection.execute(select(ledger_entries.c.entry)).scalars())
        (found,) = withdrawals_from(connection, [outcome.named.dataset])
    assert b"walrus" not in stored
    assert (found.reason, found.num_items) == (REASON, 2)
    assert not archive.problems()


def test_the_split_of_each_item_is_told(archive: Archive) -> None:
    columns = Dataset.open(archive.folders[0]).columns
    outcome = archive.withdraw(*archive.items())
    assert dict(outcome.named.splits) == dict(zip(columns["sha256"], columns["split"], strict=True))
    assert set(outcome.named.splits.values()) == {"train", "holdout"}


def test_the_same_bytes_are_withdrawn_from_every_other_dataset_on_record(archive: Archive) -> None:
    item = archive.items()[0]
    outcome = archive.withdraw(item)
    (other,) = outcome.others
    assert f"dataset:{other.dataset}" == archive.subjects[1]
    assert list(other.splits) == [item]
    assert {entry.subject for entry in iter_entries(archive.db, action=ACTION)} == set(archive.subjects)
    assert outcome.datasets == {outcome.named.dataset, other.dataset}
    only_there = next(item for item in archive.items(1) if item not in archive.items(0))
    assert not archive.withdraw(only_there, which=1).others


def test_a_dataset_recorded_later_is_marked_by_the_platform(archive: Archive, tmp_path: Path, made: Path) -> None:
    item = archive.items()[0]
    archive.withdraw(item)
    later = import_dataset(str(made / "source-6"), tmp_path / "later", size=SIZE, workers=1)
    assert later.image_size == SIZE
    (tmp_path / "later" / "NOTES").write_text("another digest, the same pictures")
    digest = record(archive.db, tmp_path / "later")
    (row,) = [row for row in archive.rows() if row.dataset == digest]
    assert (row.item, row.actor) == (item, SYSTEM)
    with archive.db.read() as connection:
        (found,) = withdrawals_from(connection, [digest])
    assert found.reason == REASON
    assert not archive.problems()


def test_a_failure_inside_leaves_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    with archive.db.read() as connection:
        before = ledger_size(connection)
    append, calls = UnitOfWork.append, []

    def fail_at_the_second(self: UnitOfWork, *args: Any, **kwargs: Any) -> int:
        calls.append(args)
        if len(calls) == 2:
            raise RuntimeError("stop")
        return append(self, *args, **kwargs)

    monkeypatch.setattr(UnitOfWork, "append", fail_at_the_second)
    with pytest.raises(RuntimeError, match="stop"):
        archive.withdraw(archive.items()[0])
    monkeypatch.undo()
    assert len(calls) == 2
    assert archive.rows() == []
    with archive.db.read() as connection:
        assert ledger_size(connection) == before
        assert REASON not in connection.execute(select(commitments.c.value)).scalars().all()
    assert not archive.problems()


def test_an_item_is_withdrawn_once_and_the_rest_goes_on(archive: Archive) -> None:
    first, second = archive.items()[:2]
    archive.withdraw(first)
    outcome = archive.withdraw(first, second, reason="somebody objects")
    assert list(outcome.named.splits) == [second]
    assert list(outcome.earlier) == [first]
    again = archive.withdraw(first, second)
    assert not again.named.splits
    assert not again.named.entries
    assert set(again.earlier) == {first, second}
    assert len(list(iter_entries(archive.db, action=ACTION))) == 4
    with archive.db.read() as connection:
        assert [one.reason for one in withdrawals_from(connection, [outcome.named.dataset])] == [REASON, "somebody objects"]
        when = when_withdrawn(connection, [first, "f" * 64])
    assert {item: reason for item, (_, reason) in when.items()} == {first: REASON}
    assert not archive.problems()


def test_many_items_take_several_entries_in_one_unit_of_work(archive: Archive) -> None:
    shutil.rmtree(archive.folders[0])
    with archive.db.read() as connection:
        gone = connection.execute(select(artifacts.c.digest).where(artifacts.c.location == str(archive.folders[0]))).scalar_one()
    items = [f"{number:064x}" for number in range(2 * MAX_ITEMS_PER_ENTRY + 1)]
    request = WithdrawalRequest(dataset=f"dataset:{gone}", items=items, reason=REASON, without_manifest=True)
    outcome = withdraw(archive.db, request, actor=archive.actor, datasets=archive.datasets)
    assert len(outcome.named.entries) == 3
    assert len(archive.rows()) == len(items)
    assert not archive.problems()


def test_an_item_that_is_not_in_the_dataset_is_refused_and_nothing_is_written(archive: Archive) -> None:
    with pytest.raises(BadRecordError, match="f" * 64):
        archive.withdraw(archive.items()[0], "f" * 64)
    assert archive.rows() == []


@pytest.mark.parametrize("change", ["auditor", "revoked"])
def test_who_may_not_withdraw_is_refused(archive: Archive, change: str) -> None:
    role = Role.AUDITOR if change == "auditor" else Role.OPS
    person = create_identity(archive.db, archive.keys, name="Grace", role=role, actor=archive.actor)
    if change == "revoked":
        revoke_identity(archive.db, identity_id=person.identity_id, actor=archive.actor)
    with pytest.raises(RefusedError):
        archive.withdraw(archive.items()[0], actor=person.identity_id)
    assert archive.rows() == []


def test_a_data_scientist_withdraws(archive: Archive) -> None:
    person = create_identity(archive.db, archive.keys, name="Grace", role=Role.DATA_SCIENTIST, actor=archive.actor)
    archive.withdraw(archive.items()[0], actor=person.identity_id)
    assert {row.actor for row in archive.rows()} == {person.identity_id}
    assert not archive.problems()


@pytest.mark.parametrize("subject", ["codec:" + "a" * 64, "dataset:" + "a" * 64])
def test_what_is_no_dataset_on_record_is_refused(archive: Archive, subject: str) -> None:
    request = WithdrawalRequest(dataset=subject, items=archive.items(), reason=REASON)
    with pytest.raises((BadRecordError, UnknownSubjectError), match="dataset"):
        withdraw(archive.db, request, actor=archive.actor, datasets=archive.datasets)


def manifest_is_hidden(archive: Archive) -> None:
    """Somebody changes the manifest, so that it no longer says what was in the dataset."""
    path = archive.folders[0] / "manifest.parquet"
    path.write_bytes(path.read_bytes() + b"\0")


def folder_is_gone(archive: Archive) -> None:
    shutil.rmtree(archive.folders[0])


@pytest.mark.parametrize("harm", [manifest_is_hidden, folder_is_gone])
def test_without_a_manifest_it_takes_a_word_more_and_the_entry_says_so(archive: Archive, harm: Callable[[Archive], None]) -> None:
    item, subject = archive.items()[0], archive.subjects[0]
    harm(archive)
    request = WithdrawalRequest(dataset=subject, items=[item], reason=REASON)
    with pytest.raises(BadRecordError, match="nothing shows what it held") as caught:
        withdraw(archive.db, request, actor=archive.actor, datasets=archive.datasets)
    assert "--without-manifest" in caught.value.hint
    assert archive.rows() == []
    request = WithdrawalRequest(dataset=subject, items=[item], reason=REASON, without_manifest=True)
    outcome = withdraw(archive.db, request, actor=archive.actor, datasets=archive.datasets)
    assert dict(outcome.named.splits) == {item: "unknown"}
    assert next(iter_entries(archive.db, outcome.named.entries[0])).details["manifest"] == "missing"
    (other,) = outcome.others
    assert "manifest" not in next(iter_entries(archive.db, other.entries[0])).details
    assert not archive.problems()


def test_another_dataset_that_cannot_be_looked_into_is_told_until_its_folder_is_back(archive: Archive, tmp_path: Path) -> None:
    item = archive.items()[0]
    hidden = shutil.move(archive.folders[1], tmp_path / "hidden")
    outcome = archive.withdraw(item)
    assert [one.name for one in outcome.unseen] == ["toy-9"]
    assert not outcome.others
    shutil.move(hidden, archive.folders[1])
    again = archive.withdraw(item)
    assert not again.unseen
    assert [list(other.splits) for other in again.others] == [[item]]
    assert not archive.problems()


def test_a_home_that_was_moved_still_finds_its_datasets(archive: Archive, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(archive.datasets, moved)
    digest = tree_digest(moved / "toy-6")
    dataset = RecordedDataset(digest=digest, name="toy-6", location=str(archive.folders[0]))
    assert look_into(dataset, datasets=moved).splits
    assert look_into(dataset, datasets=tmp_path / "nowhere", given=moved / "toy-6").splits
    assert look_into(dataset, datasets=tmp_path / "nowhere").splits is None
    unplaced = RecordedDataset(digest=digest, name="toy-6", location="")
    assert look_into(unplaced, datasets=tmp_path / "nowhere").splits is None


def test_a_dataset_recorded_meanwhile_is_not_missed(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = archive.items()[0]
    late = shutil.copytree(archive.folders[0], tmp_path / "late")
    (late / "NOTES").write_text("another digest")
    look, digests = infra.withdrawals.look_into, []

    def record_meanwhile(dataset: RecordedDataset, **places: Any) -> RecordedDataset:
        if not digests:
            digests.append(record(archive.db, late))
        return look(dataset, **places)

    monkeypatch.setattr(infra.withdrawals, "look_into", record_meanwhile)
    outcome = archive.withdraw(item)
    assert digests[0] in outcome.datasets


def test_learning_from_a_dataset_with_withdrawn_items_is_refused(archive: Archive) -> None:
    require_nothing_withdrawn(archive.db, archive.folders[0])
    first, second = archive.items()[:2]
    archive.withdraw(first, second)
    with pytest.raises(RefusedError, match=f"holds 2 withdrawn items: {first}, {second}"):
        require_nothing_withdrawn(archive.db, archive.folders[1])
    with archive.db.read() as connection:
        assert withdrawn_items(connection) == {first, second}


def test_an_erased_reason_leaves_the_withdrawal(archive: Archive) -> None:
    outcome = archive.withdraw(archive.items()[0])
    with archive.db.read() as connection:
        kept = connection.execute(select(withdrawals.c.reason_commitment)).scalars().all()
    erase(archive.db, kept, reason="a request", actor=archive.actor)
    with archive.db.read() as connection:
        (found,) = withdrawals_from(connection, [outcome.named.dataset])
    assert (found.reason, found.num_items) == (None, 1)
    assert not archive.problems()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM gs_withdrawals WHERE item = '{item}'", "has an entry but no row"),
        ("UPDATE gs_withdrawals SET actor = 'system' WHERE item = '{item}'", "actor is 'system'"),
        ("UPDATE gs_withdrawals SET created = '2027-01-01T00:00:00.000000Z'", "created is '2027-01-01T00:00:00.000000Z'"),
        ("UPDATE gs_withdrawals SET reason_commitment = 'c'", "reason_commitment is 'c'"),
        ("UPDATE gs_withdrawals SET item = 'other' WHERE item = '{item}'", "has a row but no entry"),
    ],
)
def test_an_edited_or_deleted_row_is_found(archive: Archive, database_url: str, statement: str, said: str) -> None:
    item = archive.items()[0]
    archive.withdraw(item)
    url = make_url(database_url)
    if url.drivername == "sqlite":
        connection: Any = sqlite3.connect(str(url.database), isolation_level=None)
    else:
        connection = psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True)
    connection.execute(statement.format(item=item))
    connection.close()
    found = archive.problems()
    assert any(f"withdrawal {archive.subjects[0].partition(':')[2]}" in one and said in one for one in found), found
