"""The whole spine on PostgreSQL, an MLflow server and an S3 server."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.home import Home
from infra.ledger_verification import verify_ledger
from infra.model_versions import find_version, list_versions
from infra.runs import StepRow, get_run, get_steps
from infra.settings import Settings
from pipelines.graph import PIPELINES
from tests.canary import assert_no_secret
from tests.pipelines.calling import Called, call, checkpoints, finish, run_training, running, wait_for
from tests.pipelines.conftest import Trained
from tests.servers import PASSWORD, PostgresServer, postgres_server
from tests.servers_mlflow import MlflowServer, serve_mlflow
from tests.servers_s3 import S3Server, serve_s3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TRAINING = PIPELINES["training"]
AGAIN = ("train_dit", "evaluate", "register_model")


@dataclass
class Backends:
    """Three servers of one team."""

    postgres: PostgresServer
    database_url: str
    mlflow: MlflowServer
    s3: S3Server
    bucket: str
    more: dict[str, str] = field(default_factory=dict)

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            "GROUNDSWELL_DATABASE_URL": self.database_url,
            "GROUNDSWELL_MLFLOW_URI": self.mlflow.url,
            "GROUNDSWELL_ARTIFACT_ROOT": f"s3://{self.bucket}/groundswell",
            **self.s3.environment(),
            **changes,
        }


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    folder = tmp_path_factory.mktemp("servers")
    with postgres_server() as postgres, serve_s3(folder) as s3:
        url, bucket = postgres.create_database(), s3.make_bucket()
        with serve_mlflow(url, f"s3://{bucket}/mlflow", folder, environment=s3.environment()) as mlflow:
            yield Backends(postgres=postgres, database_url=url, mlflow=mlflow, s3=s3, bucket=bucket)


@pytest.fixture(scope="module")
def spine(backends: Backends, training_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Called]:
    """The training pipeline, run on them in a home of its own."""
    home = tmp_path_factory.mktemp("production") / "home"
    called = run_training(home, training_settings, **backends.environment())
    assert called.exit_code == 0, called.stdout + called.stderr
    return home, called


@pytest.fixture
def opened(spine: tuple[Path, Called], backends: Backends, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name, value in backends.environment().items():
        monkeypatch.setenv(name, value)
    return Home.open(Settings.load(spine[0]), create=False)


def steps_of(home: Home, run_id: str) -> dict[str, StepRow]:
    with home.database.read() as connection:
        return {step.step: step for step in get_steps(connection, run_id)}


def test_the_same_work_gives_the_same_package(opened: Home, spine: tuple[Path, Called], trained: Trained) -> None:
    mine, theirs = steps_of(opened, spine[1].document["run_id"]), steps_of(trained.home, trained.run_id)
    for step in TRAINING:
        assert mine[step].fingerprint == theirs[step].fingerprint
    for step in ("encode_latents", "train_dit", "evaluate", "register_model"):
        for name, output in theirs[step].record["outputs"].items():
            assert mine[step].record["outputs"][name]["digest"] == output["digest"], (step, name)
    found = find_version(opened.database, spine[1].document["model_version"])
    assert found.root_digest == find_version(trained.home.database, trained.document["model_version"]).root_digest
    assert found.location.startswith("s3://")


def test_the_record_verifies(opened: Home, spine: tuple[Path, Called], backends: Backends) -> None:
    assert verify_ledger(opened.database, opened.keys.log_public_key()).problems == ()
    verified = call(spine[0], "audit", "verify", **backends.environment())
    assert verified.exit_code == 0, verified.stderr


def test_a_package_is_fetched_verified_and_used_elsewhere(spine: tuple[Path, Called], backends: Backends, tmp_path: Path) -> None:
    home, called = spine
    version = called.document["model_version"]
    shown = call(home, "models", "show", version, **backends.environment())
    assert shown.exit_code == 0, shown.stderr
    made = call(home, "--json", "generate", version, "--label", "cat", "-n", 2, "--out", tmp_path, **backends.environment())
    assert made.exit_code == 0, made.stderr
    picture = made.document["files"][0]["path"]
    page = tmp_path / "lineage.html"
    traced = call(home, "lineage", picture, "-o", page, **backends.environment())
    assert traced.exit_code == 0, traced.stderr
    assert "OpenMoji" in page.read_text(encoding="utf-8") or "dataset" in page.read_text(encoding="utf-8")


def test_a_changed_object_is_refused(opened: Home, spine: tuple[Path, Called], backends: Backends) -> None:
    home, called = spine
    client = backends.s3.client()
    location = find_version(opened.database, called.document["model_version"]).location
    key = f"{location.removeprefix(f's3://{backends.bucket}/')}/transformer.safetensors"
    before = client.get_object(Bucket=backends.bucket, Key=key)
    content, metadata = before["Body"].read(), before["Metadata"]
    changed = content[:-1] + bytes([content[-1] ^ 1])
    for path in home.glob("cache/**/transformer.safetensors"):
        path.unlink()
    client.put_object(Bucket=backends.bucket, Key=key, Body=changed, Metadata=metadata)
    try:
        shown = call(home, "models", "show", called.document["model_version"], **backends.environment())
        assert shown.exit_code == 4, shown.stdout + shown.stderr
        assert "transformer.safetensors" in shown.stderr
    finally:
        client.put_object(Bucket=backends.bucket, Key=key, Body=content, Metadata=metadata)


def test_mlflow_has_the_version_and_its_figures(opened: Home, spine: tuple[Path, Called], backends: Backends) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=backends.mlflow.url, registry_uri=backends.mlflow.url)
    name, _, number = spine[1].document["model_version"].partition("/")
    version = client.get_model_version(name, number)
    assert version.tags["root_digest"] == find_version(opened.database, f"{name}/{number}").root_digest
    assert version.source.startswith(f"s3://{backends.bucket}/")
    with opened.database.read() as connection:
        row = get_run(connection, spine[1].document["run_id"])
    assert row.mlflow_run_id is not None
    assert client.get_run(row.mlflow_run_id).data.metrics["kid"] == pytest.approx(spine[1].document["metrics"]["kid"])


def test_no_secret_is_anywhere(spine: tuple[Path, Called], backends: Backends, tmp_path: Path) -> None:
    home, called = spine
    secrets = (PASSWORD, PASSWORD.replace("%", "%25").replace("@", "%40").replace("/", "%2F"), backends.s3.secret_key)
    dumped = tmp_path / "database"
    dumped.mkdir()
    (dumped / "dump.sql").write_bytes(_dump(backends))
    (dumped / "said").write_text(called.stdout + called.stderr)
    for secret in secrets:
        assert_no_secret(home, secret)
        assert_no_secret(dumped, secret)
    for key in backends.s3.keys(backends.bucket):
        body = backends.s3.client().get_object(Bucket=backends.bucket, Key=key)["Body"].read()
        assert not any(secret.encode() in body for secret in secrets), key


def _dump(backends: Backends) -> bytes:
    with backends.postgres.connect(backends.database_url) as connection:
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        rows = [connection.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables]
    assert any(rows)
    return repr(rows).encode()


def change_parameters(settings: list[str], seed: int) -> list[str]:
    return [*settings, f"train_dit.seed={seed}"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": ""}, ""),
    ],
    ids=["no credential"],
)
def test_a_store_that_refuses_leaves_nothing_registered(
    spine: tuple[Path, Called], backends: Backends, opened: Home, training_settings: list[str], changes: dict[str, str], said: str
) -> None:
    home, _ = spine
    before = list_versions(opened.database)
    settings = change_parameters(training_settings, 5)
    called = run_training(home, settings, **backends.environment(**changes))
    assert called.exit_code == 6, called.stdout + called.stderr
    assert said in called.stderr
    assert called.stderr.count("error:") == 1
    assert list_versions(opened.database) == before
    again = run_training(home, settings, **backends.environment())
    assert again.exit_code == 0, again.stderr


def test_a_dead_mlflow_server_fails_the_run_and_the_next_one_completes(
    spine: tuple[Path, Called], backends: Backends, opened: Home, training_settings: list[str]
) -> None:
    home, _ = spine
    before = list_versions(opened.database)
    settings = change_parameters(training_settings, 6)
    backends.mlflow.stop()
    try:
        called = run_training(home, settings, **backends.environment())
    finally:
        backends.mlflow.start()
    assert called.exit_code == 6, called.stdout + called.stderr
    assert "MLflow" in called.stderr
    assert called.stderr.count("error:") == 1
    assert list_versions(opened.database) == before
    again = run_training(home, settings, **backends.environment())
    assert again.exit_code == 0, again.stderr
    assert len(list_versions(opened.database)) == len(before) + 1


def test_a_database_that_goes_away_during_a_run(
    spine: tuple[Path, Called], backends: Backends, opened: Home, training_settings: list[str]
) -> None:
    home, _ = spine
    settings = change_parameters(training_settings, 7)
    opened.database.close()
    with running(home, settings, **backends.environment()) as process:
        wait_for(lambda: checkpoints(home), "a checkpoint", process=process)
        backends.postgres.stop(crash=True)
        try:
            called = finish(process)
        finally:
            backends.postgres.start()
    assert called.exit_code == 6, called.stdout + called.stderr
    assert called.stderr.count("error:") == 1
    assert PASSWORD not in called.stderr
    again = run_training(home, settings, **backends.environment())
    assert again.exit_code == 0, again.stderr
    with opened.database.read() as connection:
        statuses = {row.status for row in _runs(connection)}
    assert statuses <= {"completed", "failed"}  # the one that lost its database was ended by the next
    assert verify_ledger(opened.database, opened.keys.log_public_key()).problems == ()


def _runs(connection: Any) -> list[Any]:
    from infra.runs import list_runs

    return list_runs(connection, 20)


def test_a_database_that_is_not_there_is_told_in_one_line(spine: tuple[Path, Called], backends: Backends) -> None:
    url = backends.database_url.replace(f":{backends.postgres.port}/", ":1/")
    called = call(spine[0], "audit", "log", **backends.environment(GROUNDSWELL_DATABASE_URL=url))
    assert called.exit_code == 6
    assert PASSWORD not in called.stderr
    assert "Traceback" not in called.stderr
