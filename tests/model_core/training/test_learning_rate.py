import itertools

import pytest
import torch

from model_core.training.config import TrainingConfig
from model_core.training.learning_rate import learning_rate_at


def _rates(**change):
    config = TrainingConfig(**{"num_steps": 50, "warmup_steps": 10, "learning_rate": 0.5, **change})
    return [learning_rate_at(step, config) for step in range(50)]


def test_the_rate_rises_evenly_to_its_peak():
    assert _rates()[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])


@pytest.mark.parametrize("fraction", [0.0, 0.1])
def test_cosine_decay_is_torchs(fraction):
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.5 * fraction)
    expected = []
    for _ in range(40):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert _rates(final_rate_fraction=fraction)[10:] == pytest.approx(expected)


def test_linear_decay_is_a_line_and_constant_stays():
    rates = _rates(decay="linear", final_rate_fraction=0.2)[10:]
    steps = [b - a for a, b in itertools.pairwise(rates)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert rates[-1] + steps[0] == pytest.approx(0.1)
    assert set(_rates(decay="constant")[10:]) == {0.5}


def test_wsd_stays_at_the_peak_and_falls_along_a_line_at_the_end():
    rates = _rates(decay="wsd", decay_fraction=0.2, final_rate_fraction=0.1)
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert set(rates[10:41]) == {0.5}
    assert rates[40:] == pytest.approx([0.5 - 0.45 * step / 10 for step in range(10)])


@pytest.mark.parametrize("decay", ["cosine", "linear", "wsd"])
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_rate_is_never_negative_nor_above_its_peak(decay, fraction):
    for warmup_steps in (0, 10, 50, 80):
        rates = _rates(decay=decay, decay_fraction=fraction, warmup_steps=warmup_steps)
        assert all(0 <= rate <= 0.5 for rate in rates)
