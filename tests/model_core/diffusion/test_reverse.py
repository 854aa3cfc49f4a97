import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.diffusion.condition import Condition
from model_core.diffusion.forward import q_sample
from model_core.diffusion.parameterisation import target
from model_core.diffusion.reverse import (
    conditional_reverse_process,
    learned_log_variance,
    posterior,
    posterior_mean,
    posterior_variances,
    reverse_mean,
    reverse_process,
    reverse_step,
    small_log_variances,
)
from model_core.diffusion.schedules import linear_betas, noise_schedule
from model_core.errors import BadModelError
from tests.model_core.diffusion import gaussian_data

SHAPE = (3, 2, 1, 2, 2)
PEER_PREDICTION = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
PEER_VARIANCE = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}


def _draw(seed, count=2, dtype=torch.float64):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _steps(t):
    return torch.full((SHAPE[0],), t)


@given(seed=st.integers(0, 1000), t=st.integers(1, 99), name=st.sampled_from(["linear", "cosine", "sigmoid"]))
def test_the_posterior_is_bayes_rule_on_two_gaussians(seed, t, name):
    """q(x_{t-1} | x_0) as prior, q(x_t | x_{t-1}) as likelihood: precisions add up."""
    schedule = noise_schedule(name, 100)
    x_0, x_t = _draw(seed)
    before, beta = float(schedule.alpha_bars[t - 1]), float(schedule.betas[t])
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (before**0.5 * x_0 / (1 - before) + (1 - beta) ** 0.5 * x_t / beta) / precision
    ours = posterior(x_0, x_t, _steps(t), schedule)
    torch.testing.assert_close(ours.mean, mean)
    torch.testing.assert_close(ours.log_variance.exp(), torch.full_like(mean, 1 / precision))


def test_the_posterior_of_the_first_step_is_the_data():
    schedule, (x_0, x_t) = noise_schedule("linear", 100), _draw(0)
    torch.testing.assert_close(posterior_mean(x_0, x_t, _steps(0), schedule), x_0)
    assert posterior_variances(schedule)[0] == 0
    assert small_log_variances(schedule)[0] == small_log_variances(schedule)[1] == posterior_variances(schedule)[1].log()
    assert torch.isfinite(small_log_variances(noise_schedule("linear", 1))).all()


@given(seed=st.integers(0, 1000), t=st.integers(0, 999))
def test_the_mean_from_the_noise_is_ho_equation_11(seed, t):
    schedule, (epsilon, x_t) = noise_schedule("linear"), _draw(seed)
    beta, alpha_bar = schedule.betas[t], schedule.alpha_bars[t]
    expected = (x_t - beta / (1 - alpha_bar).sqrt() * epsilon) / (1 - beta).sqrt()
    torch.testing.assert_close(reverse_mean("epsilon", epsilon, x_t, _steps(t), schedule), expected, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("t", [0, 1, 40, 99])
def test_perfect_predictions_of_every_kind_give_the_posterior(t):
    schedule, (x_0, noise) = noise_schedule("cosine", 100), _draw(1)
    x_t = q_sample(x_0, noise, _steps(t), schedule)
    signal, sigma = float(schedule.signals[t]), float(schedule.sigmas[t])
    for prediction in ("epsilon", "x0", "v", "velocity"):
        output = target(prediction, x_0, noise, signal, sigma)
        mean = reverse_mean(prediction, output, x_t, _steps(t), schedule)
        torch.testing.assert_close(mean, posterior_mean(x_0, x_t, _steps(t), schedule))


@pytest.mark.parametrize("prediction", PEER_PREDICTION)
@pytest.mark.parametrize("variance", PEER_VARIANCE)
@pytest.mark.parametrize("t", [0, 1, 500, 999])
def test_a_step_is_diffusers_step(prediction, variance, t):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        prediction_type=PEER_PREDICTION[prediction],
        variance_type=PEER_VARIANCE[variance],
        clip_sample=False,
    )
    scheduler.alphas_cumprod = torch.cumprod(1 - linear_betas(1000), dim=0)  # its float32 leaves 1 - alpha_bar few digits
    x_t, output, interpolation = _draw(2, 3)
    whole = torch.cat([output, interpolation.tanh()], dim=1) if variance == "learned" else output
    expected = scheduler.step(whole, t, x_t, generator=torch.Generator().manual_seed(7)).prev_sample
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    process = reverse_process(
        lambda x, timestep: whole, prediction=prediction, schedule=noise_schedule("linear"), variance=variance
    )
    torch.testing.assert_close(reverse_step(process, x_t, _steps(t), noise), expected, atol=1e-9, rtol=1e-9)


def test_the_interpolation_goes_from_the_small_to_the_large_variance_through_their_geometric_mean():
    schedule, t = noise_schedule("linear", 100), _steps(5)
    small, large = posterior_variances(schedule)[5], schedule.betas[5]
    for interpolation, variance in ((-1.0, small), (1.0, large), (0.0, (small * large).sqrt())):
        ours = learned_log_variance(torch.full(SHAPE, interpolation, dtype=torch.float64), t, schedule).exp()
        torch.testing.assert_close(ours, variance.expand(SHAPE))


def test_steps_in_a_row_of_the_true_reverse_process_draw_the_data():
    schedule = noise_schedule("cosine", 20, zero_terminal_snr=True)
    process = gaussian_data.true_reverse_process(schedule)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(gaussian_data.SHAPE, generator=generator, dtype=torch.float64)
    for t in reversed(range(20)):
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        x = reverse_step(process, x, torch.full((len(x),), t), noise)
    assert float(x.mean()) == pytest.approx(gaussian_data.MEAN, abs=0.01)
    assert float(x.std()) == pytest.approx(gaussian_data.STD, rel=0.02)


def test_the_conditional_process_is_the_process_of_the_network_under_its_condition():
    schedule, (x_t, output) = noise_schedule("linear", 10), _draw(3)
    condition = Condition(labels=torch.tensor([0, 1, 2]), text=torch.zeros(3, 0), text_mask=torch.zeros(3).bool())

    def predict(x, timestep, condition):
        return output * condition.labels.view(-1, 1, 1, 1, 1)

    ours = conditional_reverse_process(predict, condition, prediction="epsilon", schedule=schedule, variance="large")
    labels = torch.tensor([0, 1, 2]).view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(ours(x_t, _steps(4)).mean, reverse_mean("epsilon", output * labels, x_t, _steps(4), schedule))
    torch.testing.assert_close(ours(x_t, _steps(4)).log_variance.exp(), schedule.betas[4].expand(SHAPE))


def test_an_unknown_variance_and_an_output_without_one_are_refused(unchecked):
    schedule, (x_t, _) = noise_schedule("linear", 10), _draw(4)
    with pytest.raises(ValueError, match="'medium'; there are small, large, learned"):
        reverse_process(lambda x, t: x, prediction="epsilon", schedule=schedule, variance="medium")
    process = reverse_process(lambda x, t: x, prediction="epsilon", schedule=schedule, variance="learned")
    with pytest.raises(BadModelError, match=r"returned \[3, 2, 1, 2, 2\], a learned variance needs \[3, 4, 1, 2, 2\]"):
        process(x_t, _steps(1))
