"""The watermark from `groundswell generate` to `groundswell content verify`, after the metadata are gone."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select, update

from governance import lineage
from infra.home import Home
from infra.keys import CONTENT_ROOT
from infra.ledger import iter_entries
from infra.lineage import record_event
from infra.model_versions import find_version
from infra.settings import Settings
from infra.tables import assets, metadata
from infra.watermark import watermark_secrets
from pipelines.generation import GenerateOutcome, GenerateRequest, generate
from tests.content_world import drawing
from tests.groundswell.conftest import Cli
from tests.marked_world import register_model
from tests.model_core.watermark.copying import copy_mark
from tests.pipelines.conftest import copy_home

pytestmark = pytest.mark.timeout(300)

DATASET = "da" * 32
PICTURES, CLIPS, SMALL, TINY = "emoji-dit/1", "emoji-dit/2", "emoji-dit/3", "emoji-dit/4"


@dataclass(frozen=True)
class World:
    """A home that has generated pictures twice by the same request, a clip, and pictures of few pixels."""

    home: Home
    made: dict[str, GenerateOutcome]

    def path(self, name: str) -> Path:
        return self.made[name].files[0].path


def _generate(home: Home, model: str, out: Path, **options: Any) -> GenerateOutcome:
    return generate(home, GenerateRequest(model=model, label="food", device="cpu", out=out, **options), actor="system")


def _record_training(home: Home, root_digest: str) -> None:
    with home.database.unit_of_work() as uow:
        event = lineage.run_event(
            "COMPLETE",
            lineage.StepIdentity(run_id="22222222-2222-3333-4444-555555555555", pipeline="training", step="register_model"),
            time=uow.time,
            inputs=[lineage.ArtifactRef(kind="dataset", digest=DATASET)],
            outputs=[lineage.ArtifactRef(kind="package", digest=root_digest)],
            code_digest="c" * 64,
        )
        record_event(uow, event)


@pytest.fixture(scope="module")
def world(home_template: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("marked")
    copy_home(home_template, folder / "home")
    home = Home.open(Settings.load(folder / "home"))
    for version, (size, num_frames) in enumerate([(256, 1), (128, 8), (64, 1), (32, 1)], 1):
        register_model(home, folder / str(version), size=size, num_frames=num_frames, version=version)
    _record_training(home, find_version(home.database, PICTURES).root_digest)
    made = {
        "first": _generate(home, PICTURES, folder / "out", num_images=2),
        "again": _generate(home, PICTURES, folder / "out", num_images=1, batch_size=4),
        "other": _generate(home, PICTURES, folder / "out", seed=1),
        "clip": _generate(home, CLIPS, folder / "out"),
        "small": _generate(home, SMALL, folder / "out"),
        "tiny": _generate(home, TINY, folder / "out"),
    }
    return World(home, made)


@pytest.fixture
def own(world: World, tmp_path: Path) -> Home:
    """A copy of the home, which a test may harm."""
    copy_home(world.home.path, tmp_path / "own")
    return Home.open(Settings.load(tmp_path / "own"))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


ATTACKS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 50": lambda picture: picture,
    "half the size": lambda picture: picture.resize((128, 128), Image.Resampling.BICUBIC),
    "crop of 10 %": lambda picture: picture.crop((15, 9, 245, 239)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_picture_without_metadata_is_told_by_its_watermark(cli: Cli, world: World, tmp_path: Path, attack: str) -> None:
    run_id, copy = world.made["other"].run_id, tmp_path / "copy.jpg"
    ATTACKS[attack](Image.fromarray(pixels(world.path("other")))).save(copy, quality=50 if attack.startswith("JPEG") else 90)
    called = cli("--home", world.home.path, "content", "verify", copy)
    assert called.exit_code == 4, "a mark can be copied, so that it is no proof"
    assert called.stdout.startswith("made by model emoji-dit version 1, ")
    assert called.stdout.splitlines()[0].endswith(f", trained on dataset {DATASET[:16]}, by its watermark alone")
    assert f"0 of run {run_id}" in called.stdout
    assert "rests on  the watermark alone: evidence, no proof" in called.stdout
    assert "rests on its watermark alone, and marks can be copied" in called.stderr
    assert called.stderr.splitlines()[1].startswith("hint: ")
    accepted = cli("--home", world.home.path, "--json", "content", "verify", copy, "--accept-watermark")
    assert (accepted.exit_code, accepted.document["exit_code"], accepted.document["ok"]) == (0, 0, False)
    attribution, mark = accepted.document["attribution"], accepted.document["watermark"]
    assert (attribution["model"], attribution["run_id"]) == (PICTURES, run_id)
    assert (attribution["basis"], attribution["proven_by"]) == ("watermark", [])
    assert (mark["found"], mark["id"]) == (True, world.made["other"].files[0].watermark_id)
    assert mark["false_positive_probability"] < 1e-9
    assert mark["wrong_id_probability"] < 1e-6


def test_a_clip_encoded_anew_is_told_by_its_watermark(cli: Cli, world: World, tmp_path: Path) -> None:
    with av.open(str(world.path("clip"))) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert len(frames) == 8
    path = tmp_path / "copy.mp4"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "28", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    document = cli("--home", world.home.path, "--json", "content", "verify", path).document
    assert document["num_frames"] == 8
    assert document["attribution"]["basis"] == "watermark", document["checks"]
    assert (document["attribution"]["model"], document["attribution"]["run_id"]) == (CLIPS, world.made["clip"].run_id)


def test_a_file_as_it_was_handed_out_is_proven_and_bears_its_id(cli: Cli, world: World) -> None:
    for name in ("first", "clip"):
        document = cli("--home", world.home.path, "--json", "content", "verify", world.path(name)).document
        assert document["exit_code"] == 0, document["checks"]
        assert {check["outcome"] for check in document["checks"]} == {"held"}
        assert document["attribution"]["basis"] == "proof"
        assert document["attribution"]["proven_by"] == ["manifest", "digest", "pixels"]
        assert document["watermark"]["id"] == world.made[name].files[0].watermark_id
        assert [check["name"] for check in document["checks"]].index("watermark") == 3


def test_the_same_request_gives_the_same_pixels_and_both_runs_are_told(cli: Cli, world: World, tmp_path: Path) -> None:
    first, again = (world.made[name].files[0] for name in ("first", "again"))
    assert np.array_equal(pixels(first.path), pixels(again.path))
    assert first.watermark_id == again.watermark_id
    ids = {file.watermark_id for made in world.made.values() for file in made.files if file.watermark_id}
    assert len(ids) == 4, "another seed, number or model gives another id"
    Image.fromarray(pixels(first.path)).save(tmp_path / "copy.jpg", quality=60)
    called = cli("--home", world.home.path, "--json", "content", "verify", tmp_path / "copy.jpg")
    runs = [origin["run_id"] for origin in called.document["attribution"]["origins"]]
    assert runs == [world.made["first"].run_id, world.made["again"].run_id]
    told = cli("--home", world.home.path, "content", "verify", tmp_path / "copy.jpg").stdout
    assert all(f"0 of run {run}" in told for run in runs)


def test_what_nobody_marked_has_no_mark(cli: Cli, world: World, tmp_path: Path) -> None:
    drawing(90, size=256).save(tmp_path / "other.png")
    document = cli("--home", world.home.path, "--json", "content", "verify", tmp_path / "other.png").document
    assert (document["attribution"], document["exit_code"]) == (None, 4)
    assert (document["watermark"]["found"], document["watermark"]["id"]) == (False, None)
    (check,) = (one for one in document["checks"] if one["name"] == "watermark")
    assert (check["outcome"], "says nothing" in check["says"]) == ("absent", True)


def test_the_mark_of_another_home_attributes_nothing(cli: Cli, world: World, home: Home, tmp_path: Path) -> None:
    model = register_model(home, tmp_path / "model", size=256)
    own = _generate(home, model, tmp_path / "out")
    Image.fromarray(pixels(world.path("first"))).save(tmp_path / "theirs.png")
    document = cli("--home", home.path, "--json", "content", "verify", tmp_path / "theirs.png").document
    assert (document["attribution"], document["watermark"]["found"]) == (None, False)
    Image.fromarray(pixels(own.files[0].path)).save(tmp_path / "ours.jpg", quality=70)
    document = cli("--home", world.home.path, "--json", "content", "verify", tmp_path / "ours.jpg").document
    assert (document["attribution"], document["watermark"]["found"]) == (None, False)


def test_a_mark_without_an_id_says_no_model(cli: Cli, world: World, tmp_path: Path) -> None:
    file = world.made["small"].files[0]
    assert file.watermark_id is None
    assert cli("--home", world.home.path, "content", "verify", file.path).exit_code == 0
    Image.fromarray(pixels(file.path)).save(tmp_path / "copy.jpg", quality=80)
    called = cli("--home", world.home.path, "--json", "content", "verify", tmp_path / "copy.jpg", "--accept-watermark")
    (check,) = (one for one in called.document["checks"] if one["name"] == "watermark")
    assert (called.exit_code, called.document["attribution"], check["outcome"]) == (4, None, "unproven")
    assert "without an id" in check["says"]
    assert called.document["watermark"]["found"]


def test_what_is_too_small_is_not_marked_and_it_is_said(cli: Cli, world: World, own: Home) -> None:
    file = world.made["tiny"].files[0]
    assert file.watermark_id is None
    document = cli("--home", world.home.path, "--json", "content", "verify", file.path).document
    (check,) = (one for one in document["checks"] if one["name"] == "watermark")
    assert (document["exit_code"], check["outcome"]) == (0, "absent")
    assert "too small to bear one" in check["says"]


def test_a_copied_mark_is_told_by_its_looks_and_is_no_proof(cli: Cli, world: World, tmp_path: Path) -> None:
    victim = np.asarray(drawing(91, size=256))[None]
    forged = copy_mark(pixels(world.path("first"))[None], victim)
    Image.fromarray(forged[0]).save(tmp_path / "forged.png")
    called = cli("--home", world.home.path, "--json", "content", "verify", tmp_path / "forged.png")
    document = called.document
    assert document["watermark"]["id"] == world.made["first"].files[0].watermark_id, "otherwise this test shows nothing"
    assert (called.exit_code, document["attribution"]["basis"]) == (4, "watermark")
    (looks,) = (one for one in document["checks"] if one["name"] == "fingerprint")
    assert (looks["outcome"], "the mark was copied" in looks["says"]) == ("unproven", True)


def test_a_changed_id_on_record_is_found(cli: Cli, world: World, own: Home, tmp_path: Path) -> None:
    file, other = world.made["other"].files[0], world.made["first"].files[0]
    with own.database.engine.begin() as connection:
        connection.execute(update(assets).where(assets.c.sha256 == file.sha256).values(watermark_id=other.watermark_id))
    called = cli("--home", own.path, "audit", "verify")
    assert called.exit_code == 4
    assert "watermark_id" in called.stdout + called.stderr
    Image.fromarray(pixels(other.path)).save(tmp_path / "copy.jpg", quality=80)
    called = cli("--home", own.path, "content", "verify", tmp_path / "copy.jpg", "--accept-watermark")
    assert called.exit_code == 4
    assert "the watermark does not hold: its id" in called.stderr


def test_the_id_is_in_the_ledger_and_the_steps_list(world: World) -> None:
    file = world.made["other"].files[0]
    with world.home.database.read() as connection:
        row = connection.execute(select(assets.c.watermark_id).where(assets.c.sha256 == file.sha256)).one()
    said = [one.details["watermark_id"] for one in iter_entries(world.home.database) if one.subject == f"media:{file.sha256}"]
    assert (row.watermark_id, said) == (file.watermark_id, [file.watermark_id])
    listed = [json.loads(path.read_text()) for path in world.home.work.rglob("media.json")]
    assert file.watermark_id in {item["watermark_id"] for items in listed for item in items}


def test_the_key_is_nowhere(world: World) -> None:
    secrets = watermark_secrets(world.home)
    assert secrets.key.hex() not in repr(secrets)
    wanted = set()
    for key in (secrets.key, secrets.id_key):
        wanted |= {key, key.hex().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key)}
    files = [path for path in world.home.path.rglob("*") if path.is_file()]
    assert any(path.name == "media.json" for path in files)
    for path in files:
        data = path.read_bytes()  # the database among them
        assert not [one for one in wanted if one in data], path
    with world.home.database.read() as connection:
        told = "".join(repr(tuple(row)) for table in metadata.sorted_tables for row in connection.execute(select(table)))
    assert secrets.key.hex() not in told


def test_without_the_private_key_it_is_not_looked_for(cli: Cli, world: World, own: Home) -> None:
    own.keys.private_path(CONTENT_ROOT).unlink()
    called = cli("--home", own.path, "--json", "content", "verify", world.path("first"))
    (check,) = (one for one in called.document["checks"] if one["name"] == "watermark")
    assert (called.exit_code, check["outcome"], called.document["watermark"]) == (0, "skipped", None)
    assert "private key" in check["says"]


def test_a_rotated_key_of_content_credentials_changes_nothing(cli: Cli, world: World, own: Home, tmp_path: Path) -> None:
    assert cli("--home", own.path, "key", "rotate", "content-credentials").exit_code == 0
    Image.fromarray(pixels(world.path("other"))).save(tmp_path / "copy.jpg", quality=60)
    document = cli("--home", own.path, "--json", "content", "verify", tmp_path / "copy.jpg").document
    assert document["attribution"]["run_id"] == world.made["other"].run_id
    again = _generate(own, PICTURES, tmp_path / "out", seed=1)
    assert again.files[0].watermark_id == world.made["other"].files[0].watermark_id


def test_a_home_may_switch_it_off_and_the_run_says_so(cli: Cli, own: Home, tmp_path: Path, world: World) -> None:
    (own.path / "settings.toml").write_text('watermark = "off"\n')
    off = Home.open(Settings.load(own.path))
    made = _generate(off, PICTURES, tmp_path / "out", seed=1)
    assert made.files[0].watermark_id is None
    difference = pixels(made.files[0].path).astype(int) - pixels(world.path("other")).astype(int)
    assert 0 < np.abs(difference).mean() < 6, "the mark is all that differs"
    document = cli("--home", own.path, "--json", "runs", "show", made.run_id).document
    assert '"watermark": false' in json.dumps(document)
    (own.path / "settings.toml").write_text('watermark = "perhaps"\n')
    called = cli("--home", own.path, "models", "list")
    assert called.exit_code == 3
    assert called.stderr.splitlines() == ["error: the setting watermark is 'perhaps'", "hint: on or off"]
