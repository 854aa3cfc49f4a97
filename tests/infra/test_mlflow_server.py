"""An MLflow server before the database and an S3 server for artifacts: registering, tracking, and what if one is gone."""

import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from governance.errors import IntegrityError
from governance.package_layout import SIGNATURE
from infra import mlflow_registry
from infra.database import Database
from infra.errors import BackendUnavailableError, BadSettingError
from infra.mlflow_client import connect, ensure_experiment
from infra.mlflow_registry import MlflowRegistry, find_version, open_version, reconcile
from infra.mlflow_tracking import MlflowTracking
from infra.model_package import package_root_digest
from infra.package_keys import PackageKeys
from infra.tables import artifacts, ledger_entries, model_versions
from tests.answering import answering
from tests.canary import assert_no_secret
from tests.infra.package_inputs import copy_home_with_schema, make_package, package_keys, write_key
from tests.servers_mlflow import MlflowServer, ServeMlflow
from tests.servers_s3 import Relay, S3Server, free_port

METRICS = {"kid": 0.0731}
INPUTS = {"dataset": "da" * 32}
# A server takes seconds to start again, and what it does meanwhile depends on no database.
on_one_database = pytest.mark.parametrize("running", ["postgresql"], indirect=True)


@dataclass
class Backend:
    """A database with an MLflow server before it, and a model's name of the test's own."""

    server: MlflowServer
    db: Database
    root: str
    private: Path
    public: PackageKeys
    cache: Path
    name: str = field(default_factory=lambda: f"model-{uuid.uuid4().hex[:8]}")

    def register(self, package: Path, *, mlflow_run_id: str | None = None) -> Any:
        registry = MlflowRegistry(self.db, self.server.url, self.root, self.private, "alice", "run-1", lambda: mlflow_run_id)
        return registry.register(package, name=self.name, metrics=METRICS, inputs=INPUTS)

    def client(self) -> Any:
        return connect(self.server.url, self.root)

    def versions(self) -> list[Any]:
        return list(self.client().search_model_versions(f"name = '{self.name}'"))

    def models(self) -> list[Any]:
        client = self.client()
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_logged_models(experiments, filter_string=f"name = '{self.name}'"))

    def rows(self) -> list[Any]:
        with self.db.read() as connection:
            return list(connection.execute(select(model_versions).where(model_versions.c.name == self.name)))

    def make_run(self) -> str:
        client = self.client()
        return str(client.create_run(ensure_experiment(client, "training", self.root)).info.run_id)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_servers: ServeMlflow,
    s3_server: S3Server,
) -> Iterator[tuple[MlflowServer, Database, str]]:
    folder = tmp_path_factory.mktemp("backend")
    if request.param == "sqlite":
        copy_home_with_schema(folder)
        url = f"sqlite:///{folder / 'groundswell.db'}"
    else:
        template = request.getfixturevalue("postgres_home_template")
        url = request.getfixturevalue("postgres").create_database(template=template)
    root = f"s3://{s3_server.make_bucket()}/mlflow"
    server = mlflow_servers(url, root, environment=s3_server.environment())
    with Database.open(url) as db:
        yield server, db, root
    server.stop()


@pytest.fixture
def backend(running: tuple[MlflowServer, Database, str], s3_environment: S3Server, tmp_path: Path) -> Backend:
    server, db, root = running
    if not server.is_running:
        server.start()
    private, public = write_key(tmp_path / "keys")
    return Backend(server=server, db=db, root=root, private=private, public=package_keys(public), cache=tmp_path / "cache")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path / "made")


def flip_object(s3: S3Server, location: str, name: str) -> None:
    """Changes an object's last byte, and keeps the digest that it carries."""
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    client, key = s3.client(), f"{prefix}/{name}"
    found = client.get_object(Bucket=bucket, Key=key)
    data = bytearray(found["Body"].read())
    data[-1] ^= 1
    client.put_object(Bucket=bucket, Key=key, Body=bytes(data), Metadata=found["Metadata"])


def test_package_is_stored_on_s3_and_opens_from_there(
    backend: Backend, package: Path, s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = backend.make_run()
    registered = backend.register(package, mlflow_run_id=run_id)
    assert (registered.version, registered.root_digest) == (1, package_root_digest(package))
    version = find_version(backend.db, f"{backend.name}/1")
    assert version.location.startswith(f"{backend.root}/training/")
    with backend.db.read() as connection:
        artifact = connection.execute(select(artifacts).where(artifacts.c.digest == registered.root_digest)).first()
        entries = connection.execute(select(ledger_entries).where(ledger_entries.c.subject == version.subject)).all()
    assert artifact is not None
    assert len(entries) == 1
    [theirs] = backend.versions()
    assert (theirs.source, theirs.run_id, theirs.tags["root_digest"]) == (version.location, run_id, registered.root_digest)
    model = backend.client().get_logged_model(version.mlflow_model_id)
    assert str(model.status) == "READY"
    assert {metric.key: metric.value for metric in model.metrics} == METRICS
    shutil.rmtree(package)
    opened = open_version(version, backend.public, backend.cache)
    assert opened.folder == backend.cache / registered.root_digest
    assert opened.read_bytes("config.json")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert open_version(version, backend.public, backend.cache).root_digest == registered.root_digest
    assert_no_secret(backend.cache, s3_environment.secret_key)


def test_same_package_keeps_its_version(backend: Backend, package: Path) -> None:
    assert backend.register(package).version == backend.register(package).version == 1
    assert len(backend.versions()) == len(backend.models()) == len(backend.rows()) == 1


@pytest.mark.parametrize("name", ["transformer.safetensors", SIGNATURE])
def test_tampered_object_is_named(backend: Backend, package: Path, s3_environment: S3Server, name: str) -> None:
    backend.register(package)
    version = find_version(backend.db, f"{backend.name}/1")
    flip_object(s3_environment, version.location, name)
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        open_version(version, backend.public, backend.cache)
    assert not (backend.cache / version.root_digest).exists()
    if name != SIGNATURE:
        with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
            backend.register(package)


def test_foreign_object_in_the_store_is_named(backend: Backend, package: Path, s3_environment: S3Server, tmp_path: Path) -> None:
    from infra.objects.store import put_tree

    backend.register(package)
    version = find_version(backend.db, f"{backend.name}/1")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "evil.pkl").write_bytes(b"cos\nsystem\n")
    put_tree(tmp_path / "more", version.location)
    for harmed in (lambda: open_version(version, backend.public, backend.cache), lambda: backend.register(package)):
        with pytest.raises(IntegrityError, match=r"evil\.pkl"):
            harmed()


def test_damaged_cache_is_fetched_anew(backend: Backend, package: Path, s3_environment: S3Server) -> None:
    backend.register(package)
    version = find_version(backend.db, f"{backend.name}/1")
    weights = open_version(version, backend.public, backend.cache).folder / "transformer.safetensors"
    whole = weights.read_bytes()
    harmed = whole[:-1] + bytes([whole[-1] ^ 1])
    weights.write_bytes(harmed)
    assert open_version(version, backend.public, backend.cache).read_bytes("transformer.safetensors") == whole
    weights.write_bytes(harmed)
    flip_object(s3_environment, version.location, "transformer.safetensors")
    with pytest.raises(IntegrityError, match=r"transformer\.safetensors"):
        open_version(version, backend.public, backend.cache)
    assert not weights.exists()


def test_upload_that_broke_off_leaves_no_version_and_is_taken_up(backend: Backend, package: Path, s3_relay: Relay) -> None:
    (package / "evaluation" / "noise.png").write_bytes(uuid.uuid4().bytes * 20_000)
    s3_relay.cut_up_after = 200_000
    with pytest.raises(BackendUnavailableError, match="artifact store"):
        backend.register(package)
    assert backend.versions() == backend.rows() == []
    [pending] = backend.models()
    s3_relay.reset()
    assert backend.register(package).version == 1
    [model] = backend.models()
    assert model.model_id == pending.model_id
    assert reconcile(backend.db).vanished == ()


@pytest.mark.parametrize("where", ["create_model_version", "finalize_logged_model", "log_outputs"])
def test_attempt_that_died_within_mlflow_is_taken_up(
    backend: Backend, package: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from mlflow.tracking import MlflowClient

    def die(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    run_id = backend.make_run()
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, where, die)
        with pytest.raises(KeyboardInterrupt):
            backend.register(package, mlflow_run_id=run_id)
    assert backend.versions() == backend.rows() == []
    assert backend.register(package, mlflow_run_id=run_id).version == 1
    assert len(backend.versions()) == len(backend.models()) == 1


def test_attempt_that_died_before_our_row_is_taken_up(backend: Backend, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: object, **kwargs: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowRegistry, "_record", die)
        with pytest.raises(KeyboardInterrupt):
            backend.register(package)
    assert f"{backend.name}/1" in reconcile(backend.db).unrecorded
    with pytest.raises(IntegrityError, match="never registered"):
        find_version(backend.db, f"{backend.name}/1")
    assert backend.register(package).version == 1
    assert len(backend.versions()) == len(backend.models()) == 1
    assert f"{backend.name}/1" not in reconcile(backend.db).unrecorded


def test_missing_bucket_is_told_before_mlflow_has_a_version(backend: Backend, package: Path) -> None:
    client = backend.client()
    experiment_id = ensure_experiment(client, f"no-bucket-{backend.name}", "s3://no-such-bucket-there/x")
    run_id = client.create_run(experiment_id).info.run_id
    with pytest.raises(BackendUnavailableError, match=r"s3://no-such-bucket-there.*no such bucket"):
        backend.register(package, mlflow_run_id=run_id)
    assert backend.versions() == backend.rows() == []


def test_experiment_whose_artifacts_are_behind_the_server_is_told_before_anything_is_made(
    backend: Backend, package: Path
) -> None:
    client = backend.client()
    experiment_id = client.create_experiment(f"proxied-{backend.name}", artifact_location="mlflow-artifacts:/1")
    run_id = client.create_run(experiment_id).info.run_id
    with pytest.raises(BadSettingError, match="mlflow-artifacts"):
        backend.register(package, mlflow_run_id=run_id)
    assert backend.versions() == backend.models() == backend.rows() == []


@on_one_database
def test_server_that_is_gone_before_registering_is_told_soon_and_taken_up(backend: Backend, package: Path) -> None:
    backend.server.stop()
    began = time.monotonic()
    with pytest.raises(
        BackendUnavailableError, match=r"MLflow at http://127\.0\.0\.1:\d+ does not work: it cannot be reached"
    ) as caught:
        backend.register(package)
    assert time.monotonic() - began < 30
    assert "\n" not in caught.value.diagnosis
    assert backend.rows() == []
    backend.server.start()
    assert backend.register(package).version == 1


@on_one_database
def test_server_that_goes_while_a_package_is_stored_is_told_and_taken_up(
    backend: Backend, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_and_stop(folder: Path, location: str) -> None:
        put_tree(folder, location)
        backend.server.stop()

    put_tree = mlflow_registry.put_tree
    with monkeypatch.context() as patched:
        patched.setattr(mlflow_registry, "put_tree", put_and_stop)
        with pytest.raises(BackendUnavailableError, match="cannot be reached"):
            backend.register(package)
    assert backend.rows() == []
    backend.server.start()
    assert backend.versions() == []
    assert backend.register(package).version == 1
    assert len(backend.models()) == 1


def make_tracking(backend: Backend) -> MlflowTracking:
    return MlflowTracking(backend.server.url, backend.root, "training", "train_dit", None, {})


def test_tracked_files_go_to_s3_and_mlflow_finds_them(backend: Backend, tmp_path: Path, s3_environment: S3Server) -> None:
    (tmp_path / "curve.png").write_bytes(b"png")
    (tmp_path / "report" / "css").mkdir(parents=True)
    (tmp_path / "report" / "index.html").write_text("<html>")
    (tmp_path / "report" / "css" / "a b.css").write_text("")
    tracking = make_tracking(backend)
    tracking.start()
    tracking.log_params({"rate": 0.1})
    tracking.log_metrics({"loss": 0.5}, step=3)
    tracking.log_artifact(tmp_path / "curve.png", folder="pictures")
    tracking.log_artifact(tmp_path / "report")
    run_id = tracking.finish("FINISHED")
    run = backend.client().get_run(run_id)
    assert (run.info.status, run.data.params, run.data.metrics) == ("FINISHED", {"rate": "0.1"}, {"loss": 0.5})
    bucket, _, prefix = run.info.artifact_uri.removeprefix("s3://").partition("/")
    names = {key.removeprefix(f"{prefix}/") for key in s3_environment.keys(bucket) if key.startswith(prefix)}
    assert names == {"pictures/curve.png", "report/index.html", "report/css/a b.css"}
    assert [file.path for file in backend.client().list_artifacts(run_id, "pictures")] == ["pictures/curve.png"]


@on_one_database
def test_server_that_restarts_during_a_run_costs_it_nothing(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "curve.png").write_bytes(b"png")
    tracking = make_tracking(backend)
    tracking.start()
    assert tracking.run_id() is not None
    backend.server.stop()
    tracking.log_metrics({"loss": 0.5}, step=1)
    tracking.log_artifact(tmp_path / "curve.png")
    time.sleep(2)
    backend.server.start()
    run_id = tracking.finish("FINISHED")
    run = backend.client().get_run(run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert [file.path for file in backend.client().list_artifacts(run_id)] == ["curve.png"]


@on_one_database
def test_server_that_stays_away_is_told_at_the_end(backend: Backend) -> None:
    tracking = make_tracking(backend)
    tracking.start()
    assert tracking.run_id() is not None
    backend.server.stop()
    tracking.log_metrics({"loss": 0.5}, step=1)
    began = time.monotonic()
    with pytest.raises(BackendUnavailableError, match="cannot be reached"):
        tracking.finish("FINISHED")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(("status", "said"), [(401, "refuses the credentials"), (403, "do not allow"), (503, "errors only")])
def test_refusal_of_a_server_is_told_in_one_line(status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "someone")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary-password-55")
    with answering(lambda handler: handler.reply(status)) as url:
        tracking = MlflowTracking(url, str(tmp_path), "training", "train_dit", None, {})
        tracking.start()
        with pytest.raises(BackendUnavailableError, match=said) as caught:
            tracking.finish("FINISHED")
    assert "\n" not in caught.value.diagnosis
    assert "canary-password-55" not in f"{caught.value.diagnosis} {caught.value.hint}"
