"""Conditions that carry the states of their captions' tokens."""

import pytest
import torch

from model_core.diffusion.condition import Condition
from model_core.errors import BadDataError


def _condition(count=2, num_tokens=3, *, mask=True):
    return Condition(
        labels=torch.zeros(count, dtype=torch.int64),
        text=torch.nn.functional.normalize(torch.ones(count, 4), dim=1),
        text_mask=torch.ones(count).bool(),
        text_states=torch.arange(float(count * num_tokens * 4)).view(count, num_tokens, 4),
        text_states_mask=torch.ones(count, num_tokens).bool() if mask else None,
    )


def test_states_stay_with_their_samples():
    condition = _condition()
    for changed in (
        condition.null(5),
        condition.dropped(labels=torch.ones(2).bool(), text=torch.ones(2).bool(), num_labels=5),
        condition.with_text_noise(0.5, torch.Generator().manual_seed(0)),
    ):
        assert torch.equal(changed.text_states, condition.text_states)
        assert torch.equal(changed.text_states_mask, condition.text_states_mask)
    chosen = condition.rows(torch.tensor([1, 1, 0]))
    assert torch.equal(chosen.text_states, condition.text_states[[1, 1, 0]])
    assert len(chosen) == 3
    assert not condition.null(5).text_mask.any()


@pytest.mark.parametrize("mask", [True, False])
def test_batches_join_with_the_shorter_captions_filled_up(mask):
    short, long = _condition(1, 2, mask=mask), _condition(2, 5)
    for both, at in ((short.followed_by(long), 0), (long.followed_by(short), 2)):
        assert both.text_states.shape == (3, 5, 4)
        assert both.text_states_mask[at].tolist() == [True, True, False, False, False]
        assert torch.equal(both.text_states[at, :2], short.text_states[0])


def test_captions_with_and_without_states_do_not_join():
    condition = _condition()
    plain = Condition(labels=condition.labels, text=condition.text, text_mask=condition.text_mask)
    assert plain.followed_by(plain).text_states is None
    assert plain.rows(torch.tensor([0])).text_states is None
    for first, second in ((condition, plain), (plain, condition)):
        with pytest.raises(BadDataError, match="cannot join"):
            first.followed_by(second)


def test_states_that_do_not_fit_are_refused():
    good = vars(_condition())
    _condition().require_valid(num_labels=7, text_dim=4)
    _condition(mask=False).require_valid(num_labels=7, text_dim=4)
    hidden = torch.tensor([[True, True, False]] * 2)
    nan = good["text_states"].clone()
    nan[:, 2] = torch.nan
    Condition(**{**good, "text_states": nan, "text_states_mask": hidden}).require_valid(num_labels=7, text_dim=4)
    for change, message in [
        ({"text_states": nan}, "not finite"),
        ({"text_states": torch.zeros(2, 3, 5)}, "expected"),
        ({"text_states": torch.zeros(2, 4, 4), "text_states_mask": None, "labels": torch.zeros(2).long()}, None),
        ({"text_states": None}, "without their states"),
    ]:
        condition = Condition(**{**good, **change})
        if message is None:
            condition.require_valid(num_labels=7, text_dim=4)
        else:
            with pytest.raises(BadDataError, match=message):
                condition.require_valid(num_labels=7, text_dim=4)
