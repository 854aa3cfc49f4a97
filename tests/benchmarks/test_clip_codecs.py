import json
from pathlib import Path

import pytest
import torch

from benchmarks.clip_codecs import CODECS, RECIPES, SHIPPED, judged, linear, main, settings
from components.train_codec.step import codec_config
from model_core.data.importing import import_dataset
from tests.model_core.codec.small import moving


def test_each_codec_is_trained_on_as_many_pixels_a_step() -> None:
    pixels = set()
    for name in set(CODECS) - {SHIPPED}:
        for recipe in RECIPES:
            config = settings(name, recipe, 10, 8)
            frames = config.batch_size * (8 if codec_config(config).temporal_factor > 1 else 1)
            pixels.add(frames * config.crop_size**2)
    assert pixels == {4 * 8 * 32**2}


def test_linear_codecs_of_all_components_lose_nothing_and_their_values_are_counted() -> None:
    clips = moving(4, 8, 8)
    for name, channels, values in (("compact", 48, 8 * 48 * 4), ("causal-3d", 192, 2 * 192 * 4)):
        config = codec_config(settings(name, "squared", 1, 8).model_copy(update={"latent_channels": channels}))
        found = linear(config, clips, clips)
        torch.testing.assert_close(found, clips, atol=1e-5, rtol=0)
        row = judged(name, config, clips, found, None)
        assert (row["values_a_clip"], row["seconds"]) == (values, None)
        assert row["psnr"] > 90
        assert row["flicker"] == pytest.approx(row["original_flicker"], abs=1e-4)


@pytest.mark.slow
def test_codecs_are_measured_on_held_out_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_dataset("moving-openmoji", tmp_path / "data", size=16, frames=8, limit=24, categories=("food",), workers=1)
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--results", str(tmp_path / "found.json")]
    assert main([*arguments, "--codecs", "causal-3d-small", "--steps", "2"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["codec"] for row in found["codecs"]] == ["causal-3d-small", "linear, 8x2x4x4"]
    assert {row["values_a_clip"] for row in found["codecs"]} == {8 * 2 * 4 * 4}
    capsys.readouterr()
    assert main([*arguments, "--codecs", "causal-4d"]) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "error: there is no codec 'causal-4d'"
    assert said[1].startswith("hint: choose from shipped")
