"""What a restore refuses: what was tampered with, is older than an anchor, or would replace something."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from governance.checkpoint import sign_checkpoint as sign_note
from governance.errors import BadRecordError, IntegrityError, RefusedError
from infra.backup.archive import TarReader
from infra.backup.create import Backup
from infra.backup.format import SUMS, decode_value, encode_value
from infra.database import Database
from infra.errors import HomeBusyError
from infra.home import Home
from infra.identities import list_identities
from infra.keys import Keys
from infra.ledger import iter_entries, ledger_size, root_hash, sign_checkpoint
from infra.ledger_verification import verify_ledger
from infra.locking import try_lock
from infra.settings import Settings
from infra.tables import runs
from tests.backups import (
    back_up,
    grown,
    listing,
    rebuilt,
    restore,
    settings_of,
)


def changed_row(**values: Any) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        lines = content.splitlines()
        return b"\n".join([json.dumps({**json.loads(lines[-1]), **values}).encode(), *lines[:-1], b""])

    return change


def without_last(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def changed_header(**values: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), **values}).encode()


def changed_rows(table: str, count: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        header = json.loads(content)
        header["tables"][table] += count
        return json.dumps(header).encode()

    return change


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new)

    return change


def tampered_entry(content: bytes) -> bytes:
    lines = content.splitlines()
    row = json.loads(lines[4])
    row["entry"] = encode_value(decode_value(row["entry"]).replace(b"1", b"2"))
    return b"\n".join([*lines[:4], json.dumps(row).encode(), *lines[5:], b""])


@pytest.mark.parametrize("part", ["gs_ledger_entries", "metrics", "keys/log", "safetensors", "checkpoint", "backup.json", SUMS])
def test_a_flipped_byte_of_any_member_is_named(backup: Backup, tmp_path: Path, refused: Any, part: str) -> None:
    with tarfile.open(backup.file) as tar:
        member = next(member for member in tar if part in member.name)
    content = bytearray(backup.file.read_bytes())
    content[member.offset_data + member.size // 2] ^= 1
    (tmp_path / "b.tar").write_bytes(content)
    error = refused(tmp_path / "b.tar", IntegrityError)
    assert member.name in error.diagnosis


@pytest.mark.parametrize(
    ("changes", "kind", "match"),
    [
        ({"database/gs_runs.jsonl": changed_row(status="failed")}, IntegrityError, "status is 'failed'"),
        ({"database/gs_ledger_entries.jsonl": tampered_entry}, IntegrityError, "does not verify"),
        ({"database/gs_ledger_entries.jsonl": changed_row(subject="run:other")}, IntegrityError, "subject of the row"),
        ({"database/gs_ledger_head.jsonl": swap(b'"size":', b'"size":1')}, IntegrityError, "head says"),
        (
            {"database/gs_ledger_entries.jsonl": without_last, "backup.json": changed_rows("gs_ledger_entries", -1)},
            IntegrityError,
            "does not verify",
        ),
        ({"database/gs_ledger_entries.jsonl": without_last}, BadRecordError, "its header says"),
        ({"database/gs_commitments.jsonl": changed_row(value="another prompt")}, IntegrityError, "commitment"),
        ({"database/gs_model_versions.jsonl": changed_row(root_digest="00" * 32)}, IntegrityError, "root_digest"),
        ({"keys/public/package-signing.pem": lambda _: b"another"}, IntegrityError, "package-signing"),
        ({"checkpoint": swap(b"groundswell/", b"groundswelI/")}, IntegrityError, "checkpoint is of"),
        ({"backup.json": changed_header(ledger={"size": 1, "root_hash": "0" * 64})}, IntegrityError, "two ledgers"),
        ({"backup.json": changed_header(format="groundswell-backup/9")}, BadRecordError, "format"),
        ({"backup.json": changed_header(schema_revision="9999")}, BadRecordError, "schema '9999'"),
        ({"backup.json": changed_header(mlflow_revision="abc")}, BadRecordError, "MLflow"),
        ({"backup.json": changed_header(surprise=1)}, BadRecordError, "surprise"),
        ({"backup.json": lambda _: b"[" * 100_000}, BadRecordError, "backup.json"),
        ({"database/metrics.jsonl": lambda content: b"[" * 100_000 + b"\n"}, BadRecordError, "no JSON"),
        ({"database/metrics.jsonl": lambda content: content + b"{}\n"}, BadRecordError, "columns"),
        ({"database/metrics.jsonl": changed_row(run_uuid="nobody")}, BadRecordError, "does not fit"),
        ({"database/metrics.jsonl": changed_row(value={"base64": "?"})}, BadRecordError, "no base64"),
        ({"database/metrics.jsonl": changed_row(step=1 << 80)}, BadRecordError, "does not fit"),
        ({"database/tags.jsonl": changed_row(value="\ud800")}, BadRecordError, "does not fit"),
    ],
)
def test_what_was_tampered_with_is_found_though_every_digest_fits(
    backup: Backup, plain: Backup, tmp_path: Path, refused: Any, changes: Any, kind: Any, match: str
) -> None:
    needs_mlflow = any(("gs_" not in name and name.startswith("database/")) or "model_versions" in name for name in changes)
    original = backup if needs_mlflow else plain
    refused(rebuilt(original.file, tmp_path / "b.tar", changes), kind, match)


def test_a_changed_package_is_found_though_every_digest_fits(backup: Backup, tmp_path: Path, refused: Any) -> None:
    with TarReader.open(backup.file) as reader:
        name = next(name for name in reader.names if name.endswith("transformer.safetensors"))
    changed = rebuilt(backup.file, tmp_path / "b.tar", {name: lambda content: content[:-1] + b"x"})
    refused(changed, IntegrityError, r"package .* is not the one that was registered")


def test_keys_of_somebody_else_are_found(plain: Backup, tmp_path: Path, refused: Any) -> None:
    other = Keys.create(tmp_path / "other")
    private = other.private_path("package-signing").read_bytes()
    public = other.public_path("package-signing").read_bytes()
    one = {"keys/package-signing.pem": lambda _: private}
    refused(rebuilt(plain.file, tmp_path / "one.tar", one), IntegrityError, "private key package-signing")
    both = {**one, "keys/public/package-signing.pem": lambda _: public}
    refused(rebuilt(plain.file, tmp_path / "both.tar", both), IntegrityError, "public key package-signing")


def test_another_logs_backup_is_refused_where_the_key_is_known(plain: Backup, tmp_path: Path, refused: Any) -> None:
    known = Keys.create(tmp_path / "other").public_path("log")
    refused(plain.file, IntegrityError, "is the key of", key=known)


def test_an_empty_postgresql_is_needed(plain: Backup, tmp_path: Path, postgres_url: str) -> None:
    settings = settings_of(tmp_path / "home", postgres_url)
    home = Home.open(settings)
    for replaces in (False, True):
        with pytest.raises((RefusedError, IntegrityError)):
            restore(plain.file, settings, replace=replaces)
    shutil.rmtree(settings.home)
    with pytest.raises(RefusedError, match="is not empty") as caught:
        restore(plain.file, settings, replace=True)
    assert "empty database" in caught.value.hint
    assert "battery" not in caught.value.diagnosis + caught.value.hint
    assert not settings.home.exists()
    assert next(iter_entries(home.database)).action == "home.created"


def test_a_backup_that_does_not_verify_leaves_postgresql_empty(plain: Backup, tmp_path: Path, postgres_url: str) -> None:
    settings = settings_of(tmp_path / "home", postgres_url)
    changed = rebuilt(plain.file, tmp_path / "b.tar", {"database/gs_runs.jsonl": changed_row(status="failed")})
    with pytest.raises(IntegrityError, match="does not verify"):
        restore(changed, settings)
    assert not settings.home.exists()
    with Database.open(postgres_url) as database, database.read() as connection:
        assert ledger_size(connection) == 0
        assert connection.execute(select(runs.c.run_id)).all() == []
    assert restore(plain.file, settings).engine == "postgresql"


def test_what_postgresql_cannot_hold_is_told_in_one_line(
    plain_source: Home, plain: Backup, tmp_path: Path, postgres_url: str
) -> None:
    changed = rebuilt(plain.file, tmp_path / "b.tar", {"database/gs_commitments.jsonl": changed_row(value="secret\x00words")})
    with pytest.raises(BadRecordError, match=r"gs_commitments .* does not fit") as caught:
        restore(changed, settings_of(tmp_path / "home", postgres_url))
    assert "secret" not in caught.value.diagnosis


def test_a_backup_older_than_an_anchor_is_refused_unless_told_so(plain: Backup, tmp_path: Path, target: Settings) -> None:
    home = grown(plain.file, settings_of(tmp_path / "grown"), 5)
    note = sign_checkpoint(home.database, home.keys)
    anchors = tmp_path / "anchors"
    anchors.mkdir()
    (anchors / "newest").write_text(note)
    (anchors / "README").write_text("checkpoints of our log")
    other = Keys.create(tmp_path / "other").log_private_key()
    (anchors / "other-log").write_text(sign_note(size=10**6, root_hash=bytes(32), private_key=other))
    size = plain.header.ledger.size
    for anchor in (anchors, anchors / "newest"):
        with pytest.raises(RefusedError, match=f"has {size:,} entries.* has {size + 6:,}") as caught:
            restore(plain.file, target, anchors=(anchor,))
        assert "--allow-older" in caught.value.hint
        assert not target.home.exists()
    restored = restore(plain.file, target, anchors=(anchors,), allow_older=True)
    assert restored.older_than is not None
    database = Database.open(target.database_url)
    entry = list(iter_entries(database))[-1]
    with home.database.read() as connection:
        anchored = root_hash(connection, size + 6).hex()
    assert entry.details["anchored_size"] == size + 6
    assert entry.details["anchored_root_hash"] == anchored
    assert verify_ledger(database, home.keys.log_public_key()).ok


def test_a_newer_backup_than_its_anchors_is_restored(plain: Backup, tmp_path: Path, target: Settings) -> None:
    home = grown(plain.file, settings_of(tmp_path / "grown"), 5)
    (tmp_path / "anchor").write_text(sign_checkpoint(home.database, home.keys))
    grown_entries = back_up(home, tmp_path / "b.tar")
    assert restore(grown_entries.file, target, anchors=(tmp_path / "anchor",)).num_anchors == 1


@pytest.mark.parametrize("allow_older", [False, True])
def test_another_history_is_always_refused(plain: Backup, tmp_path: Path, refused: Any, allow_older: bool) -> None:
    one = grown(plain.file, settings_of(tmp_path / "one"), 3)
    other = grown(plain.file, settings_of(tmp_path / "other"), 2)
    (tmp_path / "anchor").write_text(sign_checkpoint(other.database, other.keys))
    made = back_up(one, tmp_path / "b.tar")
    refused(made.file, IntegrityError, "another history", anchors=(tmp_path / "anchor",), allow_older=allow_older)


def test_the_ledger_that_is_replaced_is_an_anchor(plain: Backup, target: Settings) -> None:
    home = grown(plain.file, target, 5)
    sign_checkpoint(home.database, home.keys)
    home.database.close()
    before = listing(target.home)
    with pytest.raises(RefusedError, match="the backup is older"):
        restore(plain.file, target, replace=True)
    assert listing(target.home) == before
    restored = restore(plain.file, target, replace=True, allow_older=True)
    assert restored.older_than is not None


def test_a_damaged_database_is_replaced_only_if_told_so(plain: Backup, target: Settings) -> None:
    grown(plain.file, target, 1).database.close()
    (target.home / "groundswell.db").write_bytes(b"no database" * 1000)
    with pytest.raises(RefusedError, match="cannot be known"):
        restore(plain.file, target, replace=True)
    restored = restore(plain.file, target, replace=True, allow_older=True)
    entry = list(iter_entries(Database.open(target.database_url)))[-1]
    assert entry.details["replaced_ledger"] == "unreadable"
    assert restored.replaced is not None
    assert (restored.replaced / "groundswell.db").read_bytes().startswith(b"no database")


@pytest.mark.parametrize(
    ("content", "kind", "match"),
    [(b"no checkpoint", IntegrityError, "not a checkpoint"), (b"\xff\xfe", BadRecordError, "no text")],
)
def test_an_anchor_that_is_none_is_refused(
    plain: Backup, tmp_path: Path, refused: Any, content: bytes, kind: Any, match: str
) -> None:
    (tmp_path / "anchor").write_bytes(content)
    refused(plain.file, kind, match, anchors=(tmp_path / "anchor",))
    (tmp_path / "folder").mkdir()
    refused(plain.file, BadRecordError, "holds no checkpoint", anchors=(tmp_path / "folder",))


def test_other_files_and_keys_are_never_overwritten(plain: Backup, target: Settings, plain_source: Home, tmp_path: Path) -> None:
    identity = list_identities(plain_source.database)[-1].identity_id
    key = target.home / "keys" / f"{identity}.pem"
    key.parent.mkdir(parents=True)
    shutil.copyfile(plain_source.keys.folder / "public" / "log.pem", tmp_path / "log.pem")
    key.write_text("another key")
    with pytest.raises(RefusedError, match=r"\.pem is there already"):
        restore(plain.file, target)
    assert listing(target.home) == {f"keys/{identity}.pem": b"another key"}
    shutil.copyfile(plain_source.keys.folder / key.name, key)
    restore(plain.file, target)
    assert verify_ledger(Home.open(target).database, plain_source.keys.log_public_key()).ok


def test_a_home_in_use_is_left_alone(plain: Backup, target: Settings) -> None:
    with try_lock(target.home / "locks" / "pipeline"), pytest.raises(HomeBusyError):
        restore(plain.file, target)
