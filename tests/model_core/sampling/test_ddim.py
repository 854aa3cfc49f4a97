import pytest
import torch

from model_core.diffusion.schedules import noise_schedule
from model_core.errors import BadDataError
from model_core.sampling.ddim import ddim
from model_core.sampling.euler import euler
from model_core.sampling.points import flow_points, schedule_points
from model_core.sampling.steps import clipped, estimator
from tests.model_core.sampling.mixture import cosine_point, estimate, exact, order_of, points_of
from tests.model_core.sampling.toys import last, network, noise, wide_network

PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}


def _diffusers(schedule, num_steps, spacing, **options):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**{"clip_sample": False, "timestep_spacing": spacing, **options})
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = schedule.alpha_bars, torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(num_steps)
    return scheduler


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("num_steps", "spacing"), [(1, "leading"), (10, "leading"), (50, "leading"), (10, "trailing")])
def test_ddim_agrees_with_diffusers_step_for_step(prediction, eta, num_steps, spacing):
    schedule = noise_schedule("linear")
    scheduler = _diffusers(schedule, num_steps, spacing, prediction_type=PREDICTIONS[prediction])
    points = schedule_points(schedule, num_steps, spacing=spacing)
    draws = iter(noise(seed) for seed in range(1, 100))
    ours = ddim(estimator(network, prediction), noise(), points, eta=eta, draw_noise=lambda: next(draws))
    expected = noise()
    for number, (state, t) in enumerate(zip(ours, scheduler.timesteps, strict=True), start=1):
        output = network(expected, t.expand(2))
        expected = scheduler.step(output, t, expected, eta=eta, variance_noise=noise(number) if eta else None).prev_sample
        torch.testing.assert_close(state.x_t, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_with_a_clipped_estimate_it_agrees_with_diffusers(prediction):
    schedule, bound = noise_schedule("linear"), 0.3
    options = {"clip_sample": True, "clip_sample_range": bound, "prediction_type": PREDICTIONS[prediction]}
    scheduler, points = _diffusers(schedule, 10, "trailing", **options), schedule_points(schedule, 10, spacing="trailing")
    plain, expected = last(ddim(estimator(network, prediction), noise(), points)).x_t, noise()
    for state, t in zip(ddim(clipped(estimator(network, prediction), bound), noise(), points), scheduler.timesteps, strict=True):
        expected = scheduler.step(network(expected, t.expand(2)), t, expected, use_clipped_model_output=True).prev_sample
        torch.testing.assert_close(state.x_t, expected, atol=1e-9, rtol=1e-9)
        assert float(state.x_0.abs().max()) <= bound
    assert not torch.allclose(expected, plain)


def test_ddims_arithmetic_is_bit_for_bit_that_of_models_already_trained():
    schedule, x = noise_schedule("linear"), noise(dtype=torch.float32)
    points = schedule_points(schedule, 50, spacing="leading")
    for step, state in enumerate(ddim(estimator(network, "epsilon"), x, points)):
        t = 20 * (49 - step)
        now, then = float(schedule.alpha_bars[t]), float(schedule.alpha_bars[t - 20]) if t else 1.0
        eps = network(x, torch.full((2,), float(t)))
        x = then**0.5 * ((x - (1 - now) ** 0.5 * eps) / now**0.5) + (1 - then) ** 0.5 * eps
        assert torch.equal(state.x_t, x)


def test_ddim_converges_to_the_closed_form_for_gaussian_data():
    schedule, mean, std = noise_schedule("linear"), 1.2, 0.5

    def predict(x_t, timestep):
        alpha_bar = schedule.alpha_bars[int(timestep[0])]
        return (1 - alpha_bar).sqrt() * (x_t - alpha_bar.sqrt() * mean) / (alpha_bar * std**2 + 1 - alpha_bar)

    state = last(ddim(estimator(predict, "epsilon"), noise(), schedule_points(schedule, 500, spacing="leading")))
    torch.testing.assert_close(state.x_t, mean + std * noise(), atol=0.02, rtol=0.02)


def test_the_error_on_a_mixture_falls_at_first_order():
    reference = exact(cosine_point, noise())
    errors = {
        n: float((last(ddim(estimate, noise(), points_of(cosine_point, n))).x_t - reference).abs().mean())
        for n in (20, 40, 80, 160)
    }
    assert order_of(errors) == pytest.approx(1, abs=0.1)


def test_on_rectified_flows_path_it_is_eulers_method():
    points = flow_points(9)
    ours = ddim(estimator(network, "velocity"), noise(), points)
    for state, expected in zip(ours, euler(network, noise(), points), strict=True):
        torch.testing.assert_close(state.x_t, expected.x_t)
        torch.testing.assert_close(state.x_0, expected.x_0)


def test_zero_terminal_snr_is_sampled_from_its_last_step():
    points = schedule_points(noise_schedule("linear", 100, zero_terminal_snr=True), 10)
    states = list(ddim(estimator(network, "v"), noise(), points))
    torch.testing.assert_close(states[0].x_0, -network(noise(), torch.full((2,), 99.0)))
    assert all(bool(torch.isfinite(state.x_t).all()) for state in states)


def test_learnt_variances_are_left_aside():
    points = schedule_points(noise_schedule("linear", 100), 5)
    wide = last(ddim(estimator(wide_network, "epsilon"), noise(), points))
    assert torch.equal(wide.x_t, last(ddim(estimator(network, "epsilon"), noise(), points)).x_t)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_an_eta_that_is_no_share_is_refused(eta):
    points = schedule_points(noise_schedule("linear"), 3)
    with pytest.raises(BadDataError, match="eta is"):
        next(ddim(estimator(network, "epsilon"), noise(), points, eta=eta, draw_noise=noise))


def test_noise_without_a_source_is_refused():
    with pytest.raises(ValueError, match="draw_noise"):
        next(ddim(estimator(network, "epsilon"), noise(), schedule_points(noise_schedule("linear"), 3), eta=0.5))
