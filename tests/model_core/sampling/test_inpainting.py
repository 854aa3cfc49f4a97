"""Frames that are kept and frames that are drawn to go with them; gaussian frames have everything in closed form."""

import dataclasses

import pytest
import torch

from model_core.diffusion.parameterisation import target
from model_core.diffusion.schedules import noise_schedule
from model_core.errors import BadDataError
from model_core.sampling.ddim import ddim
from model_core.sampling.ddpm import ddpm
from model_core.sampling.euler import euler, heun
from model_core.sampling.inpainting import known_frames, noised_back, resampled, told_what_is_known
from model_core.sampling.multistep import dpm_solver_pp, unipc
from model_core.sampling.points import flow_points, schedule_points
from model_core.sampling.sample import sample_latents
from model_core.sampling.steps import estimator
from tests.model_core.sampling.model import condition, model_config, transformer
from tests.model_core.sampling.toys import last
from tests.model_core.toy_latents import ARCHITECTURE

FRAMES, CORRELATION = 4, 0.9
KEPT, DRAWN = [0, 1], [2, 3]
TRUTH = (1.5, 1.0)
COVARIANCE = CORRELATION ** (torch.arange(FRAMES)[:, None] - torch.arange(FRAMES)).abs().double()
GAIN = COVARIANCE[DRAWN][:, KEPT] @ torch.linalg.inv(COVARIANCE[KEPT][:, KEPT])
MEAN = GAIN @ torch.tensor(TRUTH).double()  # of the drawn frames, given the kept ones
SPREAD = COVARIANCE[DRAWN][:, DRAWN] - GAIN @ COVARIANCE[KEPT][:, DRAWN]
FLOW = flow_points(20)
SCHEDULE = schedule_points(noise_schedule("linear", 1000), 20, spacing="trailing")


def draws(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(count, 1, FRAMES, 1, 1, generator=generator).double()


def best_denoiser(prediction, points):
    """The optimal network for gaussian frames: E[x_0 | x_t] is linear in x_t."""
    by_timestep = {float(torch.tensor(point.timestep)): point for point in points}

    def predict(x_t, timesteps):
        point = by_timestep[float(timesteps[0])]
        noised = point.signal**2 * COVARIANCE + point.sigma**2 * torch.eye(FRAMES).double()
        gain = point.signal * COVARIANCE @ torch.linalg.inv(noised)
        x_0 = torch.einsum("ij,bcjhw->bcihw", gain, x_t)
        return target(prediction, x_0, (x_t - point.signal * x_0) / point.sigma, point.signal, point.sigma)

    return predict


def known(count):
    x_0 = torch.zeros(count, 1, FRAMES, 1, 1).double()
    x_0[:, 0, KEPT, 0, 0] = torch.tensor(TRUTH).double()
    return known_frames(x_0, torch.tensor([frame in KEPT for frame in range(FRAMES)]))


def conditional(num_passes, *, count=6000):
    """Mean and covariance of the drawn frames, by Euler."""
    predict = told_what_is_known(best_denoiser("velocity", FLOW), known(count), "velocity", FLOW)
    draw_noise = draws(count)

    def run(x_t, points):
        return euler(predict, x_t, points)

    x_0 = last(resampled(run, draw_noise(), FLOW, num_passes=num_passes, draw_noise=draw_noise)).x_t[:, 0, DRAWN, 0, 0]
    return x_0.mean(dim=0), torch.cov(x_0.T)


def test_drawn_frames_have_about_the_conditional_mean_and_spread():
    mean, spread = conditional(5)
    torch.testing.assert_close(mean, MEAN, atol=0.05, rtol=0)
    torch.testing.assert_close(spread, SPREAD, atol=0.06, rtol=0)


def test_more_passes_lead_nearer_to_the_kept_frames():
    errors = [float((conditional(num_passes, count=3000)[0] - MEAN).abs().max()) for num_passes in (1, 2, 5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.3


SAMPLERS = {
    "euler": ("velocity", FLOW, lambda predict, x_t, points, _: euler(predict, x_t, points)),
    "heun": ("velocity", FLOW, lambda predict, x_t, points, _: heun(predict, x_t, points)),
    "unipc": ("velocity", FLOW, lambda predict, x_t, points, _: unipc(estimator(predict, "velocity"), x_t, points)),
    "dpm_solver_pp": ("v", SCHEDULE, lambda predict, x_t, points, _: dpm_solver_pp(estimator(predict, "v"), x_t, points)),
    "ddim": ("epsilon", SCHEDULE, lambda predict, x_t, points, _: ddim(estimator(predict, "epsilon"), x_t, points)),
    "ddpm": (
        "x0",
        SCHEDULE,
        lambda predict, x_t, points, draw: ddpm(estimator(predict, "x0"), x_t, points, draw_noise=draw),
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_carries_the_kept_frames_along_the_noised_truth(name):
    prediction, points, sampler = SAMPLERS[name]
    count = 4000
    kept, draw_noise = known(count), draws(count)
    predict = told_what_is_known(best_denoiser(prediction, points), kept, prediction, points)
    x_t = kept.within(points[0].signal * kept.x_0 + points[0].sigma * draw_noise(), draw_noise())
    for state, point in zip(sampler(predict, x_t, points, draw_noise), points[1:], strict=True):
        noise = (state.x_t - point.signal * kept.x_0)[:, 0, KEPT]
        assert abs(float(noise.mean())) < 0.05
        assert float(noise.std()) == pytest.approx(point.sigma, abs=0.04)
    torch.testing.assert_close(state.x_t[:, 0, KEPT], kept.x_0[:, 0, KEPT])


@pytest.mark.parametrize("points", [FLOW, SCHEDULE], ids=["flow", "schedule"])
def test_noising_back_is_the_forward_process(points):
    """Of a state with the moments of one point it makes one with those of the other."""
    back, here = points[5], points[12]
    noise = draws(60_000)
    x_0 = torch.full_like(noise(), 2.0)
    found = noised_back(here.signal * x_0 + here.sigma * noise(), here, back, noise())
    assert float(found.mean()) == pytest.approx(2 * back.signal, abs=0.01)
    assert float(found.std()) == pytest.approx(back.sigma, abs=0.01)


def test_one_pass_is_the_plain_sampler():
    predict, draw_noise = best_denoiser("velocity", FLOW), draws(3)
    x_t = draw_noise()
    passed = resampled(
        lambda x_t, points: unipc(estimator(predict, "velocity"), x_t, points), x_t, FLOW, num_passes=1, draw_noise=draw_noise
    )
    plain = last(unipc(estimator(predict, "velocity"), x_t, FLOW))
    assert torch.equal(last(passed).x_t, plain.x_t)


def test_steps_are_counted_with_their_passes():
    predict, draw_noise = best_denoiser("velocity", FLOW), draws(2)
    states = list(
        resampled(lambda x_t, points: euler(predict, x_t, points), draw_noise(), FLOW, num_passes=3, draw_noise=draw_noise)
    )
    assert [state.step for state in states] == list(range(1, 19 * 3 + 2))
    assert {state.num_steps for state in states} == {len(states)}


@pytest.fixture(scope="module")
def clips():
    """A model of clips, and latents to start from."""
    model = transformer(dataclasses.replace(ARCHITECTURE, learn_variance=False))
    config = model_config(latent_shape=(4, FRAMES, 2, 2))
    start = torch.randn(2, 4, FRAMES, 2, 2, generator=torch.Generator().manual_seed(3))
    return model, config, start


def sampled(clips, *, seed=0, **options):
    model, config, start = clips
    generator = torch.Generator().manual_seed(seed)

    def draw_noise():
        return torch.randn(start.shape, generator=generator)

    keep = torch.tensor([True, False, False, True])
    arguments = {"start": start, "keep": keep, "draw_noise": draw_noise, "num_steps": 4, "guidance_scale": 1.0, **options}
    return sample_latents(model, config, noise=draw_noise(), condition=condition(2), **arguments)


def test_kept_frames_are_the_starts_and_the_others_are_not(clips):
    start = clips[2]
    for options in ({}, {"strength": 0.5}, {"sampler": "unipc", "num_passes": 1}):
        found = sampled(clips, **options)
        assert torch.equal(found[:, :, [0, 3]], start[:, :, [0, 3]])
        assert float((found - start)[:, :, [1, 2]].abs().min()) > 1e-4
        assert torch.equal(found, sampled(clips, **options))
    assert not torch.equal(sampled(clips), sampled(clips, seed=1))


def test_keeping_nothing_is_starting_part_way(clips):
    nothing = torch.zeros(FRAMES, dtype=torch.bool)
    assert torch.equal(sampled(clips, keep=nothing, strength=0.5), sampled(clips, keep=None, strength=0.5))


def test_frames_of_nothing_cannot_be_kept(clips):
    with pytest.raises(BadDataError, match="to be kept"):
        sampled(clips, start=None)
    with pytest.raises(BadDataError, match="to be kept"):
        sampled(clips, keep=torch.tensor([True]))
    with pytest.raises(BadDataError, match="0 times"):
        sampled(clips, num_passes=0)
