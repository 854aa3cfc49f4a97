import torch

from model_core.diffusion.losses import epsilon_loss, rectified_flow_loss, simple_loss
from model_core.diffusion.schedules import noise_schedule

SHAPE = (4, 3, 1, 2, 2)


def _draw():
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_the_perfect_noise_predictor_has_no_loss_and_zero_has_the_noise_power():
    x_0, noise = _draw()
    t = torch.tensor([0, 10, 50, 99])
    schedule = noise_schedule("linear", 100)
    assert epsilon_loss(lambda x_t, timestep: noise, x_0, noise, t, schedule) == 0
    zero = epsilon_loss(lambda x_t, timestep: torch.zeros_like(x_t), x_0, noise, t, schedule)
    torch.testing.assert_close(zero, noise.square().mean())


def test_the_perfect_velocity_predictor_has_no_loss():
    x_0, noise = _draw()
    assert rectified_flow_loss(lambda x_t, timestep: noise - x_0, x_0, noise, torch.rand(4)) == 0


def test_the_network_sees_times_on_one_scale():
    x_0, noise = _draw()
    seen = []

    def predict(x_t, timestep):
        seen.append(timestep)
        return x_t

    rectified_flow_loss(predict, x_0, noise, torch.tensor([0.0, 0.25, 0.5, 1.0]))
    epsilon_loss(predict, x_0, noise, torch.tensor([0, 1, 2, 999]), noise_schedule())
    assert seen[0].tolist() == [0, 250, 500, 1000]
    assert seen[1].tolist() == [0, 1, 2, 999]


def test_weights_count_each_samples_error():
    output, target = _draw()
    weights = torch.tensor([0.0, 1.0, 2.0, 0.5]).view(-1, 1, 1, 1, 1)
    expected = (weights.flatten() * (output - target).square().flatten(1).mean(dim=1)).mean()
    torch.testing.assert_close(simple_loss(output, target, weights), expected)
    torch.testing.assert_close(simple_loss(output, target, torch.ones(())), simple_loss(output, target))
