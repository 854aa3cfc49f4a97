import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.diffusion.condition import Condition
from model_core.diffusion.guidance import Guidance, classifier_free_guidance, guided_denoiser, rescaled
from model_core.errors import BadDataError

SHAPE = (3, 5, 1, 2, 2)
NUM_LABELS = 4


def _condition():
    return Condition(labels=torch.tensor([0, 1, 2]), text=torch.ones(3, 2), text_mask=torch.tensor([True, True, False]))


def _x_t():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


CONDITIONAL = torch.tensor([10.0, 11.0, 2.0]).view(-1, 1, 1, 1, 1)


def _network(calls, *, learns_variance=False):
    """A network whose prediction shows what it was conditioned on."""

    def predict(x_t, timestep, condition):
        calls.append(condition)
        told = (condition.labels + 10.0 * condition.text_mask).view(-1, 1, 1, 1, 1)
        return torch.cat([x_t + told, 0 * x_t + told], dim=1) if learns_variance else x_t + told

    return predict


def _guided(guidance, calls, *, timestep=0.0, **options):
    network = _network(calls, **options)
    denoiser = guided_denoiser(network, _condition(), num_labels=NUM_LABELS, guidance=guidance)
    return denoiser(_x_t(), torch.as_tensor(timestep, dtype=torch.float32).expand(3))


def test_scale_one_is_the_conditional_prediction_without_an_unconditional_half():
    calls = []
    torch.testing.assert_close(_guided(Guidance(scale=1.0), calls), _x_t() + CONDITIONAL)
    assert [len(call) for call in calls] == [3]


def test_scale_zero_is_the_unconditional_prediction_without_a_conditional_half():
    calls = []
    torch.testing.assert_close(_guided(Guidance(scale=0.0), calls), _x_t() + NUM_LABELS)
    assert [len(call) for call in calls] == [3]


@pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0])
def test_other_scales_extrapolate_on_every_channel(scale):
    calls = []
    prediction = _guided(Guidance(scale=scale), calls)
    torch.testing.assert_close(prediction, (1 - scale) * (_x_t() + NUM_LABELS) + scale * (_x_t() + CONDITIONAL))
    assert [len(call) for call in calls] == [6]


def test_learnt_variances_are_not_guided():
    calls = []
    found = _guided(Guidance(scale=3.0, rescale=0.5), calls, learns_variance=True)
    prediction, variance = found.chunk(2, dim=1)
    assert torch.equal(prediction, _guided(Guidance(scale=3.0, rescale=0.5), calls))
    assert torch.equal(variance, CONDITIONAL.expand(SHAPE))


def test_guidance_is_linear_so_it_commutes_with_the_change_from_velocity_to_data():
    conditional, unconditional, x_t = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    by_velocity = x_t - 0.3 * classifier_free_guidance(conditional, unconditional, 3.0)
    by_data = classifier_free_guidance(x_t - 0.3 * conditional, x_t - 0.3 * unconditional, 3.0)
    torch.testing.assert_close(by_velocity, by_data)


@pytest.mark.parametrize(("timestep", "inside"), [(0, False), (199, False), (200, True), (400, True), (600, True), (601, False)])
@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_outside_the_interval_the_condition_is_followed_as_trained(timestep, inside, scale):
    calls = []
    found = _guided(Guidance(scale=scale, interval=(0.2, 0.6)), calls, timestep=timestep)
    torch.testing.assert_close(found, _guided(Guidance(scale=scale if inside else 1.0), []))
    assert [len(call) for call in calls] == [6 if inside and scale else 3]


def test_an_interval_of_all_times_is_no_interval():
    for timestep in (0.0, 333.3, 1000.0):
        whole = _guided(Guidance(scale=3.0, interval=(0.0, 1.0)), [], timestep=timestep)
        assert torch.equal(whole, _guided(Guidance(scale=3.0), [], timestep=timestep))


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_samples_at_different_times_are_guided_each_by_its_own(scale):
    found = _guided(Guidance(scale=scale, interval=(0.2, 0.6)), [], timestep=[100.0, 300.0, 900.0])
    torch.testing.assert_close(found[[0, 2]], (_x_t() + CONDITIONAL)[[0, 2]])
    torch.testing.assert_close(found[1], _guided(Guidance(scale=scale), [])[1])


@given(phi=st.floats(0, 1), scale=st.floats(-5, 15), seed=st.integers(0, 100))
def test_rescaled_guidance_moves_the_spread_towards_the_conditional_predictions(phi, scale, seed):
    conditional, unconditional = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    guided = classifier_free_guidance(conditional, unconditional, scale)
    found = rescaled(guided, conditional, phi)
    for sample in range(3):
        plain, wanted = float(guided[sample].std()), float(conditional[sample].std())
        assert float(found[sample].std()) == pytest.approx(phi * wanted + (1 - phi) * plain)


def test_rescaled_guidance_is_the_papers_formula():
    conditional, unconditional = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    guided = unconditional + 7.5 * (conditional - unconditional)
    spreads = [x.flatten(1).std(dim=1).view(-1, 1, 1, 1, 1) for x in (conditional, guided)]
    expected = 0.7 * guided * spreads[0] / spreads[1] + 0.3 * guided
    torch.testing.assert_close(rescaled(guided, conditional, 0.7), expected)


def test_the_denoiser_rescales_and_a_prediction_without_spread_stays():
    found = _guided(Guidance(scale=3.0, rescale=0.7), [])
    plain = _guided(Guidance(scale=3.0), [])
    torch.testing.assert_close(found, rescaled(plain, _x_t() + CONDITIONAL, 0.7))
    zeros = torch.zeros(SHAPE)
    assert torch.equal(rescaled(zeros, zeros, 1.0), zeros)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": math.nan}, "guidance scale is nan"),
        ({"scale": math.inf}, "guidance scale is inf"),
        ({"interval": (0.6, 0.2)}, "guidance interval"),
        ({"interval": (0.2, 0.2)}, "guidance interval"),
        ({"interval": (-0.1, 0.5)}, "guidance interval"),
        ({"interval": (0.1, 1.5)}, "guidance interval"),
        ({"interval": (math.nan, 0.5)}, "guidance interval"),
        ({"rescale": -0.1}, "guidance rescale"),
        ({"rescale": 1.1}, "guidance rescale"),
        ({"rescale": math.nan}, "guidance rescale"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(values, message):
    with pytest.raises(BadDataError, match=message):
        Guidance(**values)
