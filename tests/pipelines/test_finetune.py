"""A registered model fine-tuned on a few own pictures: a version like any other, whose lineage names its base and both data."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from groundswell.cli.main import main
from infra.home import Home
from infra.model_versions import find_version, open_version
from infra.settings import Settings
from model_core.data.dataset import Dataset
from tests.model_core.data.toy import picture
from tests.pipelines.calling import Called, call, call_here, flags, flip_byte
from tests.pipelines.conftest import Trained, copy_home

pytestmark = pytest.mark.timeout(900)  # the first test waits for two runs
NUM_OWN = 16
SETTINGS = [
    "finetune_dit.num_steps=30",
    "finetune_dit.batch_size=4",
    "finetune_dit.rank=2",
    "finetune_dit.warmup_steps=2",
    "evaluate.num_samples=8",
    "evaluate.feature_size=32",
    "evaluate.num_resamples=100",
]
REASON = "the artist objects"


@dataclass(frozen=True)
class Finetuned:
    """A home in which a model was trained and fine-tuned."""

    home: Home
    source: Path
    base: str
    called: Called

    @property
    def model(self) -> str:
        return str(self.called.document["model_version"])

    def config(self) -> Any:
        version = find_version(self.home.database, self.model)
        return open_version(version, self.home.package_keys, self.home.package_cache).config


def own_pictures(folder: Path) -> Path:
    """A company's own few pictures, of one kind that the base does not know; nobody says which are held out."""
    folder.mkdir(parents=True)
    described = []
    for place in range(NUM_OWN):
        picture(1000 + place, size=20).save(folder / f"mug-{place}.png")
        described.append(
            {"file_name": f"mug-{place}.png", "text": f"mug number {place}", "label": "mug", "licence": "LicenseRef-own"}
        )
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in described))
    return folder


def run_finetune(home: Path, base: str, source: Path, *settings: str) -> Called:
    return call(home, "--json", "run", "finetune", "--base", base, *flags([f"data.source={source}", *SETTINGS, *settings]))


@pytest.fixture(scope="module")
def finetuned(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Finetuned:
    root = tmp_path_factory.mktemp("finetuned")
    source, base = own_pictures(root / "mugs"), str(trained.document["model_version"])
    folder = trained.copy(root / "home")
    called = run_finetune(folder, base, source)
    assert called.exit_code == 0, called.stdout + called.stderr
    return Finetuned(home=Home.open(Settings.load(folder)), source=source, base=base, called=called)


@pytest.fixture
def copied_home(finetuned: Finetuned, tmp_path: Path) -> Path:
    copy_home(finetuned.home.path, tmp_path / "home")
    return tmp_path / "home"


def test_it_is_a_version_of_its_own_name_that_holds_the_adapter_and_names_its_base(finetuned: Finetuned) -> None:
    assert finetuned.model == "groundswell-dit-finetuned/1"
    base = find_version(finetuned.home.database, finetuned.base)
    version = find_version(finetuned.home.database, finetuned.model)
    package = open_version(version, finetuned.home.package_keys, finetuned.home.package_cache)
    assert {"adapter/config.json", "adapter/adapter.safetensors"} <= set(package.digests)
    named = package.config["base"]
    assert (f"{named['name']}/{named['version']}", named["root_digest"]) == (finetuned.base, base.root_digest)
    assert named["training_data"]["dataset_digest"] != package.config["training_data"]["dataset_digest"]
    assert package.config["conditioning"]["labels"] == ["cat", "dog", "mug"]
    assert package.config["training_data"]["num_items"] == {"holdout": 4, "train": 12}
    assert version.inputs["base"] == base.root_digest
    sizes = {name: (package.folder / name).stat().st_size for name in ("transformer.safetensors", "adapter/adapter.safetensors")}
    assert sizes["adapter/adapter.safetensors"] < sizes["transformer.safetensors"]
    assert f"**{finetuned.base}**, root digest `{base.root_digest}`" in package.model_card
    assert "by low-rank adapters of rank 2" in package.model_card


def test_the_bill_of_materials_has_the_base_as_ancestor_and_both_data(finetuned: Finetuned) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    version = find_version(finetuned.home.database, finetuned.model)
    package = open_version(version, finetuned.home.package_keys, finetuned.home.package_cache)
    text = package.read_bytes("mlbom.cdx.json").decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    (ancestor,) = bom["metadata"]["component"]["pedigree"]["ancestors"]
    assert f"{ancestor['name']}/{ancestor['version']}" == finetuned.base
    data = {one["bom-ref"]: one for one in bom["components"] if one["type"] == "data"}
    assert [one["license"]["name"] for one in data["training-data"]["licenses"]] == ["LicenseRef-own"]
    assert [one["license"]["name"] for one in data["base-1-training-data"]["licenses"]] == ["CC0-1.0"]
    assert bom["dependencies"] == [{"ref": "model", "dependsOn": ["training-data", "base-1-training-data"]}]


def test_the_lineage_names_the_base_and_the_data_of_both(finetuned: Finetuned, tmp_path: Path) -> None:
    home = finetuned.home.path
    graph = call_here(home, "--json", "lineage", finetuned.model, "--format", "json").document
    datasets = {node["subject"] for node in graph["nodes"] if node["subject"].startswith("dataset:")}
    config = finetuned.config()
    behind = (config, config["base"])
    assert datasets == {f"dataset:{one['training_data']['dataset_digest']}" for one in behind}
    said = " ".join("".join(phrase["text"] for phrase in sentence) for sentence in graph["summary"])
    assert "This model was fine-tuned from groundswell-dit version 1 on 12 pictures from mugs" in said
    assert "Its base was trained on 24 pictures from pictures" in said
    events = call_here(home, "--json", "lineage", finetuned.model, "--format", "openlineage").document["events"]
    (done,) = [one for one in events if one["job"]["name"] == "finetune.finetune_dit" and one["eventType"] == "COMPLETE"]
    assert f"package:{config['base']['root_digest']}" in {one["name"] for one in done["inputs"]}


def test_it_generates_what_it_learnt_and_what_its_base_knew_and_its_files_lead_back(finetuned: Finetuned, tmp_path: Path) -> None:
    home = finetuned.home.path
    for label in ("mug", "cat"):
        made = call_here(home, "--json", "generate", finetuned.model, "--label", label, "--out", tmp_path / label)
        assert made.exit_code == 0, made.stderr
        (file,) = made.document["files"]
        graph = call_here(home, "--json", "lineage", file["path"], "--format", "json").document
        assert sum(node["subject"].startswith("dataset:") for node in graph["nodes"]) == 2
    assert call_here(home, "generate", finetuned.model, "--label", "cup", "--out", tmp_path / "cup").exit_code == 3


def test_its_bundle_verifies_and_so_does_the_home(finetuned: Finetuned, tmp_path: Path) -> None:
    home, out = finetuned.home.path, tmp_path / "evidence.zip"
    assert call_here(home, "bundle", "export", finetuned.model, "-o", out).exit_code == 0
    key = home / "keys" / "public" / "log.pem"
    verified = call_here(home, "bundle", "verify", out, "--key", key)
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    audited = call_here(home, "--json", "audit", "verify")
    assert audited.exit_code == 0, audited.stdout + audited.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_work_is_reused_and_other_work_is_another_version(copied_home: Path, finetuned: Finetuned) -> None:
    again = run_finetune(copied_home, finetuned.base, finetuned.source)
    assert again.document["reused_all"] is True
    assert again.document["model_version"] == finetuned.model
    other = run_finetune(copied_home, finetuned.base, finetuned.source, "finetune_dit.alpha=4.0")
    assert other.document["model_version"] == "groundswell-dit-finetuned/2", other.stderr
    fine = run_finetune(copied_home, finetuned.model, finetuned.source, "register_model.name=mugs")
    assert fine.exit_code == 0, fine.stderr
    home = Home.open(Settings.load(copied_home))
    package = open_version(find_version(home.database, "mugs/1"), home.package_keys, home.package_cache)
    assert f"The base was itself fine-tuned from {finetuned.base}" in package.model_card


def test_a_withdrawal_from_the_bases_data_reaches_it_and_nothing_more_is_learnt_from_the_base(
    copied_home: Path, finetuned: Finetuned
) -> None:
    config = finetuned.config()
    folders = {path.parent: Dataset.open(path.parent) for path in copied_home.glob("datasets/*/manifest.parquet")}
    (folder,) = [place for place, dataset in folders.items() if "mug" not in dataset.labels]
    item = folders[folder].columns["sha256"][1]
    subject = f"dataset:{config['base']['training_data']['dataset_digest']}"
    called = call_here(copied_home, "--json", "data", "withdraw", subject, "--item", item, "--reason", REASON)
    assert called.exit_code == 0, called.stderr
    assert {found["model"] for found in called.document["reached"]["models"]} == {finetuned.base, finetuned.model}
    refused = run_finetune_here(copied_home, finetuned.base, finetuned.source)
    assert refused.exit_code == 5
    assert f"the base {finetuned.base} was made from data of which 1 item was withdrawn" in refused.stderr


def run_finetune_here(home: Path, base: str, source: Path, *settings: str) -> Called:
    """For runs that are refused before a process is started."""
    return call_here(home, "run", "finetune", "--base", base, *flags([f"data.source={source}", *SETTINGS, *settings]))


def _num_runs(home: Path) -> int:
    return len(call_here(home, "--json", "runs", "list").document["runs"])


def test_a_base_that_was_changed_is_refused_before_anything_is_learnt_from_it(copied_home: Path, finetuned: Finetuned) -> None:
    home = Home.open(Settings.load(copied_home))
    location = Path(find_version(home.database, finetuned.base).location)
    (package,) = copied_home.glob(f"mlartifacts/**/{location.parent.name}/{location.name}")
    flip_byte(package / "transformer.safetensors")
    with home.database.unit_of_work() as uow:
        uow.connection.exec_driver_sql(
            "UPDATE gs_model_versions SET location = ? WHERE name = ?", (str(package), "groundswell-dit")
        )
    before = _num_runs(copied_home)
    refused = run_finetune_here(copied_home, finetuned.base, finetuned.source)
    assert refused.exit_code == 4
    assert "transformer.safetensors of the model package was changed" in refused.stderr
    assert _num_runs(copied_home) == before


@pytest.mark.parametrize(
    ("base", "settings", "exit_code", "told"),
    [
        ("groundswell-dit/9", [], 3, "there is no model version groundswell-dit/9"),
        ("groundswell-dit@production", [], 3, "no alias production"),
        ("groundswell-dit/1", ["register_model.name=groundswell-dit"], 3, "choose a name of its own"),
        ("groundswell-dit/1", ["finetune_dit.rank=0"], 3, "finetune_dit.rank"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused_in_one_line(
    finetuned: Finetuned, base: str, settings: list[str], exit_code: int, told: str
) -> None:
    refused = run_finetune_here(finetuned.home.path, base, finetuned.source, *settings)
    assert refused.exit_code == exit_code
    assert told in refused.stderr
    assert refused.stderr.count("error:") == 1


def test_the_base_and_the_pictures_have_to_be_named(finetuned: Finetuned, capsys: pytest.CaptureFixture[str]) -> None:
    home = finetuned.home.path
    unnamed = call_here(home, "run", "finetune", "-S", f"data.source={finetuned.source}")
    assert (unnamed.exit_code, "--base NAME/VERSION" in unnamed.stderr) == (3, True)
    no_pictures = call_here(home, "run", "finetune", "--base", finetuned.base)
    assert (no_pictures.exit_code, "-S data.source=FOLDER" in no_pictures.stderr) == (3, True)
    assert main(["--home", str(home), "run", "training", "--base", finetuned.base]) == 2
