import pytest
import torch

from model_core.training.ema import ema_decay_at, update_ema


def test_the_average_has_its_closed_form():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(6, 3, 2, dtype=torch.float64, generator=generator)
    ema = weights[0].clone()
    for now in weights[1:]:
        update_ema([ema], [now], 0.8)
    expected = 0.8**5 * weights[0] + sum(0.2 * 0.8 ** (5 - index) * weights[index] for index in range(1, 6))
    torch.testing.assert_close(ema, expected)


def test_the_decay_warms_up():
    decays = [ema_decay_at(step, 0.99) for step in range(2000)]
    assert decays[0] == pytest.approx(0.1)
    assert decays == sorted(decays)
    assert decays[-1] == 0.99
