import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.codec.autoencoder import Codec, Posterior
from model_core.errors import BadDataError, BadModelError
from tests.model_core.codec.small import pictures, small_codec, small_config


@settings(max_examples=12, deadline=None)
@given(batch=st.integers(1, 3), frames=st.integers(1, 3), height=st.integers(1, 3), width=st.integers(1, 3))
def test_shapes_come_back(batch: int, frames: int, height: int, width: int) -> None:
    codec = small_codec()
    pixels = torch.rand(batch, 3, frames, 4 * height, 4 * width) * 2 - 1
    latents = codec.encode(pixels)
    assert latents.shape == (batch, *codec.config.latent_shape(frames, 4 * height, 4 * width))
    assert codec.decode(latents).shape == pixels.shape


@pytest.mark.parametrize(("downscale", "levels"), [(2, 2), (4, 3), (8, 4)])
def test_other_factors_work(downscale: int, levels: int) -> None:
    widths, blocks = (4,) * levels, (1,) * levels
    codec = Codec(
        small_config(
            downscale=downscale, encoder_widths=widths, decoder_widths=widths, encoder_blocks=blocks, decoder_blocks=blocks
        )
    )
    latents = codec.encode(torch.zeros(1, 3, 1, 16, 16))
    assert latents.shape == (1, 4, 1, 16 // downscale, 16 // downscale)
    assert codec.decode(latents).shape == (1, 3, 1, 16, 16)


def test_a_clip_is_coded_frame_by_frame() -> None:
    codec, frames = small_codec(), pictures(6, 16)
    clip = frames.view(2, 3, 3, 16, 16).transpose(1, 2)  # two clips of three frames
    alone = codec.encode(frames.unsqueeze(2)).squeeze(2)  # [6 c h w]
    together = codec.encode(clip)  # [2 c 3 h w]
    torch.testing.assert_close(together.transpose(1, 2).reshape(alone.shape), alone)
    torch.testing.assert_close(
        codec.decode(together).transpose(1, 2).reshape(frames.shape), codec.decode(alone.unsqueeze(2)).squeeze(2)
    )


def test_statistics_normalise_latents_and_decoding_undoes_them() -> None:
    plain = small_codec()
    scaled = small_codec(latent_mean=(1.0, -2.0, 0.5, 0.0), latent_std=(2.0, 0.5, 3.0, 1.0))
    pixels = pictures(2, 16).unsqueeze(2)
    mean, std = (torch.tensor(values).view(1, 4, 1, 1, 1) for values in (scaled.config.latent_mean, scaled.config.latent_std))
    torch.testing.assert_close(scaled.encode(pixels), (plain.encode(pixels) - mean) / std)
    torch.testing.assert_close(scaled.decode(scaled.encode(pixels)), plain.decode(plain.encode(pixels)), atol=1e-5, rtol=1e-5)


def test_decoded_pixels_stay_in_range() -> None:
    assert small_codec().decode(50 * torch.randn(1, 4, 1, 4, 4)).abs().max() <= 1


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 4, 1, 16, 16), (1, 3, 1, 16, 18)])
def test_pixels_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadModelError):
        small_codec().encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 4, 4, 4), (1, 3, 1, 4, 4)])
def test_latents_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadModelError, match="latents have shape"):
        small_codec().decode(torch.zeros(shape))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_latents_that_are_no_numbers_are_not_decoded(wrong: float) -> None:
    latents = torch.zeros(3, 4, 1, 4, 4)
    latents[1, 2, 0, 3, 3] = wrong
    with pytest.raises(BadDataError, match="latent to decode is not a finite number: clip 1 of 3"):
        small_codec().decode(latents)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_codec_that_decodes_to_no_numbers_is_refused(wrong: float) -> None:
    codec = small_codec()
    with torch.no_grad():
        codec.decoder.get_parameter("out.bias").fill_(wrong)
    with pytest.raises(BadModelError, match="pixels that are not finite"):
        codec.decode(torch.zeros(1, 4, 1, 4, 4))


def test_kl_is_that_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    normal = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(Posterior(mean=mean, log_variance=log_variance).kl(), expected)


def test_samples_have_the_posterior_s_mean_and_spread() -> None:
    posterior = Posterior(mean=torch.full((1, 1, 200, 200), 2.0), log_variance=torch.full((1, 1, 200, 200), math.log(0.25)))
    sample = posterior.sample(torch.Generator().manual_seed(0))
    assert float(sample.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(sample.std()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("n", [1, 3])
def test_nats_are_those_of_torch_distributions_summed_over_an_item(n: int) -> None:
    mean, log_variance = torch.randn(n, 3, 4, 4), torch.randn(n, 3, 4, 4)
    normal = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(Posterior(mean=mean, log_variance=log_variance).nats(), expected)


def test_the_mode_is_the_mean_and_samples_depend_on_the_generator_only() -> None:
    posterior = Posterior(mean=torch.randn(2, 3, 4, 4), log_variance=torch.zeros(2, 3, 4, 4))
    assert torch.equal(posterior.mode(), posterior.mean)
    one, same, other = (posterior.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_deterministic_codec_s_posterior_is_a_point() -> None:
    codec = small_codec(posterior="deterministic")
    posterior = codec.posterior(pictures(2, 16))
    assert posterior.log_variance is None
    assert torch.equal(posterior.sample(torch.Generator()), posterior.mode())
    for measure in (posterior.kl, posterior.nats):
        with pytest.raises(BadModelError, match="KL"):
            measure()


def test_a_pixel_that_is_not_finite_is_refused() -> None:
    pixels = torch.zeros(1, 3, 1, 16, 16)
    pixels[0, 1, 0, 3, 3] = math.inf
    with pytest.raises(BadDataError, match="finite"):
        small_codec().encode(pixels)
