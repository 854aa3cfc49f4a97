import math
from functools import partial

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from model_core.diffusion.condition import Condition
from model_core.diffusion.losses import epsilon_loss, rectified_flow_loss
from model_core.diffusion.objective import Objective, make_objective
from model_core.diffusion.parameterisation import target
from model_core.diffusion.reverse import posterior_mean, posterior_variances, reverse_mean
from model_core.diffusion.schedules import noise_schedule
from model_core.diffusion.timesteps import logit_normal_times, uniform_steps, uniform_times
from model_core.errors import BadModelError
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT

SHAPE = (4, 3, 1, 2, 2)
NAMES = ["rectified_flow", "epsilon", "x0", "v"]


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _draw(dtype=torch.float32):
    return torch.randn(2, *SHAPE, generator=_generator(), dtype=dtype)


def _predict(x_t, timestep):
    return torch.tanh(x_t + timestep.view(-1, 1, 1, 1, 1) / 500)


def _times(objective):
    return objective.draw_times(SHAPE[0], _generator(1), "uniform")


@pytest.mark.parametrize(
    ("name", "prediction"), [("rectified_flow", "velocity"), ("epsilon", "epsilon"), ("x0", "x0"), ("v", "v")]
)
def test_an_objective_says_what_is_predicted_and_has_a_schedule_unless_it_is_a_flow(name, prediction):
    objective = make_objective(name)
    assert objective.prediction == prediction
    assert (objective.schedule is None) == (name == "rectified_flow")


def test_the_loss_of_rectified_flow_is_the_plain_one_to_the_bit():
    x_0, noise = _draw()
    t = logit_normal_times(4, _generator(2))
    assert torch.equal(
        make_objective("rectified_flow").loss(_predict, x_0, noise, t), rectified_flow_loss(_predict, x_0, noise, t)
    )


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_loss_of_epsilon_is_the_plain_one_to_the_bit(schedule):
    x_0, noise = _draw()
    t = uniform_steps(4, 1000, _generator(2))
    ours = make_objective("epsilon", noise_schedule=schedule).loss(_predict, x_0, noise, t)
    assert torch.equal(ours, epsilon_loss(_predict, x_0, noise, t, noise_schedule(schedule)))


def test_draws_are_those_of_the_plain_functions_to_the_bit():
    flow, epsilon = make_objective("rectified_flow"), make_objective("epsilon", num_timesteps=300)
    drawn = flow.draw_times(50, _generator(), "logit_normal", mean=0.5, std=0.8)
    assert torch.equal(drawn, logit_normal_times(50, _generator(), mean=0.5, std=0.8))
    assert torch.equal(flow.draw_times(50, _generator(), "uniform"), uniform_times(50, _generator()))
    assert torch.equal(epsilon.draw_times(50, _generator(), "uniform"), uniform_steps(50, 300, _generator()))


@pytest.mark.parametrize("name", ["epsilon", "x0", "v"])
def test_logit_normal_steps_come_more_often_from_the_middle(name):
    steps = make_objective(name, num_timesteps=100).draw_times(4000, _generator(), "logit_normal")
    assert steps.dtype == torch.int64
    assert 0 <= steps.min() < steps.max() <= 99
    assert float(((steps >= 25) & (steps < 75)).float().mean()) == pytest.approx(0.728, abs=0.03)  # P(|z| < ln 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_a_perfect_network_has_no_loss(name, gamma):
    objective = make_objective(name, min_snr_gamma=gamma)
    x_0, noise = _draw()
    t = _times(objective)
    perfect = target(objective.prediction, x_0, noise, *objective.coefficients(t, x_0))
    assert objective.loss(lambda x_t, timestep: perfect, x_0, noise, t) == 0


@pytest.mark.parametrize("name", NAMES)
def test_min_snr_weights_each_samples_error(name):
    objective, plain = make_objective(name, min_snr_gamma=5.0), make_objective(name)
    x_0, noise = _draw()
    t = _times(objective)
    signal, sigma = (values.flatten().double() for values in objective.coefficients(t, x_0))
    snr = signal**2 / sigma**2
    divisor = {"epsilon": snr, "x0": 1, "v": snr + 1, "rectified_flow": (snr.sqrt() + 1) ** 2}[name]
    each = torch.stack([plain.loss(_predict, x_0[[i]], noise[[i]], t[[i]]) for i in range(SHAPE[0])])
    torch.testing.assert_close(objective.loss(_predict, x_0, noise, t), (snr.clamp(max=5) / divisor * each).mean().float())


@pytest.mark.parametrize("name", ["x0", "v"])
def test_the_last_step_of_zero_terminal_snr_shows_the_network_pure_noise(name):
    objective = make_objective(name, num_timesteps=50, zero_terminal_snr=True)
    x_0, noise = _draw()
    seen = []

    def predict(x_t, timestep):
        seen.append((x_t, timestep))
        return x_t

    assert torch.isfinite(objective.loss(predict, x_0, noise, torch.full((4,), 49)))
    assert torch.equal(seen[0][0], noise)
    assert seen[0][1].tolist() == [49.0] * 4


def _hybrid_network(output, parameters):
    return lambda x_t, timestep: torch.cat([output(x_t, timestep) + parameters[0], torch.tanh(x_t + parameters[1])], dim=1)


def _expected_hybrid(name, schedule, network, x_0, noise, t):
    """Nichol & Dhariwal's loss, computed sample by sample with torch's distributions."""
    terms, errors = [], []
    for i, step in enumerate(t.tolist()):
        signal, sigma = float(schedule.signals[step]), float(schedule.sigmas[step])
        x_t = (signal * x_0[i] + sigma * noise[i])[None]
        output = network(i, x_t)
        errors.append((output - target(name, x_0[[i]], noise[[i]], signal, sigma)).square().mean())
        small, large = posterior_variances(schedule)[max(step, 1)], schedule.betas[step]
        share = (torch.tanh(x_t) + 1) / 2
        model = Normal(reverse_mean(name, output, x_t, t[[i]], schedule), (large**share * small ** (1 - share)).sqrt())
        if step == 0:
            nats = -(model.cdf(x_0[[i]] + 1 / 255) - model.cdf(x_0[[i]] - 1 / 255)).log()
        else:
            nats = kl_divergence(Normal(posterior_mean(x_0[[i]], x_t, t[[i]], schedule), small.sqrt()), model)
        terms.append(nats.mean() / math.log(2))
    return torch.stack(errors).mean() + 0.001 * schedule.num_timesteps * torch.stack(terms).mean()


@pytest.mark.parametrize("name", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("num_timesteps", [200, 1000])
def test_the_hybrid_loss_is_the_simple_one_and_a_thousandth_of_the_bound(name, num_timesteps):
    objective = make_objective(name, num_timesteps=num_timesteps, learn_variance=True)
    x_0, noise = _draw(torch.float64)
    t = torch.tensor([0, 1, 77, num_timesteps - 1])
    perfect = target(name, x_0, noise, *objective.coefficients(t, x_0))
    whole = _hybrid_network(lambda x_t, timestep: perfect + 0.02 * torch.sin(x_t), (0.0, 0.0))
    ours = objective.loss(whole, x_0, noise, t)
    expected = _expected_hybrid(name, objective.schedule, lambda i, x_t: perfect[[i]] + 0.02 * torch.sin(x_t), x_0, noise, t)
    torch.testing.assert_close(ours, expected, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("name", ["epsilon", "x0", "v"])
def test_the_bound_teaches_the_variance_and_leaves_the_mean_to_the_simple_loss(name):
    x_0, noise = _draw()
    t = torch.tensor([0, 1, 500, 998])
    parameters = torch.zeros(2, requires_grad=True)
    make_objective(name, learn_variance=True).loss(_hybrid_network(_predict, parameters), x_0, noise, t).backward()
    simple = torch.zeros((), requires_grad=True)
    make_objective(name).loss(lambda x_t, timestep: _predict(x_t, timestep) + simple, x_0, noise, t).backward()
    assert torch.isfinite(parameters.grad).all()
    assert parameters.grad[1] != 0
    torch.testing.assert_close(parameters.grad[0], simple.grad)


def test_learning_the_variance_finds_the_best_one():
    """For gaussian data the best variance is known; gradient steps on the interpolation alone go there."""
    schedule = noise_schedule("linear", 10)
    objective = make_objective("x0", num_timesteps=10, learn_variance=True)
    generator, t = _generator(3), torch.full((256,), 4)
    signal, sigma = float(schedule.signals[4]), float(schedule.sigmas[4])
    interpolation = torch.zeros((), requires_grad=True)

    def predict(x_t, timestep):  # data of mean 0 and variance 1
        return torch.cat([signal * x_t, interpolation.expand_as(x_t)], dim=1)

    optimiser = torch.optim.Adam([interpolation], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        x_0, noise = torch.randn(2, 256, 4, 1, 2, 2, generator=generator)
        objective.loss(predict, x_0, noise, t).backward()
        optimiser.step()
    small, large = posterior_variances(schedule)[4], schedule.betas[4]
    factor = schedule.alpha_bars[3].sqrt() * schedule.betas[4] / (1 - schedule.alpha_bars[4])
    best = small + factor**2 * sigma**2
    assert float(interpolation.detach()) == pytest.approx(float(2 * (best / small).log() / (large / small).log() - 1), abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_transformer_learns_every_objective(name):
    """The loss on one batch falls, and the gradient reaches the variance's channels of the last layer too."""
    learn_variance = name != "rectified_flow"
    architecture = TransformerConfig(
        in_channels=3, hidden_size=16, depth=1, num_heads=2, frequency_dim=16, learn_variance=learn_variance
    )
    model = DiT(architecture, generator=_generator(4))
    objective = make_objective(name, num_timesteps=50, learn_variance=learn_variance)
    labels = torch.zeros(SHAPE[0], dtype=torch.int64)
    condition = Condition(labels=labels, text=torch.zeros(SHAPE[0], 0), text_mask=labels.bool())
    x_0, noise = _draw()
    t = _times(objective)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = objective.loss(partial(model.predict, condition=condition), x_0, noise, t)
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]
    assert (model.final_layer.linear.bias.grad != 0).all()


def test_steps_and_times_of_the_wrong_kind_or_out_of_range_are_refused():
    x_0, noise = _draw()
    flow, epsilon = make_objective("rectified_flow"), make_objective("epsilon", num_timesteps=10)
    for t in ([0, 1, 2, 10], [-1, 0, 0, 0]):
        with pytest.raises(ValueError, match="out of range"):
            epsilon.loss(_predict, x_0, noise, torch.tensor(t))
    for t in ([0.0, 0.5, 1.0, 1.01], [-0.1, 0.0, 0.0, 0.0], [math.nan, 0.0, 0.0, 0.0]):
        with pytest.raises(ValueError, match="not within 0 to 1"):
            flow.loss(_predict, x_0, noise, torch.tensor(t))
    with pytest.raises(ValueError, match="integer steps, not"):
        epsilon.loss(_predict, x_0, noise, torch.zeros(4))
    with pytest.raises(ValueError, match="float times, not"):
        flow.loss(_predict, x_0, noise, torch.zeros(4, dtype=torch.int64))


def test_shapes_that_differ_are_refused(unchecked):
    x_0, noise = _draw()
    flow = make_objective("rectified_flow")
    with pytest.raises(ValueError, match=r"noise \[1, 3, 1, 2, 2\]"):
        flow.loss(_predict, x_0, noise[:1], torch.zeros(4))
    with pytest.raises(ValueError, match=r"t \[1\]"):
        flow.loss(_predict, x_0, noise, torch.zeros(1))


@pytest.mark.parametrize("name", NAMES)
def test_an_output_of_another_width_is_refused(name):
    x_0, noise = _draw()
    objective = make_objective(name)
    with pytest.raises(BadModelError, match=r"returned \[4, 6, 1, 2, 2\], expected \[4, 3, 1, 2, 2\]"):
        objective.loss(lambda x_t, timestep: torch.cat([x_t, x_t], dim=1), x_0, noise, _times(objective))
    if name != "rectified_flow":
        with pytest.raises(BadModelError, match=r"returned \[4, 3, 1, 2, 2\], a learned variance needs \[4, 6, 1, 2, 2\]"):
            make_objective(name, learn_variance=True).loss(_predict, x_0, noise, _times(objective))


@pytest.mark.parametrize("name", NAMES)
def test_a_latent_that_is_no_number_gives_a_loss_that_is_none(name):
    objective = make_objective(name)
    x_0, noise = _draw()
    x_0[0, 0, 0, 0, 0] = math.nan
    assert torch.isnan(objective.loss(_predict, x_0, noise, _times(objective)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "score"}, "no objective is called 'score'"),
        ({"name": "v", "noise_schedule": "steep"}, "no noise schedule is called 'steep'"),
        ({"name": "v", "num_timesteps": 0}, "at least one step"),
        ({"name": "v", "num_timesteps": 1, "zero_terminal_snr": True}, "at least two steps"),
        ({"name": "epsilon", "zero_terminal_snr": True}, "cannot have zero terminal SNR"),
        ({"name": "rectified_flow", "learn_variance": True}, "no variance to learn"),
        ({"name": "v", "min_snr_gamma": 0.0}, "min_snr_gamma is 0.0"),
        ({"name": "v", "min_snr_gamma": -1.0}, "min_snr_gamma is -1.0"),
        ({"name": "v", "min_snr_gamma": math.nan}, "min_snr_gamma is nan"),
        ({"name": "v", "min_snr_gamma": math.inf}, "min_snr_gamma is inf"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values, message, unchecked):
    with pytest.raises(BadModelError, match=message):
        make_objective(**values)


def test_a_schedule_that_is_missing_or_too_much_is_refused():
    with pytest.raises(BadModelError, match="the v objective needs a noise schedule"):
        Objective(name="v", schedule=None)
    with pytest.raises(BadModelError, match="the rectified_flow objective has no noise schedule"):
        Objective(name="rectified_flow", schedule=noise_schedule())


def test_an_unknown_time_sampling_is_refused(unchecked):
    with pytest.raises(BadModelError, match="'normal'"):
        make_objective("v").draw_times(4, _generator(), "normal")


def test_names_import_no_tensors():
    import subprocess
    import sys

    code = "import sys, model_core.diffusion.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
