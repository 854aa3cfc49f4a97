import pytest
import torch

from model_core.diffusion.condition import Condition, drop_conditions
from model_core.errors import BadDataError


def _condition(count=4000):
    return Condition(labels=torch.zeros(count, dtype=torch.int64), text=torch.ones(count, 2), text_mask=torch.ones(count).bool())


def _drop(**probabilities):
    given = {"all_probability": 0.0, "label_probability": 0.0, "text_probability": 0.0, **probabilities}
    dropped = drop_conditions(_condition(), num_labels=7, generator=torch.Generator().manual_seed(0), **given)
    return dropped.labels == 7, ~dropped.text_mask


def test_nothing_is_dropped_at_probability_zero():
    no_label, no_text = _drop()
    assert not no_label.any()
    assert not no_text.any()


def test_both_are_dropped_together():
    no_label, no_text = _drop(all_probability=0.25)
    assert torch.equal(no_label, no_text)
    assert float(no_label.float().mean()) == pytest.approx(0.25, abs=0.03)


def test_label_and_caption_are_dropped_independently():
    no_label, no_text = _drop(label_probability=0.5, text_probability=0.2)
    assert float(no_label.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(no_text.float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((no_label & no_text).float().mean()) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("label", [-1, 8])
def test_a_label_out_of_range_is_refused(label):
    condition = Condition(labels=torch.tensor([label]), text=torch.ones(1, 2), text_mask=torch.ones(1).bool())
    with pytest.raises(BadDataError, match=f"label index {label}"):
        condition.require_valid(num_labels=7, text_dim=2)


def test_embeddings_of_another_width_or_with_nan_are_refused():
    with pytest.raises(BadDataError, match="shape"):
        _condition(2).require_valid(num_labels=7, text_dim=3)
    bad = Condition(labels=torch.tensor([0]), text=torch.tensor([[torch.nan, 1]]), text_mask=torch.ones(1).bool())
    with pytest.raises(BadDataError, match="not finite"):
        bad.require_valid(num_labels=7, text_dim=2)


def test_text_noise_has_its_length_and_keeps_embeddings_on_the_sphere():
    text = torch.nn.functional.normalize(torch.randn(200, 384, generator=torch.Generator().manual_seed(1)), dim=1)
    clean = Condition(labels=torch.zeros(200, dtype=torch.int64), text=text, text_mask=torch.ones(200).bool())
    noisy = clean.with_text_noise(0.5, torch.Generator().manual_seed(2)).text
    torch.testing.assert_close(noisy.norm(dim=1), torch.ones(200))
    assert float((noisy * text).sum(dim=1).mean()) == pytest.approx(1 / (1 + 0.5**2) ** 0.5, abs=0.01)
    assert clean.with_text_noise(0.0, torch.Generator()) is clean
