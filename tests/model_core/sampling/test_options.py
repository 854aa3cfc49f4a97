import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from model_core.codec.autoencoder import Codec
from model_core.codec.config import CodecConfig
from model_core.diffusion.guidance import Guidance
from model_core.diffusion.schedules import noise_schedule
from model_core.errors import BadDataError
from model_core.sampling.ddim import ddim
from model_core.sampling.generate import generate_images
from model_core.sampling.options import SamplingOptions, option_in_vain, options_in_effect
from model_core.sampling.points import schedule_points
from model_core.sampling.sample import sample_latents
from model_core.sampling.steps import estimator
from model_core.transformer.model_config import SamplingDefaults
from tests.model_core.sampling.model import condition, latents, model_config, transformer
from tests.model_core.toy_latents import ARCHITECTURE

ALL = {"guidance_interval": (0.2, 0.8), "guidance_rescale": 0.7, "time_shift": 3.0, "cache_interval": 2}
OFF = {"guidance_interval": (0.0, 1.0), "guidance_rescale": 0.0, "time_shift": 1.0, "cache_interval": 1, "eta": 0.0}


def _sample(objective, **options):
    seeds = iter(range(100, 1000))
    return sample_latents(
        transformer(),
        model_config(objective),
        noise=latents(),
        condition=condition(),
        num_steps=4,
        guidance=Guidance(),
        draw_noise=lambda: latents(next(seeds)),
        **options,
    )


def _generate(objective="rectified_flow", *, defaults=None, **options):
    torch.manual_seed(0)
    codec = CodecConfig(
        latent_channels=4, downscale=2, encoder_widths=(4, 4), encoder_blocks=(0, 0), decoder_widths=(4, 4), decoder_blocks=(0, 0)
    )
    config = model_config(objective, sampling=SamplingDefaults(num_steps=4, guidance_scale=4.0, **(defaults or {})))
    return generate_images(transformer(), config, Codec(codec).eval(), labels=(0, 1, 0), seeds=(1, 2, 3), **options)


def test_eta_is_ddims():
    seeds = iter(range(100, 1000))
    states = ddim(
        estimator(lambda x_t, timestep: transformer().predict(x_t, timestep, condition()), "epsilon"),
        latents(),
        schedule_points(noise_schedule("linear", 40), 4, spacing="trailing"),
        eta=0.5,
        draw_noise=lambda: latents(next(seeds)),
    )
    *_, last = states
    torch.testing.assert_close(_sample("epsilon", eta=0.5), last.x_t, atol=1e-5, rtol=1e-5)
    assert torch.equal(_sample("epsilon", eta=0.0), _sample("epsilon"))
    assert not torch.equal(_sample("epsilon", eta=0.5), _sample("epsilon"))


def test_the_large_variance_draws_more_noise_than_the_small_one():
    small, large = (_sample("v", sampler="ddpm", ddpm_variance=variance) for variance in ("small", "large"))
    assert torch.equal(small, _sample("v", sampler="ddpm"))
    assert not torch.equal(small, large)


@pytest.mark.parametrize("name", [*ALL, None])
def test_a_models_own_options_hold_where_nothing_else_is_asked_for(name):
    chosen = ALL if name is None else {name: ALL[name]}
    found = _generate(defaults=chosen)
    assert np.array_equal(found, _generate(**chosen))
    assert not np.array_equal(found, _generate())


def test_every_option_of_a_model_can_be_turned_off():
    assert np.array_equal(_generate(defaults=ALL, **{name: OFF[name] for name in ALL}), _generate())
    assert np.array_equal(_generate("epsilon", defaults={"eta": 1.0}, eta=OFF["eta"]), _generate("epsilon"))


def test_options_of_one_sampler_do_not_hinder_another():
    for own, other, option in (("ddim", "unipc", {"eta": 1.0}), ("ddpm", "ddim", {"ddpm_variance": "large"})):
        found = _generate("v", defaults={"sampler": own, **option}, sampler=other)
        assert np.array_equal(found, _generate("v", sampler=other))
        assert not np.array_equal(_generate("v", defaults={"sampler": own, **option}), _generate("v", sampler=own))


@pytest.mark.parametrize(
    ("objective", "options", "said"),
    [
        ("v", {"time_shift": 2.0}, "a time shift is for rectified flow"),
        ("rectified_flow", {"eta": 0.5}, "eta is 0.5, which the sampler euler does not read"),
        ("v", {"sampler": "unipc", "eta": 0.5}, "the sampler unipc does not read"),
        ("v", {"eta": 1.5}, "eta is 1.5"),
        ("v", {"ddpm_variance": "large"}, "ddpm_variance is large, which the sampler ddim does not read"),
        ("v", {"guidance_interval": (0.8, 0.2)}, "guidance interval is 0.8 to 0.2"),
        ("v", {"guidance_rescale": 2.0}, "guidance rescale is 2.0"),
        ("v", {"cache_interval": 0}, "interval is 0"),
    ],
)
def test_an_option_that_would_not_be_read_or_means_nothing_is_refused_with_a_hint(objective, options, said):
    with pytest.raises(BadDataError, match=said) as caught:
        _generate(objective, **options)
    assert caught.value.hint


def test_a_fixed_variance_is_no_option_of_a_network_that_learns_its_own():
    learned = {"learn_variance": True, "ddpm_variance": "small"}
    assert "learns its variance" in (option_in_vain("ddpm", "epsilon", **learned) or ("",))[0]
    assert option_in_vain("ddpm", "epsilon", **{**learned, "learn_variance": False}) is None
    assert not ARCHITECTURE.learn_variance


def test_what_was_given_wins_over_what_the_model_has():
    defaults = {"eta": 0.5, "cache_interval": 2}
    assert options_in_effect(defaults, {"eta": None, "cache_interval": 3}, "ddim") == {"eta": 0.5, "cache_interval": 3}
    assert options_in_effect(defaults, {}, "unipc") == {"cache_interval": 2}
    assert options_in_effect(defaults, {"eta": 0.1}, "unipc") == {"eta": 0.1, "cache_interval": 2}  # which the sampler refuses


@pytest.mark.parametrize(
    "options",
    [
        {"guidance_interval": (0.5, 0.5)},
        {"guidance_interval": (-0.1, 0.5)},
        {"guidance_interval": (0.5, float("nan"))},
        {"guidance_interval": (0.5,)},
        {"guidance_rescale": 1.1},
        {"time_shift": 0.0},
        {"time_shift": float("inf")},
        {"cache_interval": 0},
        {"eta": -0.1},
        {"ddpm_variance": "learned"},
    ],
)
def test_values_that_mean_nothing_are_refused_by_name(options):
    with pytest.raises(ValidationError) as caught:
        SamplingOptions.model_validate(options)
    assert caught.value.errors()[0]["loc"][0] == next(iter(options))


def test_importing_it_imports_no_tensors():
    code = f"import sys; import {SamplingOptions.__module__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
