"""MLflow's tables and ours in one PostgreSQL database, with and without an MLflow server before it."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from governance.errors import IntegrityError, UnknownSubjectError
from infra.database import Database
from infra.errors import BackendUnavailableError
from infra.home import Home
from infra.mlflow_client import connect, initialise_mlflow, schema_head
from infra.mlflow_registry import MlflowRegistry
from infra.mlflow_tracking import MlflowTracking
from infra.model_versions import find_version, list_versions, reconcile
from infra.settings import Settings
from tests.infra.package_inputs import NAME, make_package, write_key
from tests.servers import PASSWORD, postgres_server
from tests.servers_mlflow import serve_mlflow

METRICS = {"kid": 0.0731}
INPUTS = {"dataset": "ab" * 32}
QUOTED = "correct%25horse%40battery%2Fstaple"


def start_init(home, url):
    command = [sys.executable, "-W", "ignore", "-m", "infra.mlflow_init", str(home)]
    environment = {**os.environ, "GROUNDSWELL_DATABASE_URL": url}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def query(url, statement):
    engine = create_engine(url)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


def tables(url):
    engine = create_engine(url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


@pytest.mark.slow
def test_processes_make_the_schema_once_and_show_no_password(postgres_url, tmp_path):
    started = [start_init(tmp_path / "home", postgres_url) for _ in range(3)]
    shown = "".join(Path(f"/proc/{process.pid}/cmdline").read_text() for process in started)
    assert "mlflow_init" in shown
    assert PASSWORD not in shown
    assert QUOTED not in shown
    for process in started:
        output, errors = process.communicate(timeout=200)
        assert (process.returncode, output, errors) == (0, "", "")
    assert query(postgres_url, "SELECT version_num FROM alembic_version") == [(schema_head(),)]
    assert query(postgres_url, "SELECT experiment_id, artifact_location FROM experiments") == [
        (0, f"{tmp_path}/home/mlartifacts/0")
    ]


@contextmanager
def held_migrations(postgres, url):
    """Holds every change of a table of a database as long as the block lasts; yields a function that tells whether one waits."""
    with postgres.connect(url) as admin:
        admin.execute(
            "CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); END';"
            "CREATE EVENT TRIGGER hold ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION hold();"
            "SELECT pg_advisory_lock(1)"
        )
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted"
        yield lambda: admin.execute(waiting).fetchone() is not None
        admin.execute("DROP EVENT TRIGGER hold; DROP FUNCTION hold; SELECT pg_advisory_unlock(1)")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_schema_left_half_made_by_a_killed_process_is_mended(postgres, postgres_url, tmp_path):
    with held_migrations(postgres, postgres_url) as is_waiting:
        process = start_init(tmp_path / "home", postgres_url)
        deadline = time.monotonic() + 100
        while not is_waiting():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.communicate()
        found = tables(postgres_url)
        assert "experiments" in found
        assert "registered_models" not in found
    began = time.monotonic()
    initialise_mlflow(postgres_url, "mlartifacts")
    assert time.monotonic() - began < 200, "the killed process's lock went with it"
    assert query(postgres_url, "SELECT version_num FROM alembic_version") == [(schema_head(),)]
    assert connect(postgres_url, "mlartifacts").get_experiment("0").name == "Default"


@pytest.mark.parametrize(
    ("found", "said", "hint"),
    [
        ("ffffffffffff", "are of another version", "install the MLflow that made them"),
        ("451aebb31d03", "are of an older version", "mlflow db upgrade"),
    ],
)
def test_tables_of_another_mlflow_are_refused_and_left_alone(postgres_home_url, found, said, hint):
    query(postgres_home_url, f"UPDATE alembic_version SET version_num = '{found}'")
    with pytest.raises(BackendUnavailableError, match=said) as caught:
        connect(postgres_home_url, "mlartifacts")
    assert found in caught.value.diagnosis
    assert hint in caught.value.hint
    assert query(postgres_home_url, "SELECT version_num FROM alembic_version") == [(found,)]


@pytest.mark.parametrize("changes", [{"port": 1}, {"password": "wrong"}, {"database": "nosuch"}])
def test_a_database_that_cannot_be_reached_is_said_at_once(postgres, changes):
    url = postgres.url(changes.pop("database", "postgres"), **changes)
    began = time.monotonic()
    with pytest.raises(BackendUnavailableError) as caught:
        connect(url, "mlartifacts")
    assert time.monotonic() - began < 30, "MLflow itself would try for minutes"
    assert PASSWORD not in caught.value.diagnosis
    assert "\n" not in caught.value.diagnosis


def test_a_run_is_tracked(postgres_home_url, tmp_path):
    tracking = MlflowTracking(
        postgres_home_url, str(tmp_path / "artifacts"), "training", "train_dit", None, {"step": "train_dit"}
    )
    tracking.start()
    tracking.log_params({"rate": 0.5})
    tracking.log_metrics({"loss": 0.25}, step=3)
    run_id = tracking.finish("FINISHED")
    run = connect(postgres_home_url, str(tmp_path / "artifacts")).get_run(run_id)
    assert (run.data.params, run.data.metrics, run.info.status) == ({"rate": "0.5"}, {"loss": 0.25}, "FINISHED")


@pytest.mark.slow
def test_a_server_that_dies_during_a_run_is_the_runs_error(tmp_path):
    with postgres_server() as server:
        url = server.create_database()
        tracking = MlflowTracking(url, str(tmp_path / "artifacts"), "training", "train_dit", None, {})
        tracking.start()
        assert tracking.run_id() is not None
        server.stop(crash=True)
        tracking.log_metrics({"loss": 0.25})
        began = time.monotonic()
        with pytest.raises(BackendUnavailableError, match=r"does not answer|has ended the connection") as caught:
            tracking.finish("FINISHED")
        assert time.monotonic() - began < 30
        assert PASSWORD not in caught.value.diagnosis
        assert QUOTED not in caught.value.diagnosis
        assert "\n" not in caught.value.diagnosis


def test_versions_are_registered_found_and_reconciled(postgres_home_url, tmp_path):
    private, _ = write_key(tmp_path / "keys")
    root = str(tmp_path / "artifacts")
    with Database.open(postgres_home_url) as db:
        registry = MlflowRegistry(db, postgres_home_url, root, private, "alice", "run-1", lambda: None)
        registered = registry.register(make_package(tmp_path / "made"), name=NAME, metrics=METRICS, inputs=INPUTS)
        client = connect(postgres_home_url, root)
        client.set_registered_model_alias(NAME, "best", str(registered.version))
        client.create_model_version(NAME, source=root)
        assert find_version(db, f"{NAME}/1").root_digest == registered.root_digest
        assert find_version(db, f"{NAME}@best").aliases == ("best",)
        assert [version.version for version in list_versions(db)] == [1]
        with pytest.raises(IntegrityError, match="never registered here"):
            find_version(db, f"{NAME}/2")
        with pytest.raises(UnknownSubjectError):
            find_version(db, f"{NAME}@production")
        found = reconcile(db)
        assert (found.unrecorded, found.vanished) == ((f"{NAME}/2",), ())
        client.delete_model_version(NAME, "1")
        assert reconcile(db).vanished == (f"{NAME}/1",)


@pytest.fixture(scope="module")
def served(postgres, postgres_home_template, tmp_path_factory):
    """An MLflow server before a database with both our tables and its own, and that database's URL."""
    url = postgres.create_database(template=postgres_home_template)
    with serve_mlflow(url, "mlartifacts", tmp_path_factory.mktemp("server")) as server:
        yield server, url


@pytest.mark.slow
def test_a_server_before_the_same_database_is_accepted(served, tmp_path, monkeypatch):
    server, url = served
    with Database.open(url) as db:
        assert connect(server.url, "mlartifacts", database=db).get_experiment("0").name == "Default"
    monkeypatch.setenv("GROUNDSWELL_DATABASE_URL", url)
    monkeypatch.setenv("GROUNDSWELL_MLFLOW_URI", server.url)
    home = Home.open(Settings.load(tmp_path / "home"))
    assert home.has_mlflow_schema
    home.begin_mlflow_schema()
    home.database.close()


@pytest.mark.slow
def test_a_server_before_another_database_is_refused(served, postgres_home_url, postgres, monkeypatch, tmp_path):
    server, _ = served
    query(postgres_home_url, "UPDATE experiments SET creation_time = creation_time + 1")  # as if it were made by itself
    with Database.open(postgres_home_url) as db:
        with pytest.raises(BackendUnavailableError, match="does not keep its tables in database postgresql://") as caught:
            connect(server.url, "mlartifacts", database=db)
        assert "--backend-store-uri" in caught.value.hint
    empty = postgres.create_database()
    monkeypatch.setenv("GROUNDSWELL_DATABASE_URL", empty)
    monkeypatch.setenv("GROUNDSWELL_MLFLOW_URI", server.url)
    home = Home.open(Settings.load(tmp_path / "home"))
    with pytest.raises(BackendUnavailableError, match="does not keep its tables in database"):
        home.begin_mlflow_schema()
    home.database.close()
