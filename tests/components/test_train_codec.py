import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from components.encode_latents.config import Config as EncodeConfig
from components.encode_latents.step import run as encode_latents
from components.train_codec.config import Config
from components.train_codec.step import codec_config, codec_training, run
from governance.errors import IntegrityError, RefusedError
from model_core.codec.batches import to_unit_range
from model_core.codec.io import load_codec, save_codec
from model_core.codec.patch_pca import fit_patch_pca
from model_core.codec.quality import psnr
from model_core.data.dataset import Dataset
from model_core.data.latents import LatentDataset
from model_core.errors import BadDataError, BadModelError
from tests.components.codec_steps import SMALL, Recorder, contents, empty, ports, validated_dataset
from tests.model_core.codec.small import small_kl_codec

SHIPPED = Path(__file__).parents[2] / "infra/codecs/openmoji-f4c8/codec"


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


def test_where_it_was_trained_is_no_part_of_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    inputs = validated_dataset(tmp_path)
    auto, cpu = empty(tmp_path / "auto"), empty(tmp_path / "cpu")
    run(SMALL, inputs, {"codec": auto}, ports(tmp_path / "a", Recorder()))
    run(SMALL.model_copy(update={"device": "cpu"}), inputs, {"codec": cpu}, ports(tmp_path / "b", Recorder()))
    assert contents(auto) == contents(cpu)
    with pytest.raises(BadModelError, match="no CUDA GPU"):
        run(SMALL.model_copy(update={"device": "cuda"}), inputs, {"codec": cpu}, ports(tmp_path / "c", Recorder()))


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


@pytest.mark.parametrize(
    "changes",
    [
        {"adversarial_weight": 0.8, "adversarial_start": 2, "discriminator_width": 2, "discriminator_layers": 1},
        {
            "architecture": "autoencoder_kl",
            "block_out_channels": (4, 8, 8),
            "layers_per_block": 1,
            "norm_num_groups": 2,
            "kl_unit": "pixel",
        },
        {"posterior": "deterministic", "kl_weight": 0.0},
        {"architecture": "causal_3d", "temporal_downscale": 2},
    ],
    ids=["adversarial", "autoencoder_kl", "deterministic", "causal_3d"],
)
def test_other_recipes_end_in_the_same_bytes_after_an_interruption(tmp_path: Path, changes: dict[str, object]) -> None:
    config, inputs = SMALL.model_copy(update=changes), validated_dataset(tmp_path)
    whole, resumed = empty(tmp_path / "whole"), empty(tmp_path / "resumed")
    run(config, inputs, {"codec": whole}, ports(tmp_path / "a", Recorder()))
    with pytest.raises(KeyboardInterrupt):
        run(config, inputs, {"codec": resumed}, ports(tmp_path / "b", Recorder(stop_at=3)))
    run(config, inputs, {"codec": resumed}, ports(tmp_path / "b", Recorder()))
    assert contents(resumed) == contents(whole)
    codec = load_codec(whole)
    assert codec.config == load_codec(resumed).config
    assert json.loads((whole / "report.json").read_text())["downscale"] == 4
    assert codec.encode(torch.zeros(1, 3, 1, 16, 16)).shape == (1, 4, 1, 4, 4)


class LengthEncoder:
    """A text encoder of one number, the text's length."""

    name, digest, dim = "length", "f" * 64, 1

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[float(len(text))] for text in texts])


def test_latents_of_a_dataset_are_made_by_a_kl_autoencoder_as_by_any_codec(tmp_path: Path) -> None:
    inputs, folder, latents = validated_dataset(tmp_path), empty(tmp_path / "codec"), empty(tmp_path / "latents")
    codec = small_kl_codec(latent_mean=(0.1,) * 4, latent_std=(2.0,) * 4)
    save_codec(codec, folder)
    scratch = ports(tmp_path / "scratch", Recorder())
    encode_latents(EncodeConfig(), {**inputs, "codec": folder}, {"latents": latents}, scratch, text_encoder=LengthEncoder())
    dataset, opened = Dataset.open(inputs["dataset"]), LatentDataset.open(latents)
    frames = to_unit_range(torch.from_numpy(dataset.images([0, 5])))
    torch.testing.assert_close(opened.latents([0, 5]), codec.encode(frames.unsqueeze(2)), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_perceptual_network_is_named_in_the_report(tmp_path: Path) -> None:
    inputs, folder = validated_dataset(tmp_path), empty(tmp_path / "codec")
    config = SMALL.model_copy(update={"perceptual_weight": 0.1, "crop_size": 16, "divisors": (1,), "num_steps": 1})
    run(config, inputs, {"codec": folder}, ports(tmp_path / "scratch", Recorder()))
    report = json.loads((folder / "report.json").read_text())
    assert report["perceptual"]["network"].startswith("EfficientNet-Lite0 9386950811f5")
    assert "not stated" in report["perceptual"]["licence"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"adversarial_weight": 1.0, "discriminator_layers": 2}, "discriminator"),
        ({"posterior": "deterministic"}, "KL"),
        ({"architecture": "causal_3d", "posterior": "deterministic"}, "KL"),
        ({"architecture": "causal_3d", "temporal_downscale": 3}, "temporal_downscale is 3"),
        ({"architecture": "autoencoder_kl", "block_out_channels": (4, 6), "norm_num_groups": 4}, "norm_num_groups"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, object], what: str) -> None:
    inputs, config = validated_dataset(tmp_path), SMALL.model_copy(update=changes)
    with pytest.raises(BadModelError, match=what):
        run(config, inputs, {"codec": empty(tmp_path / "codec")}, ports(tmp_path / "scratch", Recorder()))


@pytest.mark.parametrize(
    "changes", [{"architecture": "vq"}, {"posterior": "none"}, {"perceptual_weight": -1}, {"kl_unit": "bit"}]
)
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config(**changes)  # type: ignore[arg-type]


def test_the_defaults_are_the_training_of_the_shipped_codec() -> None:
    training = codec_training(Config())
    assert training.adversarial is None
    assert (training.weights.perceptual, training.weights.kl_unit, training.weights.kl) == (0.0, "latent", 1e-3)
    assert set(codec_config(Config()).to_dict()) == set(json.loads((SHIPPED / "config.json").read_text()))


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="num_step"):
        Config(num_step=3)  # type: ignore[call-arg]


def test_the_shipped_codec_s_latents_have_eight_channels_at_a_quarter() -> None:
    config = codec_config(Config())
    assert config.latent_shape(1, 32, 32) == (8, 1, 8, 8)
