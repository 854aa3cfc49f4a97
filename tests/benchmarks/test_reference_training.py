import math

import pytest
import torch

from benchmarks.peers.dit_reference import ReferenceDiT
from benchmarks.peers.reference_training import GaussianDiffusion, ReferenceTrainer, update_ema
from model_core.diffusion.objective import make_objective

T = 50


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(3)
    x_0, noise = (torch.randn(6, 2, 4, 4, generator=generator) for _ in range(2))
    return x_0, noise, torch.tensor([0, 1, 7, 20, 48, 49]), torch.randn(6, 4, 4, 4, generator=generator)


def small_network():
    return ReferenceDiT(input_size=4, patch_size=2, in_channels=2, hidden_size=16, depth=1, num_heads=2, num_classes=3)


@pytest.mark.parametrize("t", [1, 7, 20, 48, 49])
def test_the_hybrid_loss_is_diffusers_variance_and_mean_in_a_gaussian_kl(drawn, t):
    """The bound's term from diffusers' DDPM scheduler's own mean and variance, and torch's KL of two normals."""
    from diffusers import DDPMScheduler

    x_0, noise, _, output = drawn
    betas = {"beta_start": 1e-4 * 1000 / T, "beta_end": 0.02 * 1000 / T, "beta_schedule": "linear", "num_train_timesteps": T}
    schedule = DDPMScheduler(**betas, variance_type="learned_range", clip_sample=False)
    x_t = schedule.add_noise(x_0, noise, torch.tensor(t))
    predicted, interpolation = output.chunk(2, dim=1)

    def mean_of(epsilon):
        fixed = DDPMScheduler(**betas, variance_type="fixed_small", clip_sample=False)
        fixed._get_variance = lambda *_, **__: torch.tensor(0.0)
        return fixed.step(epsilon, t, x_t).prev_sample

    log_variance = schedule._get_variance(t, predicted_variance=interpolation)
    true = torch.distributions.Normal(mean_of(noise), schedule._get_variance(t, variance_type="fixed_small").sqrt())
    model = torch.distributions.Normal(mean_of(predicted), torch.exp(0.5 * log_variance))
    bits = torch.distributions.kl_divergence(true, model).mean(dim=(1, 2, 3)) / math.log(2)
    expected = ((noise - predicted).square().mean(dim=(1, 2, 3)) + bits).mean()
    found = GaussianDiffusion(T).hybrid_loss(lambda *_: output, x_0, noise, torch.full((6,), t), torch.zeros(6))
    assert float(found) == pytest.approx(float(expected), rel=2e-3)


def test_the_bound_trains_the_variance_alone(drawn):
    x_0, noise, t, output = drawn
    t = t.clamp(min=1)
    output = output.requires_grad_()
    GaussianDiffusion(T).hybrid_loss(lambda *_: output, x_0, noise, t, torch.zeros(6)).backward()
    simple = 2 * (output.detach()[:, :2] - noise) / (2 * 4 * 4) / 6
    torch.testing.assert_close(output.grad[:, :2], simple)
    assert float(output.grad[:, 2:].abs().min()) > 0


def test_the_simple_part_is_our_epsilon_loss(drawn):
    x_0, noise, t, output = drawn
    ours = make_objective("epsilon", num_timesteps=T).loss(lambda *_: output[:, :2, None], x_0[:, :, None], noise[:, :, None], t)
    diffusion = GaussianDiffusion(T)
    diffusion._bound = lambda *_: torch.zeros(6)
    assert float(diffusion.hybrid_loss(lambda *_: output, x_0, noise, t, torch.zeros(6))) == pytest.approx(float(ours), rel=1e-6)


def test_ddim_with_the_true_noise_comes_back_to_the_data(drawn):
    x_0, noise, _, _ = drawn
    diffusion = GaussianDiffusion(T)
    x_t = math.sqrt(diffusion.alpha_bars[40]) * x_0 + math.sqrt(1 - diffusion.alpha_bars[40]) * noise
    torch.testing.assert_close(diffusion.ddim_step(noise, x_t, 40, -1), x_0, rtol=1e-4, atol=1e-4)


def test_the_average_moves_by_its_decay():
    model, ema = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    before, now = ema.weight.item(), model.weight.item()
    update_ema(ema, model, 0.75)
    assert ema.weight.item() == pytest.approx(0.75 * before + 0.25 * now)


def test_steps_lower_the_loss_and_the_average_follows():
    torch.manual_seed(0)
    trainer = ReferenceTrainer(small_network(), num_labels=3)
    for group in trainer.optimizer.param_groups:
        group["lr"] = 3e-3
    x_0, labels = torch.randn(1, 2, 4, 4).repeat(16, 1, 1, 1), torch.zeros(16, dtype=torch.int64)
    losses = [trainer.step(x_0, labels) for _ in range(60)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    moved, averaged = (float(net.final_layer.linear.weight.detach().abs().max()) for net in (trainer.model, trainer.ema))
    assert 0 < averaged < moved
