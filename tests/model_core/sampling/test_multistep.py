import pytest
import torch

from model_core.diffusion.schedules import noise_schedule
from model_core.sampling.multistep import dpm_solver_pp, unipc
from model_core.sampling.points import flow_points, schedule_points
from model_core.sampling.steps import estimator
from tests.model_core.sampling.mixture import (
    cosine_point,
    estimate,
    even_points,
    exact,
    flow_point,
    order_of,
    points_of,
)
from tests.model_core.sampling.toys import last, network, noise

PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction", "velocity": "flow_prediction"}


def _scheduler(sampler, points, prediction):
    """Diffusers' scheduler that visits our points; theirs are other ones, chosen by rules of each scheduler's own."""
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    options = {"prediction_type": PREDICTIONS[prediction], "use_flow_sigmas": prediction == "velocity"}
    if sampler is dpm_solver_pp:
        scheduler = DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2, **options)
    else:
        scheduler = UniPCMultistepScheduler(solver_order=2, solver_type="bh2", **options)
    scheduler.set_timesteps(len(points) - 1)
    ratio = [p.sigma if prediction == "velocity" else p.sigma / p.signal for p in points]
    scheduler.sigmas = torch.tensor(ratio, dtype=torch.float64)
    scheduler.timesteps = torch.arange(len(points) - 1, 0, -1)
    return scheduler


def _largest_difference(sampler, points, prediction):
    scheduler, expected, differences = _scheduler(sampler, points, prediction), noise(), []
    for state, t in zip(sampler(estimator(network, prediction), noise(), points), scheduler.timesteps, strict=True):
        output = network(expected, torch.full((2,), state.timestep))
        expected = scheduler.step(output, t, expected).prev_sample
        differences.append(float((state.x_t - expected).abs().max()))
    return max(differences) / float(expected.abs().max())


@pytest.mark.parametrize(("sampler", "tolerance"), [(dpm_solver_pp, 5e-6), (unipc, 1e-12)])  # theirs rounds to single precision
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 25])
def test_solvers_agree_with_diffusers_on_a_noise_schedule(sampler, tolerance, prediction, num_steps):
    points = schedule_points(noise_schedule("linear"), num_steps)
    assert _largest_difference(sampler, points, prediction) < tolerance


@pytest.mark.parametrize(("sampler", "tolerance"), [(dpm_solver_pp, 5e-6), (unipc, 1e-12)])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 25])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_solvers_agree_with_diffusers_on_rectified_flow(sampler, tolerance, num_steps, shift):
    points = flow_points(num_steps + 1, shift=shift)[1:]  # at t = 1 itself their lambda is not a number
    assert _largest_difference(sampler, points, "velocity") < tolerance


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_trailing_points_are_those_that_diffusers_chooses(name):
    import diffusers

    schedule = noise_schedule("linear")
    scheduler = getattr(diffusers, name)(trained_betas=schedule.betas.numpy(), timestep_spacing="trailing")
    scheduler.set_timesteps(12)
    points = schedule_points(schedule, 12)
    assert scheduler.timesteps.tolist() == [point.timestep for point in points[:-1]]
    torch.testing.assert_close(
        scheduler.sigmas.double(),
        torch.tensor([p.sigma / p.signal for p in points], dtype=torch.float64)[: len(scheduler.sigmas)],
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("sampler", [dpm_solver_pp, unipc])
def test_a_start_from_pure_noise_is_the_limit_of_starts_from_nearly_pure_noise(sampler):
    points = flow_points(8)
    nearly = (flow_point(1 - 1e-9), *points[1:])
    x = last(sampler(estimator(network, "velocity"), noise(), points)).x_t
    assert bool(torch.isfinite(x).all())
    # lambda at the start only enters through its reciprocal from here on, so the limit is approached slowly
    torch.testing.assert_close(x, last(sampler(estimator(network, "velocity"), noise(), nearly)).x_t, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(("sampler", "order"), [(dpm_solver_pp, 2), (unipc, 3)])
def test_the_error_on_a_mixture_falls_at_the_methods_order(sampler, order):
    """UniC raises the order of a predictor of second order by one (Zhao 2023, theorem 3.1)."""
    ends = {"first": 0.98, "last": 0.02}
    reference = exact(flow_point, noise(), **ends)
    errors = {
        n: float((last(sampler(estimate, noise(), even_points(n, **ends))).x_t - reference).abs().mean())
        for n in (20, 40, 80, 160)
    }
    assert order_of(errors) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("sampler", [dpm_solver_pp, unipc])
@pytest.mark.parametrize("path", [flow_point, cosine_point])
def test_from_pure_noise_to_data_twenty_steps_are_better_than_a_hundred_of_first_order(sampler, path):
    from model_core.sampling.ddim import ddim

    reference = exact(path, noise())
    error = (last(sampler(estimate, noise(), points_of(path, 20))).x_t - reference).abs().mean()
    assert error < (last(ddim(estimate, noise(), points_of(path, 100))).x_t - reference).abs().mean()


@pytest.mark.parametrize("sampler", [dpm_solver_pp, unipc])
def test_an_estimate_that_never_changes_is_reached_exactly(sampler):
    x_0 = noise(7)
    points = schedule_points(noise_schedule("linear", 100, zero_terminal_snr=True), 6)
    for state in sampler(estimator(lambda x_t, timestep: x_0, "x0"), noise(), points):
        assert torch.equal(state.x_0, x_0)
    torch.testing.assert_close(state.x_t, x_0)


@pytest.mark.parametrize("sampler", [dpm_solver_pp, unipc])
def test_the_network_is_asked_once_a_step(sampler):
    seen = []

    def counted(x_t, timestep):
        seen.append(float(timestep[0]))
        return network(x_t, timestep)

    points = flow_points(6)
    list(sampler(estimator(counted, "velocity"), noise(), points))
    assert seen == pytest.approx([point.timestep for point in points[:-1]])
