"""Samples that repeat a training item: withheld or flagged, on record, and nothing of them kept."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.collect_results.results import REFUSED, exit_code_of
from components.validate_requests.table import Row
from governance.guardrails.judging import GuardrailError
from governance.guardrails.policy import parse_guardrails
from governance.ledger import LedgerEntry
from infra.artifact_folders import find_artifact
from infra.guardrails import set_guardrails
from infra.home import Home
from infra.identities import first_identity
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.lineage import upstream
from infra.model_versions import find_version
from infra.settings import Settings
from model_core.data.dataset import Dataset
from model_core.evaluation.index_file import INDEX_NAME
from pipelines.batch import run_batch
from pipelines.generation import GenerateOutcome, GenerateRequest, generate
from tests.pipelines.calling import call, flip_byte
from tests.pipelines.conftest import Trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Draw = Callable[[Sequence[str]], None]


@pytest.fixture
def home(trained: Trained, tmp_path: Path) -> Home:
    return Home.open(Settings.load(trained.copy(tmp_path / "home")))


@pytest.fixture
def dataset(home: Home) -> Dataset:
    (manifest,) = home.datasets.glob("*/manifest.parquet")
    return Dataset.open(manifest.parent)


@pytest.fixture
def draws(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Makes the model draw items of the data, by split, in the place of what it would have drawn; its holdout counts as large."""
    monkeypatch.setattr("components.generate_media.near_copies.MIN_HOLDOUT", 2)

    def plan(splits: Sequence[str]) -> None:
        taken = {split: iter(dataset.rows(split)) for split in set(splits)}
        clips = dataset.clips([next(taken[split]) for split in splits])
        monkeypatch.setattr("components.generate_media.step.generate_clips", lambda *_, **__: clips)

    return plan


def ask(home: Home, trained: Trained, out: Path, *, num_images: int) -> GenerateOutcome:
    request = GenerateRequest(model=trained.document["model_version"], label="cat", num_images=num_images, out=out)
    return generate(home, request, actor=first_identity(home.database))


def entries(home: Home, action: str) -> list[LedgerEntry]:
    return [entry for entry in iter_entries(home.database) if entry.action == action]


def set_policy(home: Home, **memorisation: str) -> None:
    document = {"guardrails": "groundswell-guardrails/1", "name": "mine", "memorisation": memorisation}
    set_guardrails(home.database, parse_guardrails(json.dumps(document)), actor=first_identity(home.database))


def test_a_repeated_training_item_is_withheld_and_the_others_are_handed_out(
    home: Home, trained: Trained, dataset: Dataset, draws: Draw, tmp_path: Path
) -> None:
    draws(["holdout", "train", "holdout"])
    made = ask(home, trained, tmp_path / "out", num_images=3)
    assert len(made.files) == 2
    (near,) = made.memorisation.withheld
    repeated = dataset.columns["sha256"][dataset.rows("train")[0]]
    assert (near["position"], near["nearest_sha256"], near["distance"]) == (1, repeated, pytest.approx(0, abs=1e-3))
    (entry,) = entries(home, "asset.withheld")
    assert entry.subject == f"run:{made.run_id}"
    assert (entry.details["position"], entry.details["nearest_sha256"]) == (1, repeated)
    assert float(entry.details["distance"]) < float(entry.details["distance_threshold"])
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()
    pixels = dataset.read_clip(dataset.rows("train")[0])[0]
    (media,) = home.work.glob("*/outputs/media")
    kept = [*media.glob("image-*.png"), *(tmp_path / "out").glob("*image*")]
    assert len(kept) == 4
    assert not any(np.array_equal(np.asarray(Image.open(path).convert("RGB")), pixels) for path in kept)


def test_what_is_handed_out_leads_to_the_evaluation_that_it_was_checked_by(
    home: Home, trained: Trained, draws: Draw, tmp_path: Path
) -> None:
    draws(["holdout"])
    made = ask(home, trained, tmp_path / "out", num_images=1)
    evaluation = find_version(home.database, made.model_version).inputs["evaluation"]
    with home.database.read() as connection:
        graph = upstream(connection, f"media:{made.files[0].sha256}")
    assert f"evaluation:{evaluation}" in graph.nodes
    assert (made.memorisation.state, made.memorisation.near_copies) == ("checked", ())


def test_nothing_is_handed_out_where_all_is_repeated_and_a_table_says_so(
    home: Home, trained: Trained, draws: Draw, tmp_path: Path
) -> None:
    draws(["train"])
    template = GenerateRequest(model=trained.document["model_version"], out=tmp_path / "out")
    row = Row(line=2, request_id="one", prompt=None, label="cat", segment="", seed=None, frames=None)
    (result,) = run_batch(home, template, [row], [], actor=first_identity(home.database))
    assert (result.status, result.file) == (REFUSED, "")
    assert "too near an item" in result.reason
    assert exit_code_of({result.status}) == 5


def test_a_policy_may_hand_it_out_and_flag_it_or_look_at_nothing(
    home: Home, trained: Trained, draws: Draw, tmp_path: Path
) -> None:
    draws(["train"])
    set_policy(home, samples="flag")
    flagged = ask(home, trained, tmp_path / "flagged", num_images=1)
    (entry,) = entries(home, "asset.flagged")
    assert entry.subject == f"media:{flagged.files[0].sha256}"
    set_policy(home, samples="off")
    assert ask(home, trained, tmp_path / "off", num_images=1).memorisation.state == "off"
    assert len(entries(home, "asset.flagged")) == 1
    assert not entries(home, "asset.withheld")


def evaluation_folder(home: Home, trained: Trained) -> Path:
    digest = find_version(home.database, trained.document["model_version"]).inputs["evaluation"]
    folder = find_artifact(home, "evaluation", digest)
    assert folder is not None
    assert home.path in folder.parents
    return folder


def test_without_the_evaluation_samples_are_handed_out_and_the_record_says_unchecked(
    home: Home, trained: Trained, draws: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws(["train"])
    monkeypatch.setattr("pipelines.memorisation.find_artifact", lambda *_: None)
    made = ask(home, trained, tmp_path / "out", num_images=1)
    assert (len(made.files), made.memorisation.state) == (1, "unchecked")
    (entry,) = entries(home, "generation.unchecked")
    assert "not in this home" in entry.details["reason"]
    set_policy(home, unchecked="refuse")
    before = len(entries(home, "generation.refused"))
    with pytest.raises(GuardrailError, match="cannot be held against training items"):
        ask(home, trained, tmp_path / "refused", num_images=1)
    assert len(entries(home, "generation.refused")) == before + 1
    assert not (tmp_path / "refused").exists()


def test_samples_that_the_step_could_not_check_are_not_handed_out_where_the_policy_refuses_them(
    home: Home, trained: Trained, draws: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws(["holdout"])
    set_policy(home, unchecked="refuse")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(GuardrailError, match="extractor is not installed"):
        ask(home, trained, tmp_path / "out", num_images=1)
    assert len(entries(home, "generation.refused")) == 1
    assert not (tmp_path / "out").exists()


def test_an_index_that_was_changed_is_not_used(home: Home, trained: Trained, tmp_path: Path) -> None:
    flip_byte(evaluation_folder(home, trained) / INDEX_NAME)
    out = tmp_path / "out"
    called = call(home.path, "generate", trained.document["model_version"], "--label", "cat", "--out", out)
    assert called.exit_code == 4
    assert "evaluation" in called.stderr
    assert not out.exists()


def test_a_registered_model_is_evaluated_again_and_what_was_done_is_reused(home: Home, trained: Trained) -> None:
    model = trained.document["model_version"]
    called = call(home.path, "--json", "evaluate", model, "--utility")
    assert called.exit_code == 0, called.stderr
    assert called.document["metrics"] == {
        name: value for name, value in trained.document["metrics"].items() if name.startswith("utility_")
    }
    assert called.document["utility"]["ratio"]["low"] <= called.document["utility"]["ratio"]["high"]
    with home.database.read() as connection:
        graph = upstream(connection, f"evaluation:{find_version(home.database, model).inputs['evaluation']}")
    assert any(node.startswith("dataset:") for node in graph.nodes)
    assert [entry.run_id for entry in entries(home, "step.reused")] == [called.document["run_id"]]


def test_data_that_it_was_not_trained_on_are_refused(home: Home, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    called = call(home.path, "evaluate", trained.document["model_version"], "--data", tmp_path / "other")
    assert called.exit_code == 3
    assert "is not the dataset that" in called.stderr
