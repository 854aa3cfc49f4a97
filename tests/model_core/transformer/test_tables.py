"""Tables of positions are kept between calls: whoever asks first must not spoil them for the next."""

import pytest
import torch

from model_core.transformer.dit import DiT
from model_core.transformer.positions import grid_positions
from model_core.transformer.rope import grid_rotations
from tests.model_core.transformer.networks import OPTIONS, awake, condition, config, latents


def _forget():
    grid_positions.cache_clear()
    grid_rotations.cache_clear()


@pytest.mark.parametrize("name", ["default", "rope", "all"])
def test_a_network_that_sampled_in_inference_mode_trains(name):
    _forget()
    model = awake(config(**OPTIONS[name])).requires_grad_(True)
    with torch.inference_mode():
        model.predict(latents(2), torch.zeros(2), condition(2))
    model.predict(latents(2), torch.zeros(2), condition(2)).sum().backward()
    assert model.x_embedder.weight.grad is not None


@pytest.mark.parametrize("name", ["default", "rope"])
def test_a_network_without_numbers_leaves_the_tables_alone(name):
    _forget()
    with torch.device("meta"):
        model = DiT(config(**OPTIONS[name]))
        labels, mask = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool)
        shape = model(torch.zeros(2, 4, 1, 4, 4), torch.zeros(2), labels, torch.zeros(2, 5), mask).shape
    assert shape == (2, 4, 1, 4, 4)
    prediction = awake(config(**OPTIONS[name])).predict(latents(2), torch.zeros(2), condition(2))
    assert torch.isfinite(prediction).all()


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_bfloat16_autocast_computes_about_the_same(changes):
    model = awake(config(**changes), scale=0.03)
    arguments = (latents(2, 2), torch.tensor([10.0, 900.0]), condition(2))
    expected = model.predict(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.predict(*arguments)
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()
