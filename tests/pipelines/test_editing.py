"""Pictures made from given ones, by the command line: how near they stay, where they came from, and what is refused."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from governance.digest import sha256_file, tree_digest
from infra.home import Home
from infra.identities import first_identity
from infra.ledger_verification import verify_ledger
from infra.lineage import upstream
from infra.runs import get_run
from infra.settings import Settings
from infra.tables import assets
from infra.withdrawal_reach import reached_from, withdrawals_reaching
from infra.withdrawals import WithdrawalRequest, withdraw
from model_core.data.dataset import Dataset
from tests.content_world import drawing
from tests.pipelines.calling import Called, call_here
from tests.pipelines.conftest import Trained, copy_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Edited:
    """A picture of the home's own and one of nobody's, each edited once, in a copy of the home."""

    home: Home
    model: str
    own: Any
    own_edited: Any
    foreign: Path
    foreign_edited: Any

    def call(self, *arguments: Any) -> Called:
        """What the command line answers."""
        return call_here(self.home.path, *arguments)


@pytest.fixture(scope="module")
def edited(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Edited:
    folder, out = trained.copy(tmp_path_factory.mktemp("edited") / "home"), tmp_path_factory.mktemp("out")
    model = str(trained.document["model_version"])

    def make(*options: Any) -> Any:
        made = call_here(folder, "--json", "generate", model, *options)
        assert made.exit_code == 0, made.stderr
        return made.document

    own = make("--label", "cat", "--out", out / "own")
    foreign = out / "zebrawood.jpg"
    drawing(3, size=100).save(foreign)
    again = make("--from", own["files"][0]["path"], "--strength", 0.5, "--label", "dog", "-n", 2, "--out", out / "again")
    other = make("--from", foreign, "--strength", 0.5, "--out", out / "other")
    return Edited(Home.open(Settings.load(folder)), model, own, again, foreign, other)


def sha256_of(document: Any, number: int = 0) -> str:
    return str(document["files"][number]["sha256"])


def pixels_of(document: Any) -> np.ndarray:
    return np.asarray(Image.open(document["files"][0]["path"]).convert("RGB"), dtype=np.float64)


def test_strength_decides_how_far_a_picture_leaves_its_source(edited: Edited, tmp_path: Path) -> None:
    made = {}
    for strength in (0, 0.3, 0.6, 1):
        told = edited.call(
            "--json", "generate", edited.model, "--from", edited.foreign, "--strength", strength, "--num-steps", 10,
            "--out", tmp_path / str(strength),
        )  # fmt: skip
        assert told.exit_code == 0, told.stderr
        made[strength] = pixels_of(told.document)
    distances = [float(np.square(made[strength] - made[0]).mean()) for strength in made]
    assert distances == sorted(distances)
    assert len(set(distances)) == 4


def test_verify_names_the_model_and_what_a_picture_was_made_from(edited: Edited) -> None:
    for document, source, model in (
        (edited.own_edited, sha256_of(edited.own), edited.model),
        (edited.foreign_edited, sha256_file(edited.foreign), None),
    ):
        told = edited.call("--json", "content", "verify", document["files"][0]["path"])
        assert told.exit_code == 0, told.stderr
        attribution = told.document["attribution"]
        assert attribution["model"] == edited.model
        assert attribution["source"]["model"] == model
        assert attribution["source"]["sha256"] == source
    shown = edited.call("content", "verify", edited.own_edited["files"][0]["path"]).stdout
    assert f"{sha256_of(edited.own)}, a file made here by model {edited.model} in run {edited.own['run_id']}" in shown
    assert "a file of unknown origin" in edited.call("content", "verify", edited.foreign_edited["files"][0]["path"]).stdout


def test_an_edited_picture_leads_back_through_its_source_to_the_data(edited: Edited) -> None:
    with edited.home.database.read() as connection:
        graph = upstream(connection, f"media:{sha256_of(edited.own_edited)}")
        run = get_run(connection, edited.own_edited["run_id"])
        rows = connection.execute(select(assets).where(assets.c.run_id == run.run_id)).all()
    own = f"media:{sha256_of(edited.own)}"
    steps = {f"step:{one['run_id']}/generate_media" for one in (edited.own, edited.own_edited)}
    assert {own, *steps} <= graph.nodes
    assert any(node.startswith("dataset:") for node in graph.upstream(own))
    assert {row.source_sha256 for row in rows} == {sha256_of(edited.own)}
    assert run.params["generate_media"]["strength"] == 0.5
    assert verify_ledger(edited.home.database, edited.home.keys.log_public_key()).problems == ()


def test_the_report_of_an_edited_picture_says_what_it_was_made_from(edited: Edited, tmp_path: Path) -> None:
    sha256 = sha256_file(edited.foreign)
    for document, words in ((edited.own_edited, "image-000000.png"), (edited.foreign_edited, "A file of unknown origin")):
        told = edited.call("--json", "lineage", document["files"][0]["path"], "-o", tmp_path / "report.html")
        assert told.exit_code == 0, told.stderr
        unknown = f"Where the file with SHA-256 {sha256[:12]} came from is unknown: it was not made here."
        assert told.document["open_questions"] == ([] if document is edited.own_edited else [unknown])
        assert "It was made from " in (tmp_path / "report.html").read_text()
        assert words in (tmp_path / "report.html").read_text()
    shown = edited.call("--json", "lineage", edited.foreign, "--format", "json", "-o", tmp_path / "source.json")
    assert shown.exit_code == 0, shown.stderr
    assert sha256_of(edited.foreign_edited) in (tmp_path / "source.json").read_text()


def test_a_withdrawal_reaches_what_was_made_from_what_was_made(edited: Edited, tmp_path: Path) -> None:
    copy_home(edited.home.path, tmp_path / "home")
    home = Home.open(Settings.load(tmp_path / "home"))
    (manifest,) = home.datasets.glob("*/manifest.parquet")
    dataset = tree_digest(manifest.parent)
    (item, *_) = Dataset.open(manifest.parent).columns["sha256"]
    request = WithdrawalRequest(dataset=f"dataset:{dataset}", items=[item], reason="the licence ended")
    withdraw(home.database, request, actor=first_identity(home.database), datasets=home.datasets)
    with home.database.read() as connection:
        reached = {one.sha256 for one in reached_from(connection, [dataset]).media}
        found = withdrawals_reaching(connection, f"media:{sha256_of(edited.own_edited)}")
    assert {sha256_of(edited.own), sha256_of(edited.own_edited), sha256_of(edited.own_edited, 1)} <= reached
    assert [one.reason for one in found] == ["the licence ended"]
    options = ["--from", edited.own_edited["files"][0]["path"], "--strength", 0, "--out", tmp_path]
    warned = call_here(home.path, "generate", edited.model, *options)
    assert (warned.exit_code, "1 item of the data behind the file that they were made from was" in warned.stderr) == (0, True)


@pytest.mark.parametrize("which", ["own_edited", "foreign_edited"])
def test_c2pas_own_reader_accepts_the_source_as_an_ingredient(edited: Edited, which: str) -> None:
    root = edited.home.keys.public_path("content-root-certificate").read_text()
    settings = c2pa.Settings.from_dict({"version": 1, "trust": {"trust_anchors": root}, "verify": {"verify_trust": True}})
    path = getattr(edited, which)["files"][0]["path"]
    store = json.loads(c2pa.Reader(path, context=c2pa.Context(settings)).json())
    assert (store["validation_state"], store.get("validation_status")) == ("Trusted", None)
    manifest = store["manifests"][store["active_manifest"]]
    (ingredient,) = manifest["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    assert "thumbnail" not in ingredient
    labels = {assertion["label"]: assertion["data"] for assertion in manifest["assertions"]}
    opened, done = labels["c2pa.actions.v2"]["actions"]
    assert opened["parameters"]["ingredients"][0]["url"].endswith("c2pa.ingredient.v3")
    assert (opened["action"], done["action"]) == ("c2pa.opened", "c2pa.edited")
    assert done["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    if which == "own_edited":
        assert labels["org.groundswell.provenance"]["source"] == {"sha256": sha256_of(edited.own)}
        assert ingredient["validation_results"]["activeManifest"]["failure"] == []
        carried = store["manifests"][ingredient["active_manifest"]]
        (told,) = [one["data"] for one in carried["assertions"] if one["label"] == "org.groundswell.provenance"]
        assert told["run_id"] == edited.own["run_id"]
    else:
        assert "active_manifest" not in ingredient


def test_nothing_of_the_source_stays_but_its_digest(edited: Edited) -> None:
    data = edited.foreign.read_bytes()
    for path in edited.home.path.rglob("*"):
        if path.is_file() and edited.home.reports not in path.parents:
            content = path.read_bytes()
            assert b"zebrawood" not in content, path
            assert data[200:260] not in content, path
    assert not list(edited.home.path.glob("runs/*/request"))
    assert b"zebrawood" not in Path(edited.foreign_edited["files"][0]["path"]).read_bytes()


def clip_of(*sizes: int) -> bytes:
    """An animation of frames of these sizes."""
    frames = [drawing(number, size=size) for number, size in enumerate(sizes)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("text.png", b"hello", "no picture or clip"),
        ("cut.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "no whole picture or clip"),
        ("clip.gif", clip_of(20, 20, 20), "the model makes pictures"),
        ("missing.png", None, "No such file"),
    ],
    ids=["no picture", "cut off", "a clip", "missing"],
)
def test_a_source_that_cannot_be_used_is_one_line(edited: Edited, tmp_path: Path, name: str, data: Any, words: str) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    refused = edited.call("generate", edited.model, "--from", path, "--strength", 0.5, "--out", tmp_path / "out")
    assert refused.exit_code == 3
    assert words in refused.stderr
    assert [line.partition(":")[0] for line in refused.stderr.rstrip().splitlines()][-2:] == ["error", "hint"]
    assert not (tmp_path / "out").exists()
