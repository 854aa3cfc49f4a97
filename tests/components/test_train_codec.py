import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from components.train_codec.config import Config
from components.train_codec.step import codec_config, run
from governance.errors import IntegrityError, RefusedError
from model_core.codec.batches import to_unit_range
from model_core.codec.io import load_codec
from model_core.codec.patch_pca import fit_patch_pca
from model_core.codec.quality import psnr
from model_core.data.dataset import Dataset
from model_core.errors import BadDataError, BadModelError
from tests.components.codec_steps import SMALL, Recorder, contents, empty, ports, validated_dataset


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_codec_is_trained_measured_and_drawn(tmp_path: Path) -> None:
    inputs, recorder = validated_dataset(tmp_path), Recorder()
    folder = empty(tmp_path / "codec")
    report = run(SMALL, inputs, {"codec": folder}, ports(tmp_path / "scratch", recorder))
    names = {"config.json", "codec.safetensors", "report.json", "reconstructions.png", "loss_curve.png"}
    assert set(contents(folder)) == names
    assert recorder.updates[-1] == (4, 4, "training the codec")
    assert recorder.metrics[-1][0] == 4
    written = json.loads((folder / "report.json").read_text())
    assert written["training"]["num_steps"] == 4
    assert set(written["sizes"]) == {"16", "8"}
    assert report.metrics["margin_db"] == written["margin_db"]
    assert report.facts["dataset"]["licences"] == ["CC0-1.0"]
    assert all(name in names for name in report.artifacts["codec"])


def test_reported_figures_are_those_of_the_codec_on_held_out_pictures(tmp_path: Path) -> None:
    inputs, folder = validated_dataset(tmp_path), empty(tmp_path / "codec")
    run(SMALL, inputs, {"codec": folder}, ports(tmp_path / "scratch", Recorder()))
    written = json.loads((folder / "report.json").read_text())["sizes"]["16"]["holdout"]
    dataset, codec = Dataset.open(inputs["dataset"]), load_codec(folder)
    train, held_out = (to_unit_range(torch.from_numpy(dataset.images(dataset.rows(split)))) for split in ("train", "holdout"))
    decoded = codec.decode(codec.encode(held_out.unsqueeze(2))).squeeze(2)
    linear = fit_patch_pca(train, downscale=4, num_components=4).reconstruct(held_out)
    assert written["psnr"] == pytest.approx(float(psnr(held_out, decoded).mean()), abs=1e-3)
    assert written["patch_pca_psnr"] == pytest.approx(float(psnr(held_out, linear).mean()), abs=1e-3)
    assert written["margin_db"] == pytest.approx(written["psnr"] - written["patch_pca_psnr"], abs=1e-3)
    assert written["num_items"] == len(held_out) == 4


def test_an_interrupted_step_ends_in_the_same_bytes(tmp_path: Path) -> None:
    inputs = validated_dataset(tmp_path)
    whole, resumed = empty(tmp_path / "whole"), empty(tmp_path / "resumed")
    run(SMALL, inputs, {"codec": whole}, ports(tmp_path / "a", Recorder()))
    with pytest.raises(KeyboardInterrupt):
        run(SMALL, inputs, {"codec": resumed}, ports(tmp_path / "b", Recorder(stop_at=3)))
    recorder = Recorder()
    run(SMALL, inputs, {"codec": resumed}, ports(tmp_path / "b", recorder))
    assert recorder.updates[0][0] == 3  # goes on after the checkpoint of step 2
    assert contents(resumed) == contents(whole)


def test_a_dataset_that_changed_after_validation_is_refused(tmp_path: Path) -> None:
    inputs = validated_dataset(tmp_path)
    (inputs["dataset"] / "added.txt").write_text("new")
    with pytest.raises(IntegrityError, match="changed since"):
        run(SMALL, inputs, {"codec": empty(tmp_path / "codec")}, ports(tmp_path / "scratch", Recorder()))


def test_a_dataset_that_failed_validation_is_refused(tmp_path: Path) -> None:
    inputs = validated_dataset(tmp_path)
    report = json.loads((inputs["validation"] / "report.json").read_text())
    (inputs["validation"] / "report.json").write_text(json.dumps({**report, "success": False}))
    with pytest.raises(RefusedError, match="did not pass"):
        run(SMALL, inputs, {"codec": empty(tmp_path / "codec")}, ports(tmp_path / "scratch", Recorder()))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"downscale": 3}, BadModelError),
        ({"divisors": (4,)}, BadDataError),
        ({"crop_size": 10}, BadModelError),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, object], error: type[Exception]) -> None:
    inputs = validated_dataset(tmp_path)
    config = SMALL.model_copy(update=changes)
    with pytest.raises(error):
        run(config, inputs, {"codec": empty(tmp_path / "codec")}, ports(tmp_path / "scratch", Recorder()))


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="num_step"):
        Config(num_step=3)  # type: ignore[call-arg]


def test_the_shipped_codec_s_latents_have_eight_channels_at_a_quarter() -> None:
    config = codec_config(Config())
    assert config.latent_shape(1, 32, 32) == (8, 1, 8, 8)
