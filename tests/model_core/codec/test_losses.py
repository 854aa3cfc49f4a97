import pytest
import torch

from model_core.codec.autoencoder import Posterior
from model_core.codec.losses import LossWeights, codec_loss, gradient_loss
from model_core.errors import BadModelError
from tests.model_core.codec.small import pictures, random_perceptual_loss


def posterior(value: float = 0.0) -> Posterior:
    return Posterior(mean=torch.full((2, 4, 2, 2), value), log_variance=torch.zeros(2, 4, 2, 2))


def test_gradients_ignore_a_constant_offset_and_see_an_edge() -> None:
    x = torch.rand(1, 3, 4, 4)
    assert float(gradient_loss(x, x + 0.5)) == pytest.approx(0.0, abs=1e-6)
    edge = torch.zeros(1, 3, 4, 4)
    edge[..., 2:] = 1.0  # one of three horizontal differences is 1
    assert float(gradient_loss(edge, torch.zeros_like(edge))) == pytest.approx(1 / 3)


def test_terms_add_up_with_their_weights() -> None:
    x, y = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.5)
    loss = codec_loss(x, y, posterior(2.0), LossWeights(l1=2.0, mse=4.0, gradient=1.0, kl=0.1))
    assert float(loss.reconstruction) == pytest.approx(2 * 0.5 + 4 * 0.25)
    assert float(loss.kl) == pytest.approx(2.0)  # 0.5 * 2^2
    assert float(loss.total) == pytest.approx(2.2)


def test_a_perfect_codec_of_standard_normal_latents_loses_nothing() -> None:
    x = torch.rand(2, 3, 8, 8)
    assert float(codec_loss(x, x, posterior(), LossWeights()).total) == pytest.approx(0.0, abs=1e-7)


def test_the_divergence_counted_a_pixel_is_latent_diffusion_s_weighting() -> None:
    x, y = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.5)
    weights = LossWeights(l1=1.0, mse=0.0, gradient=0.0, kl=1e-6, kl_unit="pixel")
    found = codec_loss(x, y, posterior(2.0), weights)
    # Latent diffusion sums errors and divergences over a picture: their sum is ours times the picture's numbers.
    summed = (x - y).abs().sum() / 2 + 1e-6 * posterior(2.0).nats().mean()
    assert float(found.total) * 3 * 8 * 8 == pytest.approx(float(summed), rel=1e-5)
    assert float(found.kl) == pytest.approx(2.0 * 16 / 192)


def test_the_perceptual_term_is_part_of_the_reconstruction() -> None:
    x, y, network = pictures(2, 16), pictures(2, 16, seed=1), random_perceptual_loss()
    plain = codec_loss(x, y, posterior(), LossWeights())
    found = codec_loss(x, y, posterior(), LossWeights(perceptual=3.0), network)
    assert float(found.reconstruction - plain.reconstruction) == pytest.approx(3 * float(network(x, y)), rel=1e-4)
    with pytest.raises(BadModelError, match="no network"):
        codec_loss(x, y, posterior(), LossWeights(perceptual=3.0))


def test_a_point_has_no_divergence_to_weigh() -> None:
    x, point = pictures(2, 16), Posterior(mean=torch.zeros(2, 4, 4, 4), log_variance=None)
    assert float(codec_loss(x, x, point, LossWeights(kl=0.0)).total) == 0.0
    with pytest.raises(BadModelError, match="KL"):
        codec_loss(x, x, point, LossWeights())
