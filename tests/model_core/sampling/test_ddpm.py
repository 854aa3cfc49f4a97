import pytest
import torch

from model_core.diffusion.reverse import reverse_process, reverse_step
from model_core.diffusion.schedules import noise_schedule
from model_core.sampling.ddim import ddim
from model_core.sampling.ddpm import ddpm
from model_core.sampling.points import schedule_points
from model_core.sampling.steps import estimator
from tests.model_core.sampling.mixture import MEAN, VARIANCE, estimate
from tests.model_core.sampling.toys import last, network, noise, wide_network

PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}


def _draws(first=1):
    seeds = iter(range(first, 10_000))
    return lambda: noise(next(seeds))


def _diffusers(schedule, num_steps, monkeypatch, **options):
    from diffusers import DDPMScheduler
    from diffusers.schedulers import scheduling_ddpm

    scheduler = DDPMScheduler(clip_sample=False, timestep_spacing="trailing", **options)
    scheduler.alphas_cumprod, scheduler.one = schedule.alpha_bars, torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(num_steps)
    draw = _draws()
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *args, **kwargs: draw())
    return scheduler


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    ("variance", "predict", "theirs"),
    [("small", network, "fixed_small"), ("large", network, "fixed_large"), ("small", wide_network, "learned_range")],
)
@pytest.mark.parametrize("num_steps", [1, 10, 50])
def test_ddpm_agrees_with_diffusers_step_for_step(prediction, variance, predict, theirs, num_steps, monkeypatch):
    schedule = noise_schedule("linear")
    scheduler = _diffusers(schedule, num_steps, monkeypatch, prediction_type=PREDICTIONS[prediction], variance_type=theirs)
    points = schedule_points(schedule, num_steps)
    expected = noise()
    ours = ddpm(estimator(predict, prediction), noise(), points, draw_noise=_draws(), variance=variance)
    for state, t in zip(ours, scheduler.timesteps, strict=True):
        step = scheduler.step(predict(expected, t.expand(2)), t, expected)
        if int(t) == int(points[-2].timestep):  # they add noise in the last step unless it is step 0
            mean = last(ddpm(estimator(predict, prediction), expected, points[-2:], draw_noise=_draws())).x_t
            torch.testing.assert_close(state.x_t, mean, atol=1e-9, rtol=1e-9)
            torch.testing.assert_close(state.x_t, step.pred_original_sample, atol=1e-8, rtol=1e-8)
        else:
            expected = step.prev_sample
            torch.testing.assert_close(state.x_t, expected, atol=1e-8, rtol=1e-8)
            torch.testing.assert_close(state.x_0, step.pred_original_sample, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(("variance", "predict"), [("small", network), ("large", network), ("learned", wide_network)])
def test_over_every_step_it_is_the_reverse_process(variance, predict):
    schedule = noise_schedule("cosine", 20)
    reverse = reverse_process(predict, prediction="epsilon", schedule=schedule, variance=variance)
    fixed = "small" if variance == "learned" else variance
    ours = ddpm(estimator(predict, "epsilon"), noise(), schedule_points(schedule, 20), draw_noise=_draws(), variance=fixed)
    expected, draw = noise(), _draws()
    for state in ours:
        t = torch.full((2,), int(state.timestep))
        expected = reverse_step(reverse, expected, t, draw())
        torch.testing.assert_close(state.x_t, expected, atol=1e-9, rtol=1e-9)


def test_small_variance_is_ddim_with_all_its_noise():
    points = schedule_points(noise_schedule("linear"), 20)
    theirs = ddim(estimator(network, "v"), noise(), points, eta=1.0, draw_noise=_draws())
    for state, expected in zip(ddpm(estimator(network, "v"), noise(), points, draw_noise=_draws()), theirs, strict=True):
        torch.testing.assert_close(state.x_t, expected.x_t, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_samples_have_the_moments_of_the_data(variance):
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(4000, 1, 1, 1, 1, generator=generator, dtype=torch.float64)

    points = schedule_points(noise_schedule("cosine", 200), 200)
    x = last(ddpm(estimate, draw(), points, draw_noise=draw, variance=variance)).x_t
    assert float(x.mean()) == pytest.approx(MEAN, abs=4 * (VARIANCE / 4000) ** 0.5)
    assert float(x.var()) == pytest.approx(VARIANCE, rel=0.06)
    left = float((x < -0.4).double().mean())  # the lighter component
    assert left == pytest.approx(0.35, abs=0.03)


def test_zero_terminal_snr_is_sampled_from_its_last_step():
    points = schedule_points(noise_schedule("linear", 50, zero_terminal_snr=True), 50)
    for state in ddpm(estimator(wide_network, "v"), noise(), points, draw_noise=_draws()):
        assert bool(torch.isfinite(state.x_t).all())


def test_the_last_step_draws_nothing():
    drawn = []
    points = schedule_points(noise_schedule("linear", 50), 5)
    list(ddpm(estimator(network, "x0"), noise(), points, draw_noise=lambda: drawn.append(1) or noise()))
    assert len(drawn) == 4
