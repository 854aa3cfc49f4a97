"""Restores into both engines, and what they leave when they fail."""

import json
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from governance.errors import RefusedError
from governance.identity import Role
from governance.lineage import ArtifactRef, StepIdentity, run_event
from infra.backup.create import Backup
from infra.backup.restore import Restored, RestoreOptions, restore_backup
from infra.backup.restored_files import Staging
from infra.database import Database
from infra.home import Home
from infra.identities import create_identity, list_identities
from infra.key_rotation import rotate_package_key
from infra.keys import Keys
from infra.ledger import iter_entries, sign_checkpoint
from infra.ledger_verification import verify_ledger
from infra.lineage import record_event
from infra.mlflow_client import connect, ensure_experiment
from infra.mlflow_registry import find_version, open_version
from infra.objects.store import local_path
from infra.settings import Settings
from infra.tables import artifacts, steps
from tests.backups import (
    RUN,
    back_up,
    grown,
    interrupt_at,
    listing,
    restore,
    rows_of,
    settings_of,
)
from tests.infra.package_inputs import NAME

ROOT = Path(__file__).parents[2]


def mlflow_view(settings: Settings) -> dict[str, Any]:
    """What an MLflow client sees, without what is a place."""
    from mlflow.entities import ViewType

    client = connect(settings.mlflow_tracking_uri, settings.artifact_root)
    experiments = client.search_experiments(view_type=ViewType.ALL)
    found: dict[str, Any] = {"experiments": sorted((e.name, e.experiment_id, e.creation_time) for e in experiments)}
    for run in client.search_runs([e.experiment_id for e in experiments], run_view_type=ViewType.ALL):
        key = run.info.run_id
        metrics = sorted((m.key, str(m.value), m.step, m.timestamp) for m in histories(client, run))
        info = (run.info.status, run.info.start_time, run.info.end_time, run.info.run_name)
        outputs = [output.to_dictionary() for output in run.outputs.model_outputs]
        found[key] = (info, run.data.params, metrics, run.data.tags, outputs, artifact_texts(client, key))
    for version in client.search_model_versions():
        key = f"{version.name}/{version.version}"
        found[key] = (version.run_id, version.tags, version.current_stage, version.creation_timestamp)
    for model in client.search_registered_models():
        found[model.name] = (model.aliases, model.creation_timestamp)
    for logged in client.search_logged_models([e.experiment_id for e in experiments]):
        metrics = sorted((m.key, repr(m.value)) for m in logged.metrics)
        found[logged.model_id] = (logged.name, logged.tags, metrics, logged.status, logged.source_run_id)
    return found


def histories(client: Any, run: Any) -> Iterator[Any]:
    for name in run.data.metrics:
        yield from client.get_metric_history(run.info.run_id, name)


def artifact_texts(client: Any, run_id: str) -> list[tuple[str, str]]:
    from mlflow.artifacts import load_text

    files = [file.path for folder in client.list_artifacts(run_id) for file in client.list_artifacts(run_id, folder.path)]
    return [(path, load_text(f"{client.get_run(run_id).info.artifact_uri}/{path}")) for path in files]


MOVED = {"gs_artifacts", "gs_model_versions", "experiments", "runs", "logged_models", "model_versions"}
GROWN = {"gs_ledger_head", "gs_ledger_entries", "gs_ledger_nodes", "gs_ledger_checkpoints"}


def assert_same_home(source: Home, settings: Settings, restored: Restored) -> None:
    """Everything is there, verifies and goes on."""
    home = Home.open(settings)
    report = verify_ledger(home.database, source.keys.log_public_key())
    assert (report.ok, report.problems) == (True, ())
    size = restored.header.ledger.size
    assert (restored.entry, report.num_entries) == (size, size + 1)
    assert rows_of(home.database, without=MOVED | GROWN) == rows_of(source.database, without=MOVED | GROWN)
    entries = list(iter_entries(home.database))
    assert entries[:-1] == list(iter_entries(source.database))[:size]
    assert entries[-1].action == "ledger.restored"
    assert entries[-1].details["root_hash"] == restored.header.ledger.root_hash
    assert entries[-1].actor == list_identities(source.database)[0].identity_id
    assert mlflow_view(settings) == mlflow_view(source.settings)
    version = find_version(home.database, f"{NAME}@best")
    assert open_version(version, home.package_keys, home.package_cache).root_digest == version.root_digest
    assert version.location.startswith(settings.artifact_root)
    assert_goes_on(home, size + 1)


def assert_goes_on(home: Home, size: int) -> None:
    """A run, an MLflow run and a model version can be added to what was restored."""
    with home.database.unit_of_work() as uow:
        made = ArtifactRef(kind="model", digest="cd" * 32)
        identity = StepIdentity(run_id=RUN, pipeline="training", step="evaluate")
        record_event(uow, run_event("COMPLETE", identity, time="2026-11-22T20:43:57Z", outputs=[made]))
        assert uow.append("note.made", "note:2", {}) == size
    client = connect(home.settings.mlflow_tracking_uri, home.settings.artifact_root)
    experiment = ensure_experiment(client, "another", home.settings.artifact_root)
    client.log_metric(client.create_run(experiment).info.run_id, "loss", 1.0)
    client.create_model_version(NAME, source="/elsewhere", await_creation_for=0)
    sign_checkpoint(home.database, home.keys)
    assert verify_ledger(home.database, home.keys.log_public_key()).ok


def test_a_backup_of_sqlite_is_restored_to_sqlite(source: Home, backup: Backup, target: Settings) -> None:
    restored = restore(backup.file, target)
    assert (restored.header.engine, restored.engine) == ("sqlite", "sqlite")
    assert_same_home(source, target, restored)


@pytest.mark.slow
def test_a_backup_goes_to_postgresql_and_on_to_another_and_back(
    source: Home, backup: Backup, tmp_path: Path, postgres_url: str, postgres: Any
) -> None:
    first = settings_of(tmp_path / "first", postgres_url)
    restored = restore(backup.file, first)
    assert (restored.header.engine, restored.engine) == ("sqlite", "postgresql")
    home = Home.open(first)
    again = back_up(home, tmp_path / "again.tar")
    assert again.header.engine == "postgresql"
    assert_same_home(source, first, restored)
    other_url = postgres.create_database()
    try:
        for settings in (settings_of(tmp_path / "second", other_url), settings_of(tmp_path / "third")):
            restored = restore(again.file, settings)
            assert restored.header.ledger.size == again.header.ledger.size
            entries = list(iter_entries(Home.open(settings).database))
            assert [entry.action for entry in entries[-2:]] == ["ledger.restored", "ledger.restored"]
            assert entries[-1].details["engine_from"] == "postgresql"
            assert mlflow_view(settings) == mlflow_view(source.settings)
            version = find_version(Database.open(settings.database_url), f"{NAME}/1")
            assert open_version(version, home.package_keys, home.package_cache)
            assert_goes_on(Home.open(settings), again.header.ledger.size + 1)
    finally:
        postgres.drop_database(other_url)


def test_locations_lead_to_the_restored_files_and_records_stay(backup: Backup, target: Settings, source: Home) -> None:
    restore(backup.file, target)
    client = connect(target.mlflow_tracking_uri, target.artifact_root)
    experiment = client.get_experiment_by_name("training")
    run = client.search_runs([experiment.experiment_id])[0]
    version = client.get_model_version(NAME, "1")
    model = client.get_logged_model(version.tags["logged_model_id"])
    places = [experiment.artifact_location, run.info.artifact_uri, version.source, model.artifact_location]
    assert all(str(local_path(place)).startswith(target.artifact_root) for place in places), places
    with Database.open(target.database_url) as database, database.read() as connection:
        location = connection.execute(select(artifacts.c.location).where(artifacts.c.kind == "model")).scalar_one()
        record = connection.execute(select(steps.c.record)).scalar_one()
    assert location == str(target.home / "work" / "x" / "outputs" / "model")
    assert json.loads(record)["outputs"]["model"]["location"].startswith(str(source.path))


def test_private_keys_are_restored_for_their_owner_only(plain: Backup, target: Settings, plain_source: Home) -> None:
    restore(plain.file, target)
    for path in plain_source.keys.folder.rglob("*.pem"):
        restored = target.home / "keys" / path.relative_to(plain_source.keys.folder)
        assert restored.read_bytes() == path.read_bytes()
        assert stat.S_IMODE(restored.stat().st_mode) == (0o644 if path.parent.name == "public" else 0o600)
    assert stat.S_IMODE((target.home / "keys").stat().st_mode) == 0o700


def test_a_private_key_with_a_passphrase_is_in_a_backup_as_it_is(
    home: Home, tmp_path: Path, target: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter22")
    secret.chmod(0o600)
    admin = list_identities(home.database)[0].identity_id
    grace = create_identity(home.database, home.keys, name="Grace", role=Role.OPS, actor=admin, passphrase=b"hunter22")
    made = back_up(home, tmp_path / "b.tar")
    restore(made.file, target)  # nobody is asked for it
    assert b"hunter22" not in made.file.read_bytes()
    restored = Keys(target.home / "keys")
    assert restored.has_passphrase(grace.identity_id)
    monkeypatch.setenv("GROUNDSWELL_PASSPHRASE_FILE", str(secret))
    assert restored.person_private_key(grace.identity_id)


def test_a_home_whose_package_key_was_rotated_is_restored_with_the_keys_of_before(
    source: Home, tmp_path: Path, target: Settings
) -> None:
    made = back_up(source, tmp_path / "first.tar")
    restore(made.file, target)
    home = Home.open(target)
    admin = list_identities(home.database)[0].identity_id
    old = rotate_package_key(home.database, home.keys, actor=admin).key
    rotate_package_key(home.database, home.keys, actor=admin)
    made = back_up(home, tmp_path / "second.tar")
    again = settings_of(tmp_path / "again" / "home")
    restore(made.file, again)
    restored = Home.open(again)
    assert open_version(find_version(restored.database, f"{NAME}/1"), restored.package_keys, restored.package_cache)
    assert restored.keys.public_path(f"package-signing-{old.fingerprint[:16]}").read_text() == old.public_key_pem
    assert verify_ledger(restored.database, restored.keys.log_public_key()).ok
    rotate_package_key(restored.database, restored.keys, actor=admin)


def test_work_is_in_a_backup_on_demand(plain_source: Home, tmp_path: Path, target: Settings) -> None:
    made = back_up(plain_source, tmp_path / "b.tar", with_work=True)
    restore(made.file, target)
    assert (target.home / "work" / "x" / "outputs" / "model" / "weights").read_bytes() == b"w" * 3000
    assert not (target.home / "work" / "x" / "scratch").exists()


def test_a_backup_without_private_keys_needs_a_home_that_has_them(plain_source: Home, tmp_path: Path, target: Settings) -> None:
    made = back_up(plain_source, tmp_path / "b.tar", with_private_keys=False)
    assert b"PRIVATE KEY" not in made.file.read_bytes()
    with pytest.raises(RefusedError, match="no private keys"):
        restore(made.file, target)
    assert not target.home.exists()
    shutil.copytree(plain_source.keys.folder, target.home / "keys")
    restore(made.file, target)
    assert verify_ledger(Home.open(target).database, plain_source.keys.log_public_key()).ok


def test_packages_left_out_stay_where_they_are(source: Home, tmp_path: Path, target: Settings) -> None:
    made = back_up(source, tmp_path / "b.tar", with_packages=False)
    restore(made.file, target)
    version = find_version(Database.open(target.database_url), f"{NAME}/1")
    assert version.location == find_version(source.database, f"{NAME}/1").location
    assert open_version(version, source.package_keys, source.package_cache)


@pytest.mark.slow
def test_packages_and_pictures_go_to_an_object_store_and_back(
    backup: Backup, source: Home, s3_bucket: str, tmp_path: Path, target: Settings
) -> None:
    in_store = settings_of(tmp_path / "in-store", artifact_root=f"s3://{s3_bucket}/artifacts")
    restore(backup.file, in_store)
    home = Home.open(in_store)
    version = find_version(home.database, f"{NAME}/1")
    assert version.location.startswith(f"s3://{s3_bucket}/artifacts/")
    assert not (in_store.home / "mlartifacts").exists()
    client = connect(in_store.mlflow_tracking_uri, in_store.artifact_root)
    run_id = client.get_model_version(NAME, "1").run_id
    assert artifact_texts(client, run_id) == [("pictures/curve ä.txt", "a curve")]
    made = back_up(home, tmp_path / "b.tar")
    assert not made.header.has_artifacts
    restore(made.file, target)
    version = find_version(Database.open(target.database_url), f"{NAME}/1")
    assert version.location.startswith(target.artifact_root)
    assert open_version(version, source.package_keys, source.package_cache)


def test_a_home_that_is_there_is_refused_and_set_aside_on_demand(plain: Backup, target: Settings) -> None:
    home = grown(plain.file, target, 0)
    (target.home / "settings.toml").write_text('container_memory = "2g"\n')
    home.database.close()
    before = listing(target.home)
    with pytest.raises(RefusedError, match="is not empty") as caught:
        restore(plain.file, target)
    assert "--replace" in caught.value.hint
    assert listing(target.home) == before
    restored = restore(plain.file, target, replace=True)
    assert restored.replaced is not None
    assert restored.replaced.name.startswith("home.replaced-")
    assert listing(restored.replaced) == before
    assert (target.home / "settings.toml").read_text() == 'container_memory = "2g"\n'
    assert sorted(path.name for path in target.home.parent.iterdir()) == ["home", restored.replaced.name]
    assert verify_ledger(Home.open(target).database, home.keys.log_public_key()).ok


def test_who_restores_is_in_the_entry(plain: Backup, target: Settings, plain_source: Home, refused: Any) -> None:
    refused(plain.file, RefusedError, "no identity", identity="Nobody")
    restore(plain.file, target, identity="Grace")
    entry = list(iter_entries(Database.open(target.database_url)))[-1]
    assert entry.actor == list_identities(plain_source.database)[1].identity_id


@pytest.mark.parametrize("word", ["the file", "rows of gs_runs", "keys/log", "verifying the ledger"])
@pytest.mark.parametrize("replaces", [False, True])
def test_an_interrupted_restore_leaves_everything_as_it_was(plain: Backup, target: Settings, word: str, replaces: bool) -> None:
    if replaces:
        grown(plain.file, target, 0).database.close()
    before = listing(target.home.parent) if replaces else {}
    with pytest.raises(KeyboardInterrupt):
        restore_backup(target, plain.file, options=RestoreOptions(replace=replaces), progress=interrupt_at(word))
    assert listing(target.home.parent) == before
    assert target.home.exists() == replaces


def test_files_put_into_place_are_taken_back_if_what_follows_fails(tmp_path: Path) -> None:
    base = tmp_path / "home"
    base.mkdir()
    (base / "old").write_bytes(b"old")

    def place_and_fail(staging: Staging) -> None:
        with staging.placed():
            assert listing(base) == {"keys/a": b"new"}
            raise ValueError("the commit fails")

    with Staging.open() as staging:
        staging.folder(base, beside=True)
        staging.write(base, base / "keys" / "a", [b"new"])
        staging.set_aside(base, tmp_path / "aside")
        with pytest.raises(ValueError, match="the commit fails"):
            place_and_fail(staging)
        assert listing(base) == {"old": b"old"}
    assert listing(tmp_path) == {"home/old": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("word", ["keys/log", "verifying the ledger"])
def test_a_restore_that_was_killed_can_be_done_again(plain: Backup, tmp_path: Path, database_url: str, word: str) -> None:
    settings = settings_of(tmp_path / "home", database_url)
    program = f"""
import os, signal
from pathlib import Path
from infra.backup.restore import RestoreOptions, restore_backup
from tests.backups import settings_of
def progress(done, total, description):
    if {word!r} in description:
        os.kill(os.getpid(), signal.SIGKILL)
settings = settings_of(Path({str(settings.home)!r}), {database_url!r})
restore_backup(settings, Path({str(plain.file)!r}), options=RestoreOptions(), progress=progress)
"""
    killed = subprocess.run([sys.executable, "-"], input=program, text=True, check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    restore(plain.file, settings)
    assert not list(settings.home.glob(".restore-*"))
    assert verify_ledger(Home.open(settings).database, Keys(settings.home / "keys").log_public_key()).ok


def test_a_database_and_artifacts_outside_the_home_are_restored_and_set_aside_too(backup: Backup, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    url = f"sqlite:///{elsewhere / 'records.db'}"
    settings = settings_of(tmp_path / "home", url, f"file://{tmp_path / 'artifacts'}")
    Database.open(url).close()  # empty tables are no reason to refuse
    restore(backup.file, settings)
    home = Home.open(settings)
    version = find_version(home.database, f"{NAME}/1")
    assert version.location.startswith(str(tmp_path / "artifacts"))
    assert open_version(version, home.package_keys, home.package_cache)
    sign_checkpoint(home.database, home.keys)
    home.database.close()
    before = (elsewhere / "records.db").read_bytes()
    restored = restore(backup.file, settings, replace=True, allow_older=True)
    assert restored.replaced is not None
    (aside,) = [path for path in elsewhere.iterdir() if ".replaced-" in path.name]
    assert aside.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifacts", "elsewhere", "home", restored.replaced.name]
    assert verify_ledger(Home.open(settings).database, home.keys.log_public_key()).ok


def test_keys_that_a_backup_lacks_are_kept_when_a_home_is_replaced(plain_source: Home, tmp_path: Path, target: Settings) -> None:
    made = back_up(plain_source, tmp_path / "b.tar", with_private_keys=False)
    shutil.copytree(plain_source.keys.folder, target.home / "keys")
    home = grown(made.file, target, 0)
    admin = list_identities(home.database)[0].identity_id
    later = create_identity(home.database, home.keys, name="Later", role=Role.OPS, actor=admin)
    home.database.close()
    before = listing(target.home / "keys")
    restore(made.file, target, replace=True)
    assert listing(target.home / "keys") == before
    assert stat.S_IMODE((target.home / "keys" / f"{later.identity_id}.pem").stat().st_mode) == 0o600
    assert Home.open(target).keys.log_private_key()
