import pytest
import torch
from torch import nn

from model_core.codec.adversary import AdversarialTraining, Adversary
from model_core.codec.discriminator import (
    PatchDiscriminator,
    adaptive_weight,
    discriminator_hinge,
    generator_hinge,
    smallest_side,
)
from model_core.errors import BadModelError, TrainingDivergedError
from tests.model_core.codec.small import pictures


@pytest.mark.parametrize(("num_layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_an_output_sees_the_patch_of_the_paper(num_layers: int, field: int) -> None:
    network = PatchDiscriminator(width=1, num_layers=num_layers)
    for name, child in list(network.net.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(network.net, name, nn.Identity())  # which looks at the whole batch
    frames = torch.zeros(1, 3, 128, 128, requires_grad=True)
    scores = network(frames)
    middle = scores.shape[-1] // 2
    scores[0, 0, middle, middle].backward()
    touched = frames.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (touched.max(0).values - touched.min(0).values + 1).tolist() == [field, field]


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_the_smallest_picture_gives_one_score(num_layers: int) -> None:
    side = smallest_side(num_layers)
    network = PatchDiscriminator(width=2, num_layers=num_layers)
    assert network(torch.randn(1, 3, side, side)).shape == (1, 1, 1, 1)
    with pytest.raises(BadModelError, match="too small"):
        Adversary(AdversarialTraining(start_step=0, num_layers=num_layers), crop_size=side - 1, seed=0)


def test_hinge_losses_are_those_of_the_definition() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]).view(3, 1, 1, 1), torch.tensor([-3.0, 0.0, 1.0]).view(3, 1, 1, 1)
    assert float(discriminator_hinge(real, fake)) == pytest.approx(((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3) / 2)
    assert float(generator_hinge(fake)) == pytest.approx(2 / 3)


def test_the_adaptive_weight_makes_both_gradients_as_long() -> None:
    weight = nn.Parameter(torch.randn(2, 3))
    reconstruction, adversarial = (3 * weight).square().sum(), (weight * torch.randn(2, 3)).sum() / 7
    found = adaptive_weight(reconstruction, adversarial, weight)
    lengths = [torch.autograd.grad(loss, weight)[0].norm() for loss in (reconstruction, adversarial)]
    assert float(found) == pytest.approx(float(lengths[0] / lengths[1]), rel=1e-4)
    assert not found.requires_grad


def test_the_adaptive_weight_is_bounded() -> None:
    weight = nn.Parameter(torch.ones(2))
    assert float(adaptive_weight(1e9 * weight.sum(), 1e-9 * weight.sum(), weight)) == pytest.approx(1e4)
    assert float(adaptive_weight(0 * weight.sum(), weight.sum(), weight)) == 0.0


def test_a_discriminator_learns_to_tell_two_kinds_of_pictures_apart() -> None:
    adversary = Adversary(AdversarialTraining(start_step=0, width=4, num_layers=1, learning_rate=1e-2), crop_size=8, seed=0)
    real, fake = pictures(8, 8), torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    losses = [adversary.step(real, fake) for _ in range(25)]
    assert losses[-1] < 0.5 * losses[0]


def test_first_weights_depend_on_the_seed_only_and_leave_torch_alone() -> None:
    plan, state = AdversarialTraining(start_step=0, width=2, num_layers=1), torch.random.get_rng_state()
    one, same, other = (Adversary(plan, crop_size=8, seed=seed).tensors() for seed in (1, 1, 2))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    adversary = Adversary(AdversarialTraining(start_step=0, width=2, num_layers=1), crop_size=8, seed=0)
    with pytest.raises(TrainingDivergedError, match="discriminator"):
        adversary.step(pictures(2, 8), torch.full((2, 3, 8, 8), float("nan")))


@pytest.mark.parametrize(
    "changes",
    [{"start_step": -1}, {"weight": 0.0}, {"learning_rate": 0.0}, {"width": 0}, {"num_layers": 0}, {"num_layers": 7}],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(BadModelError, match="discriminator"):
        AdversarialTraining(**{"start_step": 0, **changes})  # type: ignore[arg-type]
