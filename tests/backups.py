"""Homes with real records, their backups, and what restored ones are compared with."""

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from governance.errors import GovernanceError
from governance.identity import Role
from governance.lineage import ArtifactRef, StepIdentity, run_event
from infra.backup.archive import TarReader, writing
from infra.backup.create import Backup, BackupOptions, create_backup
from infra.backup.restore import Restored, RestoreOptions, restore_backup
from infra.backup.rows import reflect_tables, row_lines
from infra.database import Database
from infra.home import Home
from infra.identities import create_identity, list_identities
from infra.ledger import sign_checkpoint
from infra.lineage import record_event
from infra.mlflow_client import connect, ensure_experiment
from infra.mlflow_registry import MlflowRegistry
from infra.run_records import begin_run, end_run
from infra.settings import Settings
from infra.tables import artifacts, steps
from tests.infra.package_inputs import NAME, make_package

RUN = "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11"
METRICS = {"kid": 0.0731, "tiny": 5e-324, "huge": 1.7e308, "negative": -0.0, "third": 1 / 3}
PROMPT = "ein Bär\u2028\U0001f43b \x1b[31m\"'\\"


def silent(done: int, total: int, description: str) -> None:
    assert done <= total, description


def settings_of(home: Path, database_url: str = "", artifact_root: str = "") -> Settings:
    url = database_url or f"sqlite:///{home / 'groundswell.db'}"
    return Settings(
        home=home, database_url=url, mlflow_tracking_uri=url, artifact_root=artifact_root or str(home / "mlartifacts")
    )


def back_up(home: Home, file: Path, **options: bool) -> Backup:
    return create_backup(home, file, version="1.2.3", options=BackupOptions(**options), progress=silent)


def restore(file: Path, settings: Settings, **options: Any) -> Restored:
    return restore_backup(settings, file, options=RestoreOptions(**options), progress=silent)


def fill(home: Home) -> None:
    """Records a person, a run with a step, an artifact, lineage and a prompt; makes work and a report."""
    admin = list_identities(home.database)[0].identity_id
    create_identity(home.database, home.keys, name="Grace", role=Role.OPS, actor=admin)
    params = {"rate": 0.001, "data": {"source": "openmoji"}}
    begin_run(home, run_id=RUN, pipeline="training", runner="subprocess", params=params, actor="system")
    made = ArtifactRef(kind="model", digest="ab" * 32)
    identity = StepIdentity(run_id=RUN, pipeline="training", step="train_dit")
    outputs = home.work / "x" / "outputs" / "model"
    with home.database.unit_of_work() as uow:
        row = {"run_id": RUN, "step": "train_dit", "status": "completed", "fingerprint": "fe" * 32, "started": uow.time}
        record = json.dumps({"outputs": {"model": {"location": str(outputs)}}})
        uow.connection.execute(insert(steps).values(**row, record=record, work_s=0.1 + 0.2))
        uow.append("step.completed", f"step:{RUN}/train_dit", {"outputs": {"model": made.subject}}, run_id=RUN)
        values = {"digest": made.digest, "kind": "model", "location": str(outputs), "facts": "{}", "created": uow.time}
        uow.connection.execute(insert(artifacts).values(**values))
        record_event(uow, run_event("COMPLETE", identity, time="2026-11-22T20:43:57Z", outputs=[made]))
        for number in range(600):  # more than fit onto a page
            uow.append("note.made", f"note:{number}", {"prompt": uow.commit_to(PROMPT)} if number == 0 else {})
    end_run(home, run_id=RUN, status="completed", wall_s=1.5)
    outputs.mkdir(parents=True)
    (outputs / "weights").write_bytes(b"w" * 3000)
    (home.work / "x" / "scratch").mkdir()
    (home.work / "x" / "scratch" / "checkpoint").write_bytes(b"c")
    home.reports.mkdir()
    (home.reports / f"{RUN}.html").write_text("<html>")
    sign_checkpoint(home.database, home.keys)


def fill_mlflow(home: Home, package: Path) -> None:
    """Makes an MLflow run with all that is odd, and registers a package."""
    client = connect(home.settings.mlflow_tracking_uri, home.settings.artifact_root)
    experiment = ensure_experiment(client, "training", home.settings.artifact_root)
    run_id = client.create_run(experiment, run_name="first", tags={"note": PROMPT}).info.run_id
    client.log_param(run_id, "rate", "1e-3")
    for step in range(3):
        client.log_metric(run_id, "loss", 1 / (step + 1), step=step)
    client.log_metric(run_id, "broken", math.nan)
    client.log_metric(run_id, "endless", math.inf)
    client.log_text(run_id, "a curve", "pictures/curve ä.txt")
    client.set_terminated(run_id)
    settings = home.settings
    registry = MlflowRegistry(
        home.database,
        settings.mlflow_tracking_uri,
        settings.artifact_root,
        home.package_signing_key,
        "system",
        RUN,
        lambda: str(run_id),
    )
    registry.register(package, name=NAME, metrics=METRICS, inputs={"model": "ab" * 32})
    client.set_registered_model_alias(NAME, "best", "1")


@pytest.fixture(scope="session")
def source(home_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a bit of everything; only looked at, never changed."""
    folder = tmp_path_factory.mktemp("source") / "home of ours"
    shutil.copytree(home_template, folder)
    home = Home.open(settings_of(folder))
    fill(home)
    fill_mlflow(home, make_package(tmp_path_factory.mktemp("package")))
    (folder / "settings.toml").write_text(
        'mlflow_tracking_uri = "http://me:hunter22@127.0.0.1:5000"\n[environment]\n'
        'AWS_SECRET_ACCESS_KEY = "canary-secret"\nAWS_DEFAULT_REGION = "eu-1"\n'
    )
    (folder / "settings.toml").chmod(0o600)
    sign_checkpoint(home.database, home.keys)
    return home


@pytest.fixture(scope="session")
def backup(source: Home, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    return back_up(source, tmp_path_factory.mktemp("backup") / "backup.tar")


@pytest.fixture(scope="session")
def plain_source(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home without MLflow's tables, which take seconds to make; only looked at, never changed."""
    home = Home.open(settings_of(tmp_path_factory.mktemp("plain") / "home"))
    fill(home)
    return home


@pytest.fixture(scope="session")
def plain(plain_source: Home, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    return back_up(plain_source, tmp_path_factory.mktemp("backup") / "plain.tar")


@pytest.fixture
def target(tmp_path: Path) -> Settings:
    """Where nothing is yet."""
    return settings_of(tmp_path / "restored" / "home")


def rows_of(database: Database, *, without: Iterable[str] = ()) -> dict[str, list[bytes]]:
    """Every row of every table."""
    with database.read() as connection:
        tables = reflect_tables(connection)
        return {name: sorted(row_lines(connection, table)) for name, table in tables.items() if name not in without}


def rebuilt(backup: Path, target: Path, changes: dict[str, Callable[[bytes], bytes]]) -> Path:
    """Writes a backup anew with changed members and the digests that fit to them."""
    with TarReader.open(backup) as reader, writing(target) as tar:
        assert changes.keys() <= set(reader.names)
        for name in reader.names:
            content = b"".join(reader.blocks(name))
            tar.add_bytes(name, changes[name](content) if name in changes else content)
    return target


def grown(backup: Path, settings: Settings, count: int) -> Home:
    """Restores a backup, and lets its ledger grow."""
    restore(backup, settings)
    home = Home.open(settings)
    with home.database.unit_of_work() as uow:
        for number in range(count):
            uow.append("note.made", f"note:{number}", {})
    return home


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def interrupt_at(word: str) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, description: str) -> None:
        if word in description:
            raise KeyboardInterrupt

    return progress


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def assert_nothing_restored(target: Settings) -> None:
    assert not target.home.exists()
    assert [path.name for path in target.home.parent.glob("*")] == []


@pytest.fixture
def refused(target: Settings) -> Callable[..., GovernanceError]:
    """Restores what has to be refused, and returns why."""
    target.home.parent.mkdir()

    def call(file: Path, kind: type[GovernanceError], match: str | None = None, **options: Any) -> GovernanceError:
        with pytest.raises(kind, match=match) as caught:
            restore(file, target, **options)
        assert "\n" not in caught.value.diagnosis
        assert_nothing_restored(target)
        return caught.value

    return call
