import dataclasses
import types
import typing

import pytest
import torch

from model_core.diffusion.guidance import Guidance
from model_core.diffusion.parameterisation import noise_from_x0, target
from model_core.diffusion.schedules import noise_schedule
from model_core.errors import BadDataError, BadModelError
from model_core.sampling.names import SamplerName, fitting_samplers
from model_core.sampling.sample import sample_latents
from tests.model_core.sampling.model import condition, latents, model_config, transformer
from tests.model_core.toy_latents import ARCHITECTURE

OBJECTIVES = ["rectified_flow", "epsilon", "x0", "v"]
PAIRS = [(objective, sampler) for objective in OBJECTIVES for sampler in fitting_samplers(objective)]


def _sample(objective="rectified_flow", *, config=None, model=None, noise=None, guidance_scale=2.0, **options):
    noise = latents() if noise is None else noise
    arguments = {"condition": condition(len(noise)), "num_steps": 4, "draw_noise": _draws(len(noise)), **options}
    if "guidance" not in options:
        arguments["guidance_scale"] = guidance_scale
    return sample_latents(model or transformer(), config or model_config(objective), noise=noise, **arguments)


def _draws(batch):
    seeds = iter(range(100, 1000))
    return lambda: latents(next(seeds), batch=batch)


def _network(scale, batch):
    """P8 by hand."""
    model, asked = transformer(), condition(batch)

    def predict(x_t, timestep):
        timesteps = torch.full((batch,), timestep)
        null = model.predict(x_t, timesteps, asked.null(2))
        return null + scale * (model.predict(x_t, timesteps, asked) - null)

    return predict


def test_rectified_flow_is_sampled_by_euler_unless_another_is_asked_for():
    predict, x_t = _network(3.0, 8), latents(batch=8)
    for step in range(20):
        x_t = x_t + (1 - (step + 1) / 20 - (1 - step / 20)) * predict(x_t, 1000 * (1 - step / 20))
    found = _sample(noise=latents(batch=8), num_steps=20, guidance_scale=3.0)
    torch.testing.assert_close(found, x_t, atol=1e-5, rtol=1e-5)
    assert torch.equal(found, _sample(noise=latents(batch=8), num_steps=20, guidance_scale=3.0, sampler="euler"))


def test_epsilon_is_sampled_by_ddim_unless_another_is_asked_for():
    predict, x_t = _network(3.0, 8), latents(batch=8)
    alpha_bars = noise_schedule("linear", 40).alpha_bars
    for t in range(39, 0, -5):
        now, then = float(alpha_bars[t]), float(alpha_bars[t - 5]) if t > 5 else 1.0
        eps = predict(x_t, float(t))
        x_t = then**0.5 * (x_t - (1 - now) ** 0.5 * eps) / now**0.5 + (1 - then) ** 0.5 * eps
    found = _sample("epsilon", noise=latents(batch=8), num_steps=8, guidance_scale=3.0)
    torch.testing.assert_close(found, x_t, atol=1e-5, rtol=1e-5)
    assert torch.equal(found, _sample("epsilon", noise=latents(batch=8), num_steps=8, guidance_scale=3.0, sampler="ddim"))


@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
def test_every_sampler_that_fits_gives_finite_latents_and_the_same_again(objective, sampler):
    found = _sample(objective, sampler=sampler)
    assert found.shape == latents().shape
    assert bool(torch.isfinite(found).all())
    assert torch.equal(found, _sample(objective, sampler=sampler))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("sampler", typing.get_args(SamplerName))
def test_a_sampler_that_does_not_fit_the_objective_is_refused_with_those_that_do(objective, sampler):
    fitting = fitting_samplers(objective)
    if sampler in fitting:
        return
    with pytest.raises(BadDataError, match=f"{sampler} cannot sample") as refused:
        _sample(objective, sampler=sampler)
    assert all(name in refused.value.hint for name in fitting)


def test_the_models_own_sampler_is_used_where_none_is_asked_for():
    config = model_config("v", sampler="unipc")
    assert torch.equal(_sample(config=config), _sample("v", sampler="unipc"))
    assert torch.equal(_sample(config=config, sampler="ddim"), _sample("v"))


@pytest.mark.parametrize("objective", ["x0", "v"])
@pytest.mark.parametrize("sampler", fitting_samplers("v"))
def test_zero_terminal_snr_is_sampled_from_pure_noise(objective, sampler):
    config, asked = model_config(objective, zero_terminal_snr=True), []
    found = _sample(config=config, sampler=sampler, on_state=lambda state: asked.append(state.timestep))
    assert bool(torch.isfinite(found).all())
    assert asked[0] == 39


def test_an_epsilon_model_with_zero_terminal_snr_is_refused():
    with pytest.raises(BadModelError, match="zero terminal SNR"):
        _sample(config=model_config("epsilon", zero_terminal_snr=True))


def test_rectified_flow_with_learnt_variances_is_refused():
    with pytest.raises(BadModelError, match="no variance to learn"):
        _sample(model=transformer(dataclasses.replace(ARCHITECTURE, learn_variance=True)))


def test_an_objective_without_its_noise_schedule_is_refused():
    with pytest.raises(BadModelError, match="needs a noise schedule"):
        _sample(config=model_config("v", noise_schedule=None))


@pytest.mark.parametrize("sampler", fitting_samplers("epsilon"))
def test_a_network_that_learns_variances_is_sampled_with_guidance(sampler):
    model = transformer(dataclasses.replace(ARCHITECTURE, learn_variance=True))
    assert _sample("epsilon", model=model, sampler=sampler).shape == latents().shape


def test_ddpm_heeds_learnt_variances():
    model = transformer(dataclasses.replace(ARCHITECTURE, learn_variance=True))
    base = _sample("epsilon", model=model, sampler="ddpm", guidance_scale=1.0)
    model.final_layer.linear.bias.data[4:] -= 3.0  # one token a position: the second four outputs are the variances
    assert not torch.equal(_sample("epsilon", model=model, sampler="ddpm", guidance_scale=1.0), base)
    assert torch.equal(
        _sample("epsilon", model=model, sampler="ddim", guidance_scale=1.0),
        _sample("epsilon", model=model, sampler="ddim", guidance_scale=1.0),
    )


@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
def test_a_start_at_full_strength_is_plain_sampling_and_at_none_is_returned(objective, sampler):
    start = latents(7)
    assert torch.equal(_sample(objective, sampler=sampler, start=start, strength=1.0), _sample(objective, sampler=sampler))
    assert torch.equal(_sample(objective, sampler=sampler, start=start, strength=0.0), start)


@pytest.mark.parametrize("objective", ["rectified_flow", "v"])
def test_less_strength_keeps_more_of_the_start(objective):
    start = 3 * latents(7)
    distances = [
        float((_sample(objective, start=start, strength=strength, num_steps=20) - start).square().mean())
        for strength in (0.05, 0.35, 0.65, 1.0)
    ]
    assert distances == sorted(distances)


def test_a_start_is_noised_to_its_place_on_the_path_and_takes_its_share_of_steps():
    seen, start = [], latents(7)
    found = _sample(start=start, strength=0.5, num_steps=10, guidance_scale=1.0, on_state=seen.append)
    assert [(state.step, state.num_steps) for state in seen] == [(step, 5) for step in range(1, 6)]
    assert seen[0].timestep == 500
    assert torch.equal(seen[-1].x_t, found)
    x_t = 0.5 * start + 0.5 * latents()
    velocity = transformer().predict(x_t, torch.full((3,), 500.0), condition())
    torch.testing.assert_close(seen[0].x_t, x_t - 0.1 * velocity)
    torch.testing.assert_close(seen[0].x_0, x_t - 0.5 * velocity)


def test_guidance_with_a_scale_alone_is_the_guidance_scale():
    assert torch.equal(_sample(guidance=Guidance(scale=2.0)), _sample(guidance_scale=2.0))


def test_an_interval_and_a_rescale_change_the_sample():
    base = _sample(guidance_scale=2.0)
    assert not torch.equal(_sample(guidance=Guidance(scale=2.0, interval=(0.2, 0.6))), base)
    assert not torch.equal(_sample(guidance=Guidance(scale=2.0, rescale=0.7)), base)
    outside = Guidance(scale=2.0, interval=(0.3, 0.4))  # no step is there
    assert torch.equal(_sample(guidance=outside), _sample(guidance_scale=1.0))


def test_a_schedules_times_count_from_its_own_last_step():
    """40 steps: times 0.25 to 0.5 are steps 10 to 20."""
    config, halves = model_config("epsilon"), []
    model = transformer()
    whole = model.denoise
    model.denoise = lambda x_t, modulations: halves.append(len(x_t)) or whole(x_t, modulations)
    _sample(config=config, model=model, guidance=Guidance(scale=2.0, interval=(0.25, 0.5)), num_steps=8)
    assert halves == [3, 3, 3, 3, 6, 6, 3, 3]  # steps 39, 34, ..., 4


def test_a_time_shift_moves_the_steps_of_rectified_flow_alone():
    seen = []
    _sample(time_shift=3.0, on_state=lambda state: seen.append(state.timestep))
    assert seen == pytest.approx([1000, 900, 750, 500])
    with pytest.raises(BadDataError, match="time shift"):
        _sample("epsilon", time_shift=3.0)


def _network_of(objective, *, mean, std):
    """In place of a network the best one for gaussian data, whatever it predicts: it knows E[x_0 | x_t] and no more."""
    alpha_bars = noise_schedule("linear", 1000).alpha_bars

    def predict(x_t, timestep, condition):
        t = float(timestep[0])
        if objective == "rectified_flow":
            signal, sigma = 1 - t / 1000, t / 1000
        else:
            signal, sigma = float(alpha_bars[int(t)]) ** 0.5, float(1 - alpha_bars[int(t)]) ** 0.5
        x_0 = mean + signal * std**2 / (signal**2 * std**2 + sigma**2) * (x_t - signal * mean)
        prediction = "velocity" if objective == "rectified_flow" else objective
        return target(prediction, x_0, noise_from_x0(x_t, x_0, signal, sigma), signal, sigma)

    return lambda model, timesteps: types.SimpleNamespace(predict=predict)


@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_data_that_is_one_point_is_drawn_in_any_number_of_steps(monkeypatch, objective, sampler, num_steps):
    x_0 = latents(7)
    monkeypatch.setattr("model_core.sampling.sample.TabledNetwork", _network_of(objective, mean=x_0, std=0.0))
    config = model_config(objective, num_timesteps=1000)
    found = _sample(config=config, sampler=sampler, num_steps=num_steps, guidance_scale=1.0)
    torch.testing.assert_close(found, x_0, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
def test_one_step_goes_from_noise_to_the_mean_of_the_data(monkeypatch, objective, sampler):
    monkeypatch.setattr("model_core.sampling.sample.TabledNetwork", _network_of(objective, mean=2.0, std=0.5))
    found = _sample(config=model_config(objective, num_timesteps=1000), sampler=sampler, num_steps=1)
    torch.testing.assert_close(found, torch.full_like(found, 2.0), atol=0.05, rtol=0)


@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_every_sampler_begins_where_there_is_most_noise(objective, sampler, num_steps):
    asked = []
    _sample(objective, sampler=sampler, num_steps=num_steps, on_state=lambda state: asked.append(state.timestep))
    assert asked[0] == (1000 if objective == "rectified_flow" else 39)


def test_no_samples_and_one_step_are_right_answers():
    for sampler in fitting_samplers("rectified_flow"):
        assert _sample(noise=latents(batch=0), sampler=sampler).shape == (0, 4, 1, 2, 2)
        assert bool(torch.isfinite(_sample(num_steps=1, sampler=sampler)).all())
    assert _sample(noise=latents(batch=0), start=latents(batch=0), strength=0.5).shape == (0, 4, 1, 2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "at least one step"),
        ({"num_steps": -2}, "at least one step"),
        ({"objective": "epsilon", "num_steps": 0}, "1 to 40 steps"),
        ({"objective": "epsilon", "num_steps": 41}, "1 to 40 steps"),
        ({"guidance_scale": float("nan")}, "guidance scale is nan"),
        ({"guidance_scale": float("inf")}, "guidance scale is inf"),
        ({"strength": 0.5}, "no latents to start from"),
        ({"start": torch.zeros(3, 4, 1, 2, 2), "strength": 1.5}, "strength is 1.5"),
        ({"start": torch.zeros(3, 4, 1, 2, 2), "strength": -0.1}, "strength is -0.1"),
        ({"start": torch.zeros(3, 4, 1, 2, 2), "strength": float("nan")}, "strength is nan"),
        ({"start": torch.zeros(2, 4, 1, 2, 2), "strength": 0.5}, "to start from have shape"),
        ({"start": torch.full((3, 4, 1, 2, 2), float("inf")), "strength": 0.5}, "to start from hold a number"),
        ({"noise": torch.full((3, 4, 1, 2, 2), float("nan"))}, "noise holds a number"),
        ({"condition": condition(2)}, "3 samples were asked for with 2 conditions"),
        ({"cache_interval": 0}, "interval is 0"),
        ({"time_shift": 0.0}, "time shift is 0"),
    ],
)
def test_requests_that_make_no_sense_are_refused(options, message):
    with pytest.raises(BadDataError, match=message):
        _sample(**options)


@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_sample_that_does_not_come_out_finite_is_refused_by_name(objective, sampler, wrong):
    model = transformer()
    whole = model.denoise

    def diverges(x_t, modulations):
        output = whole(x_t, modulations)
        output[1, 2] = wrong
        return output

    model.denoise = diverges
    with pytest.raises(BadModelError, match=rf"sample 1 .* not finite .* {sampler}") as refused:
        _sample(objective, sampler=sampler, model=model, guidance_scale=1.0)
    assert "guidance scale" in refused.value.hint
    with pytest.raises(BadModelError, match=r"^two of the model"):
        _sample(objective, sampler=sampler, model=model, guidance_scale=1.0, names=["one", "two", "three"])


def test_calls_that_contradict_themselves_are_bugs():
    with pytest.raises(ValueError, match="either guidance_scale or guidance"):
        sample_latents(transformer(), model_config(), noise=latents(), condition=condition(), num_steps=2)
    with pytest.raises(ValueError, match="give draw_noise"):
        _sample("epsilon", sampler="ddpm", draw_noise=None)
