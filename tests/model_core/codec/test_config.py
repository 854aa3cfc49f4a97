import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.codec.config import CodecConfig, LatentConfig
from model_core.codec.kl_config import KLAutoencoderConfig
from model_core.errors import BadModelError
from tests.model_core.codec.small import small_config, small_kl_config


@given(channels=st.integers(1, 32), downscale=st.sampled_from([2, 4, 8]), data=st.data())
def test_reading_what_was_written_gives_the_same_config(channels: int, downscale: int, data: st.DataObject) -> None:
    levels = downscale.bit_length()
    widths = st.lists(st.integers(1, 64), min_size=levels, max_size=levels).map(tuple)
    numbers = st.lists(st.floats(0.1, 9), min_size=channels, max_size=channels).map(tuple)
    config = CodecConfig(
        latent_channels=channels,
        downscale=downscale,
        encoder_widths=data.draw(widths),
        encoder_blocks=(1,) * levels,
        decoder_widths=data.draw(widths),
        decoder_blocks=(0,) * levels,
        latent_mean=data.draw(numbers),
        latent_std=data.draw(numbers),
    )
    assert CodecConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"latent_channels": 0}, "latent_channels"),
        ({"downscale": 3}, "downscale"),
        ({"downscale": 8}, "levels"),
        ({"encoder_widths": (4, 8, 0)}, "encoder_widths"),
        ({"decoder_blocks": (0, -1, 1)}, "decoder_blocks"),
        ({"latent_mean": (0.0,) * 4}, "latent_mean"),
        ({"latent_mean": (0.0,) * 4, "latent_std": (0.0,) * 4}, "latent_std"),
        ({"latent_mean": (float("nan"),) * 4, "latent_std": (1.0,) * 4}, "latent_mean"),
    ],
)
def test_values_that_describe_no_codec_are_refused(changes: dict[str, object], what: str) -> None:
    with pytest.raises(BadModelError, match=what):
        small_config(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "other/1"},
        {"extra": 1},
        {"latent_channels": "4"},
        {"latent_channels": True},
        {"downscale": [4]},
        {"encoder_widths": 4},
    ],
)
def test_a_config_of_another_form_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadModelError):
        CodecConfig.from_dict({**small_config().to_dict(), **changes})


def test_a_missing_key_is_named() -> None:
    values = small_config().to_dict()
    del values["downscale"]
    with pytest.raises(BadModelError, match="downscale"):
        CodecConfig.from_dict(values)


def test_sizes_that_the_factor_does_not_divide_are_refused() -> None:
    assert small_config().latent_shape(2, 32, 64) == (4, 2, 8, 16)
    with pytest.raises(BadModelError, match="30x32"):
        small_config().latent_shape(1, 32, 30)


def test_importing_the_config_imports_no_tensors() -> None:
    modules = (
        "model_core.codec.config, model_core.codec.kl_config, components.train_codec.config, components.encode_latents.config"
    )
    code = f"import {modules}, sys; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_config_says_its_architecture_only_where_it_is_not_the_first() -> None:
    assert set(small_config().to_dict()) == {
        "format", "latent_channels", "downscale", "encoder_widths", "encoder_blocks", "decoder_widths", "decoder_blocks",
        "latent_mean", "latent_std",
    }  # fmt: skip
    assert CodecConfig.from_dict({**small_config().to_dict(), "architecture": "compact"}) == small_config()
    assert small_kl_config().to_dict()["architecture"] == "autoencoder_kl"


@pytest.mark.parametrize("config", [small_config(posterior="deterministic"), small_kl_config(use_quant_conv=False)])
def test_other_kinds_come_back_as_they_were_written(config: LatentConfig) -> None:
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "compact"},
        {"architecture": None},
        {"use_quant_conv": 1},
        {"block_out_channels": 4},
        {"block_out_channels": [4, 8.0, 8]},
        {"downscale": 4},
        {"layers_per_block": 1 << 60},
    ],
)
def test_a_kl_autoencoder_s_config_of_another_form_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadModelError):
        KLAutoencoderConfig.from_dict({**small_kl_config().to_dict(), **changes})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"latent_channels": 0}, "latent_channels"),
        ({"block_out_channels": (4,)}, "block_out_channels"),
        ({"block_out_channels": (4, 0)}, "block_out_channels"),
        ({"layers_per_block": 0}, "layers_per_block"),
        ({"norm_num_groups": 3}, "norm_num_groups"),
        ({"latent_mean": (0.0,)}, "latent_mean"),
    ],
)
def test_values_that_describe_no_kl_autoencoder_are_refused(changes: dict[str, object], what: str) -> None:
    with pytest.raises(BadModelError, match=what):
        small_kl_config(**changes)


def test_a_posterior_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(BadModelError, match="posterior"):
        small_config(posterior="uniform")


def test_a_kl_autoencoder_halves_the_sides_at_each_level_but_the_last() -> None:
    assert small_kl_config().latent_shape(1, 32, 64) == (4, 1, 8, 16)
    with pytest.raises(BadModelError, match="30x32"):
        small_kl_config().latent_shape(1, 32, 30)
