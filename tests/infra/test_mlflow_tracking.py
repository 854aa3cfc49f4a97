import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from infra.database import Database
from infra.errors import BackendUnavailableError
from infra.mlflow_client import connect
from infra.mlflow_tracking import MlflowTracking
from tests.infra.package_inputs import copy_home_with_schema


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    home = tmp_path_factory.mktemp("home")
    copy_home_with_schema(home)
    uri, root = f"sqlite:///{home / 'groundswell.db'}", str(home / "mlartifacts")
    Database.open(uri).close()
    return uri, root


def make_tracking(store: tuple[str, str], **options: Any) -> MlflowTracking:
    given: dict[str, Any] = {
        "experiment": "training",
        "run_name": "train_dit",
        "parent_run_id": None,
        "tags": {"step": "train_dit"},
    }
    return MlflowTracking(*store, **(given | options))


def test_params_metrics_and_artifacts_arrive(store: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "curve.png").write_bytes(b"png")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<html>")
    tracking = make_tracking(store, clock=lambda: 1_700_000_000.5)
    tracking.start()
    tracking.log_params({"optimiser": {"rate": 1e-3}, "num_steps": 100})
    for step in range(2500):
        tracking.log_metrics({"loss": 1.0 / (step + 1)}, step=step)
    tracking.log_artifact(tmp_path / "curve.png", folder="pictures")
    tracking.log_artifact(tmp_path / "report")
    (tmp_path / "curve.png").unlink()
    run_id = tracking.finish("FINISHED")
    assert run_id is not None
    client = connect(*store)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"optimiser.rate": "0.001", "num_steps": "100"}
    assert run.data.tags["step"] == "train_dit"
    history = client.get_metric_history(run_id, "loss")
    assert [m.step for m in sorted(history, key=lambda m: m.step)] == list(range(2500))
    assert history[0].timestamp == 1_700_000_000_500
    assert [f.path for f in client.list_artifacts(run_id, "pictures")] == ["pictures/curve.png"]
    assert [f.path for f in client.list_artifacts(run_id, "report")] == ["report/index.html"]
    assert run.info.artifact_uri.startswith(store[1])


def test_calls_return_before_mlflow_is_there(store: tuple[str, str]) -> None:
    release = threading.Event()

    def find_parent() -> str | None:
        release.wait(30)
        return None

    tracking = make_tracking(store, parent_run_id=find_parent)
    tracking.start()
    tracking.log_metrics({"loss": 1.0})
    assert tracking.run_id(timeout_s=0) is None
    release.set()
    assert tracking.finish("FINISHED") == tracking.run_id()


def test_child_run_belongs_to_its_parent(store: tuple[str, str]) -> None:
    parent = make_tracking(store, run_name="training")
    parent.start()
    parent_id = parent.run_id()
    child = make_tracking(store, parent_run_id=lambda: parent_id)
    child.start()
    child_id = child.finish("FINISHED")
    parent.finish("FINISHED")
    assert connect(*store).get_run(child_id).data.tags["mlflow.parentRunId"] == parent_id


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_bad_end_is_visible(store: tuple[str, str], status: str) -> None:
    tracking = make_tracking(store)
    tracking.start()
    run_id = tracking.finish(status)
    assert connect(*store).get_run(run_id).info.status == status


def test_second_value_of_a_param_is_left_out(store: tuple[str, str]) -> None:
    tracking = make_tracking(store)
    tracking.start()
    tracking.log_params({"seed": 1})
    tracking.log_params({"seed": 2})
    run_id = tracking.finish("FINISHED")
    assert connect(*store).get_run(run_id).data.params == {"seed": "1"}


def test_odd_names_and_values_are_taken(store: tuple[str, str]) -> None:
    tracking = make_tracking(store)
    tracking.start()
    tracking.log_params({"per_label[é#]": "x" * 10_000})
    tracking.log_metrics({"accuracy(%)": float("nan"), "psnr": float("inf")})
    assert tracking.finish("FINISHED") is not None


def test_unreachable_store_is_one_error_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tracking = make_tracking((f"sqlite:///{tmp_path / 'file' / 'x.db'}", str(tmp_path)))
    tracking.start()
    tracking.log_metrics({"loss": 1.0})
    assert tracking.run_id() is None
    with pytest.raises(BackendUnavailableError) as caught:
        tracking.finish("FINISHED")
    assert "\n" not in caught.value.diagnosis
    assert caught.value.exit_code == 6


def test_error_of_tracking_does_not_hide_the_error_of_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tracking = make_tracking((f"sqlite:///{tmp_path / 'file' / 'x.db'}", str(tmp_path)))
    tracking.start()
    assert tracking.finish("FAILED") is None


def test_missing_artifact_is_told_at_the_end(store: tuple[str, str], tmp_path: Path) -> None:
    tracking = make_tracking(store)
    tracking.start()
    tracking.log_artifact(tmp_path / "none.png")
    with pytest.raises(BackendUnavailableError, match="none"):
        tracking.finish("FINISHED")


def test_tracking_that_never_started_has_no_run(store: tuple[str, str]) -> None:
    tracking = make_tracking(store)
    assert tracking.finish("FINISHED") is None
    assert tracking.run_id() is None


def test_database_stays_in_wal_mode_and_takes_our_writes_meanwhile(store: tuple[str, str]) -> None:
    tracking = make_tracking(store)
    tracking.start()
    with Database.open(store[0]) as database:
        for number in range(20):
            tracking.log_metrics({"loss": float(number)}, step=number)
            with database.unit_of_work() as uow:
                uow.append("run.started", f"run:{number}", {})
        tracking.finish("FINISHED")
    connection = sqlite3.connect(store[0].removeprefix("sqlite:///"))
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.slow
def test_schema_is_made_once_by_two_processes_quietly(tmp_path: Path) -> None:
    root = str(tmp_path / "mlartifacts")
    command = [sys.executable, "-W", "ignore", "-m", "infra.mlflow_init", str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in started:
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, output, errors) == (0, "", "")
    connection = sqlite3.connect(tmp_path / "groundswell.db")
    locations = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    connection.close()
    assert locations == [(f"{root}/0",)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["groundswell.db", "groundswell.db.mlflow-lock"]


def test_schema_is_what_mlflow_itself_makes(store: tuple[str, str], tmp_path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(f"sqlite:///{tmp_path / 'own.db'}", store[1]).engine.dispose()
    query = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name NOT LIKE 'gs_%' ORDER BY type, name"
    schemas = []
    for path in (tmp_path / "own.db", Path(store[0].removeprefix("sqlite:///"))):
        connection = sqlite3.connect(path)
        # MLflow's migrations write the constraints of a table in an order that differs from process to process.
        schemas.append(
            [(kind, name, sorted((sql or "").replace(",", " ").split())) for kind, name, sql in connection.execute(query)]
        )
        connection.close()
    assert schemas[0] == schemas[1]


def test_mlflow_reads_no_pickles_and_sends_nothing(store: tuple[str, str]) -> None:
    connect(*store)
    from mlflow.environment_variables import MLFLOW_ALLOW_PICKLE_DESERIALIZATION
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert MLFLOW_ALLOW_PICKLE_DESERIALIZATION.get() is False
    assert is_telemetry_disabled()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_importing_the_adapters_imports_no_mlflow() -> None:
    code = "import sys, infra.mlflow_tracking, infra.mlflow_registry; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
