import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from model_core.diffusion.bound import (
    CONTINUOUS,
    LATENTS,
    PIXELS,
    discretised_gaussian_log_likelihood,
    gaussian_kl,
    gaussian_log_density,
    prior_term,
    vlb_terms,
)
from model_core.diffusion.reverse import Gaussian, posterior_variances, reverse_process, small_log_variances
from model_core.diffusion.schedules import noise_schedule
from tests.model_core.diffusion import gaussian_data
from tests.model_core.diffusion.gaussian_data import MEAN, SHAPE, STD

NUM_STEPS = 12
WIDTH = 2 / 255


def _noise(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def _schedule(zero_terminal_snr=True):
    return noise_schedule("cosine", NUM_STEPS, zero_terminal_snr)


def _terms(schedule, variance, seed=0, decoder=CONTINUOUS):
    process = reverse_process(gaussian_data.denoiser(schedule), prediction="x0", schedule=schedule, variance=variance)
    x_0 = gaussian_data.draw(seed)
    return x_0, vlb_terms(process, x_0, schedule, draw_noise=_noise(seed + 1), decoder=decoder)


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_the_divergence_of_gaussians_is_torchs(values):
    a, b, log_c, log_d = torch.tensor(values, dtype=torch.float64)
    expected = kl_divergence(Normal(a, (log_c / 2).exp()), Normal(b, (log_d / 2).exp()))
    torch.testing.assert_close(gaussian_kl(Gaussian(mean=a, log_variance=log_c), Gaussian(mean=b, log_variance=log_d)), expected)


def test_the_prior_term_is_torchs_divergence_and_nothing_without_signal():
    schedule, x_0 = noise_schedule("linear", 20), gaussian_data.draw(0)
    end = Normal(schedule.signals[-1] * x_0, schedule.sigmas[-1])
    expected = kl_divergence(end, Normal(torch.zeros_like(x_0), 1.0)).flatten(1).mean(dim=1) / math.log(2)
    torch.testing.assert_close(prior_term(x_0, schedule), expected)
    assert prior_term(x_0, _schedule()).abs().max() == 0


@given(mean=st.floats(-1.5, 1.5), std=st.floats(1e-3, 2))
def test_probabilities_of_all_bytes_sum_to_one(mean, std):
    bytes_ = torch.linspace(-1, 1, 256, dtype=torch.float64).view(1, 1, 1, 16, 16)
    p = Gaussian(mean=torch.full_like(bytes_, mean), log_variance=torch.full_like(bytes_, 2 * math.log(std)))
    assert float(discretised_gaussian_log_likelihood(bytes_, p, PIXELS).exp().sum()) == pytest.approx(1, abs=1e-9)


@given(x=st.floats(-4, 4), mean=st.floats(-4, 4), std=st.floats(0.1, 3))
def test_a_bin_has_the_difference_of_two_cumulative_probabilities(x, mean, std):
    normal = Normal(torch.tensor(mean, dtype=torch.float64), std)
    values = torch.full((1, 1, 1, 1, 1), x, dtype=torch.float64)
    expected = normal.cdf(values + WIDTH / 2) - normal.cdf(values - WIDTH / 2)
    p = Gaussian(mean=torch.full_like(values, mean), log_variance=torch.full_like(values, 2 * math.log(std)))
    ours = discretised_gaussian_log_likelihood(values, p, LATENTS)
    if expected > 1e-9:  # beyond that the oracle's own difference rounds away
        assert float(ours) == pytest.approx(float(expected.log()), abs=1e-5)


@pytest.mark.parametrize("distance", [0.0, 1.0, 50.0, 1000.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_log_probabilities_and_their_gradients_stay_finite_far_from_the_mean(distance, sign):
    x = torch.full((1, 1, 1, 1, 1), sign * distance)
    log_variance = torch.full_like(x, -9.0, requires_grad=True)
    value = discretised_gaussian_log_likelihood(x, Gaussian(mean=torch.zeros_like(x), log_variance=log_variance), LATENTS)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(log_variance.grad).all()


def test_both_tails_keep_their_digits():
    x = torch.tensor([0.5, 3.0, 20.0, 200.0], dtype=torch.float64).view(1, 1, 1, 2, 2)
    p = Gaussian(mean=torch.zeros_like(x), log_variance=torch.zeros_like(x))
    above, below = (discretised_gaussian_log_likelihood(values, p, LATENTS) for values in (x, -x))
    torch.testing.assert_close(above, below)
    # The density times the width, averaged over the bin: sinh(x w / 2) / (x w / 2) times that of its centre.
    expected = gaussian_log_density(x, p) + math.log(WIDTH) + (torch.sinh(x * WIDTH / 2) / (x * WIDTH / 2)).log()
    torch.testing.assert_close(above, expected, atol=1e-4, rtol=0)


def test_the_density_is_torchs():
    x = gaussian_data.draw(3)
    p = Gaussian(mean=0.3 * x, log_variance=torch.full_like(x, -0.7))
    torch.testing.assert_close(gaussian_log_density(x, p), Normal(0.3 * x, math.exp(-0.35)).log_prob(x))


@pytest.mark.parametrize("variance", ["small", "large"])
def test_every_term_of_the_best_denoiser_is_its_closed_form(variance):
    """``E L_t = 1/2 (r - 1 - log r + a^2 Var(x_0 | x_t) / Sigma)`` nats, r = beta-tilde / Sigma, a is x_0's factor."""
    schedule = _schedule()
    residual, factor = gaussian_data.residual_variances(schedule), gaussian_data.data_factors(schedule)
    sigma = schedule.betas if variance == "large" else small_log_variances(schedule).exp()
    ratio = posterior_variances(schedule) / sigma
    expected = 0.5 * (ratio - 1 - ratio.log() + factor**2 * residual / sigma)
    expected[0] = 0.5 * ((2 * math.pi * sigma[0]).log() + residual[0] / sigma[0])
    x_0, terms = _terms(schedule, variance)
    torch.testing.assert_close(terms.steps.mean(dim=0), expected / math.log(2), rtol=0.03, atol=0.003)
    assert terms.total.mean() > gaussian_data.nll_bits(x_0).mean() + 0.01


def test_every_term_of_the_true_reverse_process_is_its_closed_form():
    """With the best variance, ``E L_t = 1/2 log(1 + a^2 Var(x_0 | x_t) / beta-tilde)`` nats."""
    schedule = _schedule()
    residual, factor = gaussian_data.residual_variances(schedule), gaussian_data.data_factors(schedule)
    expected = 0.5 * (factor**2 * residual / posterior_variances(schedule)).log1p()
    expected[0] = 0.5 * (2 * math.pi * math.e * residual[0]).log()
    terms = vlb_terms(
        gaussian_data.true_reverse_process(schedule), gaussian_data.draw(0), schedule, draw_noise=_noise(1), decoder=CONTINUOUS
    )
    torch.testing.assert_close(terms.steps.mean(dim=0), expected / math.log(2), rtol=0.03, atol=0.003)


def test_the_bound_of_the_true_reverse_process_is_the_negative_log_likelihood():
    schedule = _schedule()
    x_0 = gaussian_data.draw(5)
    terms = vlb_terms(gaussian_data.true_reverse_process(schedule), x_0, schedule, draw_noise=_noise(6), decoder=CONTINUOUS)
    assert float(terms.total.mean()) == pytest.approx(float(gaussian_data.nll_bits(x_0).mean()), abs=0.01)
    assert float(terms.total.mean()) == pytest.approx(gaussian_data.entropy_bits(), abs=0.02)


def test_signal_left_at_the_end_costs_the_divergence_of_the_marginal_from_the_prior():
    schedule = noise_schedule("linear", 40)
    short = type(schedule)(betas=schedule.betas[:10], alpha_bars=schedule.alpha_bars[:10])
    signal, sigma = float(short.signals[-1]), float(short.sigmas[-1])
    marginal = Normal(signal * MEAN, (signal**2 * STD**2 + sigma**2) ** 0.5)
    gap = float(kl_divergence(marginal, Normal(0.0, 1.0))) / math.log(2)
    x_0 = gaussian_data.draw(7)
    terms = vlb_terms(gaussian_data.true_reverse_process(short), x_0, short, draw_noise=_noise(8), decoder=CONTINUOUS)
    assert gap > 0.02
    assert float((terms.total - gaussian_data.nll_bits(x_0)).mean()) == pytest.approx(gap, abs=0.01)


def test_a_worse_denoiser_has_a_larger_bound():
    schedule = _schedule()
    best = gaussian_data.denoiser(schedule)
    worse = reverse_process(lambda x, t: best(x, t) + 0.2, prediction="x0", schedule=schedule, variance="small")
    _, terms = _terms(schedule, "small")
    worse_terms = vlb_terms(worse, gaussian_data.draw(0), schedule, draw_noise=_noise(1), decoder=CONTINUOUS)
    assert (worse_terms.steps.mean(dim=0) > terms.steps.mean(dim=0)).all()


def test_bins_cost_the_bits_of_their_width():
    """A bin of width w has about w times the density: the bits of discrete data are the continuous ones minus log2(w)."""
    schedule = _schedule()
    _, continuous = _terms(schedule, "large")
    _, binned = _terms(schedule, "large", decoder=LATENTS)
    assert torch.equal(continuous.steps[:, 1:], binned.steps[:, 1:])
    difference = binned.steps[:, 0] - continuous.steps[:, 0]
    torch.testing.assert_close(difference, torch.full_like(difference, -math.log2(WIDTH)), atol=1e-2, rtol=0)


def test_a_bound_has_a_term_for_every_step_and_sample():
    _, terms = _terms(_schedule(), "small")
    assert terms.steps.shape == (SHAPE[0], NUM_STEPS)
    torch.testing.assert_close(terms.total, terms.prior + terms.steps.sum(dim=1))


def test_a_decoder_without_bins_has_no_probabilities():
    x = torch.zeros(1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="density"):
        discretised_gaussian_log_likelihood(x, Gaussian(mean=x, log_variance=x), CONTINUOUS)
