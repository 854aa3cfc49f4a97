"""A withdrawal after a real training run: what it reaches, and that nothing new is made from what was withdrawn."""

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from components.runtime import RunContext, run_step
from components.specs import STEPS
from governance.errors import RefusedError
from infra.home import Home
from infra.identities import first_identity
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.progress import ProgressFile
from infra.run_records import begin_run
from infra.runs import get_steps, list_runs
from infra.settings import Settings
from infra.withdrawals import WithdrawalRequest, withdraw
from model_core.data.dataset import Dataset
from pipelines.datasets import ensure_dataset, record_dataset
from pipelines.params import DataParams
from tests.model_core.data.toy import lines, picture_folder
from tests.pipelines.calling import call, run_training
from tests.pipelines.conftest import NUM_PICTURES, Trained

REASON = "the person shown objects"


def take(home: Home, folder: Path, *items: str) -> str:
    subject = f"dataset:{record_digest(home, folder)}"
    request = WithdrawalRequest(dataset=subject, items=items, reason=REASON)
    withdraw(home.database, request, actor=first_identity(home.database), datasets=home.datasets)
    return subject


def record_digest(home: Home, folder: Path) -> str:
    from components.store import artifact_digest

    record_dataset(home, folder, actor=first_identity(home.database))
    return artifact_digest("dataset", folder)


@pytest.fixture
def context(home: Home) -> RunContext:
    run = RunContext(home=home, run_id=str(uuid.uuid4()), pipeline="training", actor=first_identity(home.database))
    begin_run(home, run_id=run.run_id, pipeline=run.pipeline, runner="dvc", params={}, actor=run.actor)
    return run


@pytest.fixture
def ensure(home: Home, context: RunContext, tmp_path: Path) -> Callable[..., Path]:
    progress = ProgressFile(tmp_path / "progress.json")

    def call_it(source: Path) -> Path:
        data = DataParams(source=str(source), size=16, categories=())
        return ensure_dataset(home, data, actor=context.actor, run_id=context.run_id, progress=progress)

    return call_it


def test_a_source_is_imported_again_beside_the_dataset_that_holds_withdrawn_items(
    home: Home, tmp_path: Path, ensure: Callable[..., Path]
) -> None:
    source = picture_folder(tmp_path / "pictures", lines(6))
    first = ensure(source)
    items = Dataset.open(first).columns["sha256"]
    take(home, first, items[0])
    second = ensure(source)
    assert first != second == ensure(source)
    assert Dataset.open(second).columns["sha256"] == items[1:]
    take(home, second, items[1])
    third = ensure(source)
    assert Dataset.open(third).columns["sha256"] == items[2:]
    assert third not in {first, second}
    assert Dataset.open(first).columns["sha256"] == items
    left_out = [entry.details["num_withdrawn_left_out"] for entry in iter_entries(home.database, action="dataset.imported")]
    assert left_out == [0, 1, 2]
    assert not verify_ledger(home.database, home.keys.log_public_key()).problems


def test_a_withdrawal_from_other_data_imports_nothing_again(home: Home, tmp_path: Path, ensure: Callable[..., Path]) -> None:
    source, other = picture_folder(tmp_path / "pictures", lines(6)), picture_folder(tmp_path / "others", lines(9))
    folder, larger = ensure(source), ensure(other)
    strange = next(item for item in Dataset.open(larger).columns["sha256"] if item not in Dataset.open(folder).columns["sha256"])
    take(home, larger, strange)
    assert ensure(source) == folder


def test_a_finished_dataset_with_withdrawn_items_is_refused(home: Home, tmp_path: Path, ensure: Callable[..., Path]) -> None:
    folder = ensure(picture_folder(tmp_path / "pictures", lines(6)))
    take(home, folder, Dataset.open(folder).columns["sha256"][0])
    with pytest.raises(RefusedError, match="1 withdrawn item") as caught:
        ensure(folder)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("step", ["validate_data", "train_codec", "encode_latents", "evaluate", "register_model"])
def test_no_step_takes_a_dataset_with_withdrawn_items(
    home: Home, context: RunContext, tmp_path: Path, ensure: Callable[..., Path], step: str
) -> None:
    folder = ensure(picture_folder(tmp_path / "pictures", lines(6)))
    take(home, folder, Dataset.open(folder).columns["sha256"][0])
    empty = tmp_path / "empty"
    empty.mkdir()
    inputs = {name: folder if name == "dataset" else empty for name in STEPS[step].inputs}
    with pytest.raises(RefusedError, match="1 withdrawn item"):
        run_step(context, step, {}, inputs)
    with home.database.read() as connection:
        (row,) = get_steps(connection, context.run_id)
    assert (row.status, row.error.exit_code if row.error else 0) == ("failed", 5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_was_trained_is_reached_and_neither_reused_nor_trained_again(
    copied: Callable[..., Path], trained: Trained, tmp_path: Path
) -> None:
    folder = copied()
    (manifest,) = folder.glob("datasets/*/manifest.parquet")
    dataset = shutil.copytree(manifest.parent, tmp_path / "dataset")
    columns = Dataset.open(dataset).columns
    chosen = {split: columns["sha256"][columns["split"].index(split)] for split in ("train", "holdout")}
    model = trained.document["model_version"]
    named = [word for item in chosen.values() for word in ("--item", item)]
    called = call(folder, "--json", "data", "withdraw", dataset, *named, "--reason", REASON)
    assert called.exit_code == 0, called.stderr
    assert {item["split"]: item["sha256"] for item in called.document["items"]} == chosen
    assert [found["model"] for found in called.document["reached"]["models"]] == [model]
    assert trained.run_id in {run["run_id"] for run in called.document["reached"]["runs"]}

    home = Home.open(Settings.load(folder))
    with home.database.read() as connection:
        latents = next(step for step in get_steps(connection, trained.run_id) if step.step == "encode_latents")
    stage = RunContext(home=home, run_id=str(uuid.uuid4()), pipeline="training", actor=first_identity(home.database))
    begin_run(home, run_id=stage.run_id, pipeline="training", runner="dvc", params={}, actor=stage.actor)
    made = folder / "work" / latents.fingerprint / "outputs" / "latents"
    with pytest.raises(RefusedError, match="2 items were withdrawn"):
        run_step(stage, "train_dit", {}, {"latents": made})

    refused = run_training(folder, [*trained.settings, f"data.source={dataset}"])
    assert refused.exit_code == 5
    assert "holds 2 withdrawn items" in refused.stderr
    assert "data import" in refused.stderr
    with home.database.read() as connection:
        (run, *_) = list_runs(connection, 1)
        assert (run.status, get_steps(connection, run.run_id)) == ("failed", [])

    pictures = call(folder, "--json", "generate", model, "--label", "cat", "--out", tmp_path / "pictures")
    assert pictures.exit_code == 0, pictures.stderr
    warnings = [line for line in pictures.stderr.splitlines() if line.startswith("warning: ")]
    assert sum("2 items of the data behind" in line for line in warnings) == 1
    again = call(folder, "--json", "data", "withdraw", dataset, *named, "--reason", REASON)
    assert [one["sha256"] for one in again.document["reached"]["media"]] == [one["sha256"] for one in pictures.document["files"]]

    trained_anew = run_training(folder, [*trained.settings, "train_dit.num_steps=20"])
    assert trained_anew.exit_code == 0, trained_anew.stderr
    listed = call(folder, "--json", "models", "list").document["models"]
    marks = {found["model"]: found["withdrawn_items"] for found in listed}
    assert marks == {model: 2, trained_anew.document["model_version"]: 0}
    (fresh,) = [path for path in folder.glob("datasets/*/dataset.json") if path.parent != manifest.parent]
    assert json.loads(fresh.read_text())["options"]["withdrawn_left_out"] == 2
    assert len(Dataset.open(fresh.parent)) == NUM_PICTURES - 2
    assert call(folder, "audit", "verify").exit_code == 0
