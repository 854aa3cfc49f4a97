"""A codec that compresses in time through both pipelines, by the command line: trained, learnt in, generated from."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipelines.calling import Called, call, call_here, flags, run_training
from tests.pipelines.conftest import copy_home
from tests.pipelines.test_video import frames_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DATA = [
    "data.source=moving-openmoji",
    "data.categories=[food, animals]",
    "data.limit=60",
    "data.size=16",
    "data.frames=16",
    "data.fps=4",
]
CODEC = [
    "train_codec.architecture=causal_3d",
    "train_codec.latent_channels=6",
    "train_codec.encoder_widths=[4, 8, 8]",
    "train_codec.decoder_widths=[4, 8, 8]",
    "train_codec.num_steps=4",
    "train_codec.batch_size=2",
    "train_codec.crop_size=16",
    "train_codec.divisors=[1]",
]
MODEL = [
    "train_dit.num_steps=4",
    "train_dit.batch_size=4",
    "train_dit.patch_size=[1, 2, 2]",
    "train_dit.frame_times=context",
    "train_dit.hidden_size=16",
    "train_dit.depth=1",
    "train_dit.num_heads=2",
    "train_dit.warmup_steps=1",
    "train_dit.sampling_num_steps=2",
    "evaluate.num_samples=8",
    "evaluate.feature_size=32",
    "evaluate.num_resamples=100",
]


@pytest.fixture(scope="module")
def trained(home_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Called]:
    """A home in which a causal codec was trained for a moment, and a model of its latents."""
    home = tmp_path_factory.mktemp("causal") / "home"
    copy_home(home_template, home)
    codec = call(home, "--json", "run", "codec", *flags([*DATA, *CODEC]))
    assert codec.exit_code == 0, codec.stdout + codec.stderr
    (report,) = home.glob("work/*/outputs/codec/report.json")
    called = run_training(home, [*DATA, *MODEL, f"codec={report.parent}"])
    assert called.exit_code == 0, called.stdout + called.stderr
    return home, called


def only(home: Path, pattern: str) -> dict:
    (path,) = home.glob(pattern)
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_codec_tells_what_it_keeps_of_clips(trained: tuple[Path, Called]) -> None:
    home, _ = trained
    report = only(home, "work/*/outputs/codec/report.json")
    assert (report["downscale"], report["temporal_downscale"], report["dataset"]["num_frames"]) == (4, 4, 16)
    held_out = report["sizes"]["16"]["holdout"]
    assert 0 < held_out["flicker"] < 1
    assert 0 < held_out["original_flicker"] < 1
    assert held_out["margin_db"] == pytest.approx(held_out["psnr"] - held_out["patch_pca_psnr"], abs=2e-4)
    (picture,) = home.glob("work/*/outputs/codec/reconstructions.png")
    with Image.open(picture) as drawn:
        assert drawn.size == (14 * (32 + 4) + 4, 9 * (32 + 4) + 4)  # three clips: originals, codec's, linear codec's


def test_latents_and_model_say_how_many_frames_their_latents_code(trained: tuple[Path, Called]) -> None:
    home, _ = trained
    for pattern in ("work/*/outputs/latents/config.json", "work/*/outputs/model/config.json"):
        config = only(home, pattern)
        assert (config["latent_shape"], config["num_frames"], config["fps"]) == ([6, 4, 4, 4], 16, 4)
    card = next(home.glob("mlartifacts/**/MODEL_CARD.md")).read_text(encoding="utf-8")
    assert "clips of 16 frames at 4 a second" in card
    assert "| frames that these latent frames code | 16 |" in card


def test_a_clip_and_a_picture_are_generated_and_verified(trained: tuple[Path, Called], tmp_path: Path) -> None:
    home, called = trained
    made = {}
    for name, options in (
        ("clip", ["--format", "webp"]),
        ("short", ["--format", "webp", "--frames", 6]),
        ("one", ["--frames", 1]),
    ):
        asked = ["generate", called.document["model_version"], "--label", "food", "--seed", 3, *options, "--out", tmp_path / name]
        called_now = call_here(home, "--json", *asked)
        assert called_now.exit_code == 0, called_now.stderr
        (file,) = called_now.document["files"]
        made[name] = file["path"]
        assert call_here(home, "content", "verify", file["path"]).exit_code == 0
    assert frames_of(made["clip"]).shape == (16, 16, 16, 3)
    assert frames_of(made["short"]).shape == (6, 16, 16, 3)
    with Image.open(io.BytesIO(Path(made["one"]).read_bytes())) as picture:
        assert (picture.format, picture.size) == ("PNG", (16, 16))


def test_longer_clips_are_refused_in_one_line(trained: tuple[Path, Called], tmp_path: Path) -> None:
    home, called = trained
    asked = ["--label", "food", "--frames", 17, "--out", tmp_path / "out"]
    refused = call_here(home, "generate", called.document["model_version"], *asked)
    assert refused.exit_code == 3
    assert "the model makes clips of up to 16 frames, not of 17: its codec compresses in time" in refused.stderr
    assert refused.stderr.rstrip().splitlines()[-1].startswith("hint: ask for fewer frames")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def given(trained: tuple[Path, Called], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A clip of the home's own, and its frames as the codec makes them."""
    home, called = trained
    out, model = tmp_path_factory.mktemp("given"), called.document["model_version"]
    (file,) = call_here(home, "--json", "generate", model, "--label", "food", "--format", "webp", "--out", out).document["files"]
    again = call_here(
        home, "--json", "generate", model, "--from", file["path"], "--strength", 0, "--format", "webp", "--out", out
    )
    assert again.exit_code == 0, again.stderr
    return Path(file["path"]), frames_of(again.document["files"][0]["path"])


def test_a_clip_goes_on_from_whole_groups_of_frames(
    trained: tuple[Path, Called], given: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    home, called = trained
    path, whole = given
    asked = ["--from", path, "--keep-frames", "0-7", "--label", "food", "--format", "webp", "--out", tmp_path / "kept"]
    made = call_here(home, "--json", "generate", called.document["model_version"], *asked)
    assert made.exit_code == 0, made.stderr
    found = frames_of(made.document["files"][0]["path"])
    assert np.array_equal(found[:8], whole[:8])  # frames that follow change nothing of those before
    assert not np.array_equal(found[8:], whole[8:])


@pytest.mark.parametrize("options", [("--keep-frames", "0"), ("--keep-frames", "0-3,15"), ("--continue-frames", 3)])
def test_parts_of_groups_are_not_kept(
    trained: tuple[Path, Called], given: tuple[Path, np.ndarray], tmp_path: Path, options
) -> None:
    home, called = trained
    asked = ["--from", given[0], *options, "--label", "food", "--out", tmp_path / "out"]
    refused = call_here(home, "generate", called.document["model_version"], *asked)
    assert refused.exit_code == 3
    assert "are one to the model's codec: all of them stay, or none" in refused.stderr
    assert "whole groups of 4 frames" in refused.stderr.rstrip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
