"""Backups as they are made."""

import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from sqlalchemy import update

from governance.errors import IntegrityError
from infra.backup.create import Backup, BackupOptions, create_backup
from infra.backup.format import SUMS
from infra.database import Database
from infra.errors import BackendUnavailableError
from infra.home import Home
from infra.ledger import iter_entries
from infra.mlflow_registry import list_versions
from infra.settings import Settings
from infra.tables import runs
from tests.backups import back_up, grown, interrupt_at, listing, restore, settings_of


def test_a_backup_is_a_private_tar_without_secrets_that_standard_tools_verify(
    backup: Backup, source: Home, tmp_path: Path, target: Settings
) -> None:
    assert stat.S_IMODE(backup.file.stat().st_mode) == 0o600
    subprocess.run(["tar", "xf", backup.file, "-C", tmp_path], check=True)
    subprocess.run(["sha256sum", "--strict", "--quiet", "-c", SUMS], check=True, cwd=tmp_path)
    content = backup.file.read_bytes()
    assert b"canary-secret" not in content
    assert b"hunter22" not in content
    assert b"eu-1" in content
    with tarfile.open(backup.file) as tar:
        names = tar.getnames()
    assert names[0] == "backup.json"
    assert names[-1] == SUMS
    assert not [name for name in names if name.startswith("work/") or "alembic" in name]
    files = [path for path in (source.path / "mlartifacts").rglob("*") if path.is_file()]
    assert len([name for name in names if name.startswith(("packages/", "artifacts/"))]) == len(files)
    restore(backup.file, target)
    assert not (target.home / "settings.toml").exists()
    assert "eu-1" in (target.home / "settings.from-backup.toml").read_text()


def test_a_backup_is_one_moment_though_the_ledger_grows(
    plain_source: Home, plain: Backup, tmp_path: Path, target: Settings
) -> None:
    restore(plain.file, target)
    home = Home.open(target)
    before = [entry.index for entry in iter_entries(home.database)]

    def grow(done: int, total: int, description: str) -> None:
        if description.startswith("rows of"):
            with home.database.unit_of_work() as uow:
                uow.append("note.made", "note:1", {"prompt": uow.commit_to("more")})

    made = create_backup(home, tmp_path / "b.tar", version="1", options=BackupOptions(), progress=grow)
    assert made.header.ledger.size == len(before) < len(list(iter_entries(home.database)))
    again = settings_of(tmp_path / "again")
    restore(made.file, again)
    assert len(list(iter_entries(Database.open(again.database_url)))) == len(before) + 1


@pytest.mark.parametrize("word", ["verifying", "rows of gs_runs", "safetensors", "keys/"])
def test_an_interrupted_backup_leaves_nothing(source: Home, tmp_path: Path, word: str) -> None:
    (tmp_path / "b.tar").write_bytes(b"yesterday's")
    with pytest.raises(KeyboardInterrupt):
        create_backup(source, tmp_path / "b.tar", version="1", options=BackupOptions(), progress=interrupt_at(word))
    assert listing(tmp_path) == {"b.tar": b"yesterday's"}


def test_a_full_disk_leaves_nothing(source: Home, plain: Backup, small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        back_up(source, small_disk / "b.tar")
    assert list(small_disk.iterdir()) == []
    with pytest.raises((OSError, BackendUnavailableError)):  # SQLite cannot always tell why
        restore(plain.file, settings_of(small_disk / "home"))
    assert list(small_disk.iterdir()) == []


def test_a_ledger_that_does_not_verify_is_not_backed_up(plain: Backup, target: Settings, tmp_path: Path) -> None:
    home = grown(plain.file, target, 0)
    with home.database.unit_of_work() as uow:
        uow.connection.execute(update(runs).values(status="failed"))
    with pytest.raises(IntegrityError, match=r"could not be restored: run .* status is 'failed'"):
        back_up(home, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()


def test_a_package_that_is_not_what_was_registered_is_not_backed_up(backup: Backup, target: Settings, tmp_path: Path) -> None:
    home = grown(backup.file, target, 0)
    location = Path(list_versions(home.database)[0].location)
    with (location / "MODEL_CARD.md").open("ab") as file:
        file.write(b"!")
    with pytest.raises(IntegrityError, match="is not the one that was registered"):
        back_up(home, tmp_path / "b.tar")
    shutil.rmtree(location)
    with pytest.raises(IntegrityError, match="is missing"):
        back_up(home, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()
    assert back_up(home, tmp_path / "b.tar", with_packages=False).file.exists()
