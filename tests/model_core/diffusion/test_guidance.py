import pytest
import torch

from model_core.diffusion.condition import Condition
from model_core.diffusion.guidance import classifier_free_guidance, guided_denoiser

SHAPE = (3, 5, 1, 2, 2)
NUM_LABELS = 4


def _condition():
    return Condition(labels=torch.tensor([0, 1, 2]), text=torch.ones(3, 2), text_mask=torch.tensor([True, True, False]))


def _network(calls):
    """A network whose prediction shows what it was conditioned on."""

    def predict(x_t, timestep, condition):
        calls.append(condition)
        told = condition.labels + 10.0 * condition.text_mask
        return x_t + told.view(-1, 1, 1, 1, 1)

    return predict


def _guided(scale, calls):
    denoiser = guided_denoiser(_network(calls), _condition(), num_labels=NUM_LABELS, scale=scale)
    x_t = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return denoiser(x_t, torch.zeros(3)), x_t


def test_scale_one_is_the_conditional_prediction_without_an_unconditional_half():
    calls = []
    prediction, x_t = _guided(1.0, calls)
    torch.testing.assert_close(prediction, x_t + torch.tensor([10.0, 11.0, 2.0]).view(-1, 1, 1, 1, 1))
    assert [len(call) for call in calls] == [3]


def test_scale_zero_is_the_unconditional_prediction():
    calls = []
    prediction, x_t = _guided(0.0, calls)
    torch.testing.assert_close(prediction, x_t + NUM_LABELS)
    assert [len(call) for call in calls] == [3]


@pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0])
def test_other_scales_extrapolate_on_every_channel(scale):
    calls = []
    prediction, x_t = _guided(scale, calls)
    conditional = x_t + torch.tensor([10.0, 11.0, 2.0]).view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(prediction, (1 - scale) * (x_t + NUM_LABELS) + scale * conditional)
    assert [len(call) for call in calls] == [6]


def test_guidance_is_linear_so_it_commutes_with_the_change_from_velocity_to_data():
    conditional, unconditional, x_t = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    by_velocity = x_t - 0.3 * classifier_free_guidance(conditional, unconditional, 3.0)
    by_data = classifier_free_guidance(x_t - 0.3 * conditional, x_t - 0.3 * unconditional, 3.0)
    torch.testing.assert_close(by_velocity, by_data)
