"""Bad settings, bad data, changed files and a full disk: one line each, the right exit code, earlier work intact."""

import os
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from components.runtime import RunContext, run_step
from governance.digest import tree_digest
from governance.errors import IntegrityError
from infra.home import Home
from infra.identities import first_identity
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.progress import ProgressFile
from infra.run_records import begin_run
from infra.runs import get_run, get_steps, list_runs
from infra.settings import Settings
from model_core.data.dataset import Dataset
from pipelines.datasets import ensure_dataset
from pipelines.params import DataParams
from tests.model_core.data.toy import lines, picture_folder
from tests.pipelines.calling import Called, call, flip_byte, run_training
from tests.pipelines.conftest import Trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def assert_one_line(called: Called, exit_code: int, *words: str) -> None:
    """The command ended with one line that holds the words, perhaps a hint, and no traceback."""
    assert called.exit_code == exit_code, called.stdout + called.stderr
    (line,) = [line for line in called.stderr.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in line
    assert "Traceback" not in called.stderr + called.stdout
    assert called.document["exit_code"] == exit_code


def assert_earlier_run_intact(folder: Path, trained: Trained) -> None:
    """The earlier run is still completed, its outputs are what was recorded, and the ledger verifies."""
    home = Home.open(Settings.load(folder), create=False)
    with home.database.read() as connection:
        assert get_run(connection, trained.run_id).status == "completed"
        steps = get_steps(connection, trained.run_id)
    assert len(steps) == 5
    for step in steps:
        for name, reference in step.record["outputs"].items():
            output = folder / "work" / step.fingerprint / "outputs" / name
            assert tree_digest(output, exclude=("model.sig",) if name == "package" else ()) == reference["digest"]
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()


def test_a_misspelt_setting_is_refused_before_anything_happens(tmp_path: Path, training_settings: list[str]) -> None:
    called = run_training(tmp_path / "home", [*training_settings, "train_dit.num_step=3"])
    assert_one_line(called, 3, "train_dit.num_step")
    assert "train_dit.num_steps" in called.stderr
    assert not (tmp_path / "home").exists()


def with_source(trained: Trained, source: Path) -> list[str]:
    return [*trained.settings, f"data.source={source}"]


def test_a_source_without_pictures_is_refused(copied: Callable[..., Path], trained: Trained, tmp_path: Path) -> None:
    folder = copied()
    called = run_training(folder, with_source(trained, picture_folder(tmp_path / "empty", [])))
    assert_one_line(called, 3)
    assert_earlier_run_intact(folder, trained)
    home = Home.open(Settings.load(folder))
    with home.database.read() as connection:
        assert [run.status for run in list_runs(connection, 5)] == ["failed", "completed"]


def test_a_truncated_picture_is_refused_by_name(copied: Callable[..., Path], trained: Trained, tmp_path: Path) -> None:
    folder, source = copied(), picture_folder(tmp_path / "pictures", lines(12))
    picture = source / "5.png"
    picture.write_bytes(picture.read_bytes()[:200])
    called = run_training(folder, with_source(trained, source))
    assert_one_line(called, 3, "5.png")
    assert_earlier_run_intact(folder, trained)


def test_a_damaged_picture_of_a_finished_dataset_is_refused_by_row(
    copied: Callable[..., Path], trained: Trained, tmp_path: Path
) -> None:
    folder = copied()
    (manifest,) = folder.glob("datasets/*/manifest.parquet")
    dataset = shutil.copytree(manifest.parent, tmp_path / "dataset")
    (shard, *_) = sorted(dataset.glob("shards/*.tar"))
    content = shard.read_bytes()
    place = content.index(b"IDAT") + 20
    shard.write_bytes(content[:place] + bytes(40) + content[place + 40 :])
    called = run_training(folder, with_source(trained, dataset))
    assert_one_line(called, 3, "row")
    statuses = {step["name"]: step["status"] for step in called.document["steps"]}
    assert (statuses["validate_data"], statuses["encode_latents"]) == ("failed", "waiting")
    assert_earlier_run_intact(folder, trained)


def test_an_imported_dataset_that_was_changed_is_refused(home: Home, tmp_path: Path) -> None:
    data = DataParams(source=str(picture_folder(tmp_path / "pictures", lines(6))), size=16, categories=())
    actor, progress = first_identity(home.database), ProgressFile(tmp_path / "progress.json")
    folder = ensure_dataset(home, data, actor=actor, run_id=str(uuid.uuid4()), progress=progress)
    (shard, *_) = folder.glob("shards/*.tar")
    flip_byte(shard, 2000)
    with pytest.raises(IntegrityError, match="changed since") as caught:
        ensure_dataset(home, data, actor=actor, run_id=str(uuid.uuid4()), progress=progress)
    assert caught.value.exit_code == 4


def test_a_source_that_has_grown_is_imported_anew(home: Home, tmp_path: Path) -> None:
    source = picture_folder(tmp_path / "pictures", lines(6))
    data, actor = DataParams(source=str(source), size=16, categories=()), first_identity(home.database)
    progress = ProgressFile(tmp_path / "progress.json")
    folders = []
    for count in (6, 6, 9):
        picture_folder(source, lines(count), write=count != len(list(source.glob("*.png"))))
        folders.append(ensure_dataset(home, data, actor=actor, run_id=str(uuid.uuid4()), progress=progress))
    assert folders[0] == folders[1] != folders[2]
    assert [len(Dataset.open(folder)) for folder in folders] == [6, 6, 9]


def test_data_that_changed_after_validation_is_not_encoded(trained: Trained, tmp_path: Path, tiny_codec: Path) -> None:
    home = Home.open(Settings.load(trained.copy(tmp_path / "home")))
    with home.database.read() as connection:
        steps = {step.step: step for step in get_steps(connection, trained.run_id)}
    validation = home.work / steps["validate_data"].fingerprint / "outputs" / "validation"
    (manifest,) = home.datasets.glob("*/manifest.parquet")
    (shard, *_) = manifest.parent.glob("shards/*.tar")
    flip_byte(shard, 2000)
    run_id, actor = str(uuid.uuid4()), first_identity(home.database)
    begin_run(home, run_id=run_id, pipeline="training", runner="in-process", params={}, actor=actor)
    run = RunContext(home=home, run_id=run_id, pipeline="training", actor=actor)
    inputs = {"dataset": manifest.parent, "validation": validation, "codec": tiny_codec}
    with pytest.raises(IntegrityError, match="changed since") as caught:
        run_step(run, "encode_latents", {}, inputs)
    assert caught.value.exit_code == 4
    with home.database.read() as connection:
        (step,) = get_steps(connection, run_id)
    assert step.error is not None
    assert (step.status, step.error.exit_code) == ("failed", 4)


def test_a_changed_latent_is_reported_kept_and_made_anew(copied: Callable[..., Path], trained: Trained) -> None:
    folder = copied()
    (shard,) = folder.glob("work/*/outputs/latents/shards/*.safetensors")
    before = shard.read_bytes()
    flip_byte(shard)
    harmed = shard.read_bytes()
    called = run_training(folder, trained.settings)
    assert (called.exit_code, called.document["status"]) == (4, "completed")
    (note,) = called.document["tampered"]
    assert note.startswith("encode_latents: latents: recorded digest")
    statuses = {step["name"]: step["status"] for step in called.document["steps"]}
    assert statuses.pop("encode_latents") == "completed"
    assert set(statuses.values()) == {"reused"}
    assert shard.read_bytes() == before
    assert [path.read_bytes() for path in folder.glob("quarantine/*/latents/shards/*.safetensors")] == [harmed]
    home = Home.open(Settings.load(folder))
    assert "artifact.tampered" in {entry.action for entry in iter_entries(home.database)}
    again = run_training(folder, trained.settings)
    assert (again.exit_code, again.document["reused_all"], again.document["tampered"]) == (0, True, [])
    assert_earlier_run_intact(folder, trained)


def test_a_changed_ledger_is_found_out(copied: Callable[..., Path]) -> None:
    folder = copied()
    assert call(folder, "--json", "audit", "verify").exit_code == 0
    with closing(sqlite3.connect(folder / "groundswell.db")) as connection, connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        assert triggers  # a plain UPDATE is refused
        with pytest.raises(sqlite3.DatabaseError):
            connection.execute("UPDATE gs_ledger_entries SET entry = x'00' WHERE \"index\" = 3")
        for (name,) in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
        (entry,) = connection.execute('SELECT entry FROM gs_ledger_entries WHERE "index" = 3').fetchone()
        changed = bytearray(entry)
        changed[changed.index(b'"time"') + 12] ^= 1
        connection.execute('UPDATE gs_ledger_entries SET entry = ? WHERE "index" = 3', (bytes(changed),))
    called = call(folder, "--json", "audit", "verify")
    assert called.exit_code == 4
    assert "3" in called.stderr + called.stdout


@pytest.fixture
def small_disk(copied: Callable[..., Path]) -> Iterator[Path]:
    """A home without latents, its work folder on a disk of eight megabytes."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = copied(without=("encode_latents",))
    aside = (folder / "work").rename(folder / "work-aside")
    work = folder / "work"
    work.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", work], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    shutil.copytree(aside, work, dirs_exist_ok=True)
    yield folder
    subprocess.run(["umount", work], check=True)


def test_a_full_disk_is_told_in_one_line_and_harms_nothing(small_disk: Path, trained: Trained) -> None:
    filling = small_disk / "work" / "filling"
    filling.write_bytes(bytes(shutil.disk_usage(small_disk / "work").free - (24 << 10)))
    called = run_training(small_disk, trained.settings)
    assert_one_line(called, 6, "no space left")
    statuses = {step["name"]: step["status"] for step in called.document["steps"]}
    assert (statuses["validate_data"], statuses["encode_latents"], statuses["train_dit"]) == ("reused", "failed", "waiting")
    filling.unlink()
    later = run_training(small_disk, trained.settings)
    assert later.exit_code == 0, later.stderr
    assert_earlier_run_intact(small_disk, trained)
