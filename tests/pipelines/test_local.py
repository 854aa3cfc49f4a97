"""One whole run, as a user starts it, and the same command again."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from governance.digest import sha256_file, tree_digest
from infra.home import Home
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.lineage import upstream
from infra.model_versions import ModelVersion, find_version, open_version
from infra.runs import get_run, get_steps
from infra.settings import Settings
from infra.tables import artifacts
from pipelines.graph import PIPELINES
from tests.pipelines.calling import Called, run_training
from tests.pipelines.conftest import Trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = PIPELINES["training"]


@pytest.fixture(scope="module")
def repeated(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Called]:
    """The same command again, in a copy of the home, with a list of what its processes import."""
    folder = trained.copy(tmp_path_factory.mktemp("repeated") / "home")
    called = run_training(folder, trained.settings, PYTHONPROFILEIMPORTTIME="1")
    return Home.open(Settings.load(folder)), called


def version_of(trained: Trained) -> ModelVersion:
    return find_version(trained.home.database, trained.document["model_version"])


def test_a_run_ends_with_one_document_that_says_all(trained: Trained) -> None:
    document = trained.document
    assert (document["status"], document["exit_code"], document["error"]) == ("completed", 0, None)
    assert document["model_version"] == "groundswell-dit/1"
    assert Path(document["report"]).is_file()
    assert all(Path(picture).is_file() for picture in document["pictures"].values())
    assert {"kid", "kid_low", "kid_high", "final_loss", "psnr_holdout", "num_rows"} <= set(document["metrics"])
    assert [(step["name"], step["status"]) for step in document["steps"]] == [
        (step, "completed") for step in ("import_data", *STEPS)
    ]
    assert not document["reused_all"]
    assert 0 <= document["overhead_s"] <= document["wall_s"]


def test_every_state_change_is_in_a_ledger_that_verifies(trained: Trained) -> None:
    found = [entry.action for entry in iter_entries(trained.home.database) if entry.run_id == trained.run_id]
    assert found[0] == "run.started"
    assert found[-1] == "run.completed"
    assert found.count("step.completed") == len(STEPS)
    assert found.count("dataset.imported") == found.count("model.registered") == 1
    report = verify_ledger(trained.home.database, trained.home.keys.log_public_key())
    assert (report.ok, report.problems) == (True, ())
    assert report.num_checkpoints >= 1


def test_the_version_leads_back_to_the_data_and_the_codec(trained: Trained, tiny_codec: Path) -> None:
    (dataset,) = trained.home.datasets.glob("*/manifest.parquet")
    with trained.home.database.read() as connection:
        graph = upstream(connection, f"package:{version_of(trained).root_digest}")
        kinds = set(connection.execute(select(artifacts.c.kind)).scalars())
    assert {f"dataset:{tree_digest(dataset.parent)}", f"codec:{tree_digest(tiny_codec)}"} <= set(graph.nodes)
    assert {"dataset", "validation", "latents", "model", "evaluation", "package"} <= kinds


def test_the_package_is_the_one_that_was_recorded(trained: Trained) -> None:
    version = version_of(trained)
    package = open_version(version, trained.home.package_keys, trained.home.package_cache)
    with trained.home.database.read() as connection:
        recorded = {step.step: step.record for step in get_steps(connection, trained.run_id)}
    assert recorded["register_model"]["outputs"]["package"]["digest"] == version.root_digest == package.root_digest
    weights = Path(recorded["train_dit"]["outputs"]["model"]["location"]) / "transformer.safetensors"
    copies = [path for path in package.folder.rglob("*.safetensors") if sha256_file(path) == sha256_file(weights)]
    assert len(copies) == 1


def test_mlflow_has_the_run_its_steps_and_the_version_linked_to_them(trained: Trained) -> None:
    from mlflow.tracking import MlflowClient

    uri = trained.home.settings.mlflow_tracking_uri
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    with trained.home.database.read() as connection:
        parent_id = get_run(connection, trained.run_id).mlflow_run_id
        steps = {step.step: step.mlflow_run_id for step in get_steps(connection, trained.run_id)}
    assert parent_id is not None
    parent = client.get_run(parent_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["kid"] == pytest.approx(trained.document["metrics"]["kid"])
    children = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent_id}'")
    assert {child.info.run_id for child in children} == set(steps.values())
    assert {child.info.run_name for child in children} == set(STEPS)
    assert {child.info.status for child in children} == {"FINISHED"}
    train = client.get_run(steps["train_dit"])
    assert train.data.params["num_steps"] == "400"
    assert len(client.get_metric_history(steps["train_dit"], "loss")) == 40
    (version,) = client.search_model_versions("name = 'groundswell-dit'")
    assert version.run_id == steps["register_model"]
    model = client.get_logged_model(version_of(trained).mlflow_model_id)
    assert (model.source_run_id, model.status.value) == (steps["register_model"], "READY")
    assert model.tags["root_digest"] == version.tags["root_digest"] == version_of(trained).root_digest


def test_everything_of_the_run_lies_in_the_home(trained: Trained) -> None:
    folder = trained.home.run_folder(trained.run_id)
    assert {path.stem for path in (folder / "logs").iterdir()} == {"pipeline", *STEPS}
    assert {path.stem for path in (folder / "progress").iterdir()} == {"import_data", *STEPS}
    assert (folder / "kfp").is_dir()
    assert not list(trained.home.path.glob("groundswell-training-*"))
    assert not list(trained.home.work.glob("*/scratch"))
    assert not list(trained.home.work.glob("*/partial"))
    assert (trained.home.metrics / "training-evaluate.prom").is_file()


def test_the_same_command_again_has_nothing_to_do_and_says_so(repeated: tuple[Home, Called], trained: Trained) -> None:
    _, called = repeated
    document = called.document
    assert (called.exit_code, document["status"], document["reused_all"]) == (0, "completed", True)
    assert {step["status"] for step in document["steps"]} == {"reused"}
    assert document["model_version"] == trained.document["model_version"]
    assert document["metrics"] == trained.document["metrics"]


def test_the_same_command_again_is_recorded(repeated: tuple[Home, Called]) -> None:
    home, called = repeated
    found = [entry.action for entry in iter_entries(home.database) if entry.run_id == called.document["run_id"]]
    assert found == ["run.started", *["step.started", "step.reused"] * len(STEPS), "run.completed"]
    assert verify_ledger(home.database, home.keys.log_public_key()).ok


@pytest.mark.parametrize("library", ["torch", "mlflow", "great_expectations"])
def test_reuse_imports_nothing_heavy_in_the_steps(repeated: tuple[Home, Called], library: str) -> None:
    home, called = repeated
    logs = [path.read_text() for path in (home.run_folder(called.document["run_id"]) / "logs").iterdir()]
    imported = {name for log in logs for name in re.findall(r"^.*import time: +\d+ \| +\d+ \| +(\S+)", log, re.MULTILINE)}
    assert "components.runtime" in imported  # the list is there
    assert library not in imported


def test_a_changed_hyperparameter_repeats_only_what_depends_on_it(copied: Callable[..., Path], trained: Trained) -> None:
    called = run_training(copied(), [*trained.settings, "register_model.name=other"])
    assert called.exit_code == 0
    statuses = {step["name"]: step["status"] for step in called.document["steps"]}
    assert statuses == {**dict.fromkeys(("import_data", *STEPS), "reused"), "register_model": "completed"}
    assert called.document["model_version"] == "other/1"
