"""The probe of captions: it finds what is there, and nothing where samples have nothing to do with their captions."""

import numpy as np
import pytest

from model_core.evaluation.retrieval import found_own, train_retrieval


@pytest.fixture
def world():
    """Captions of 12 dimensions and what is seen of them: a linear image with noise, and noise beside it."""
    dice = np.random.default_rng(0)
    image = dice.normal(size=(12, 40))

    def draw(count):
        text = dice.normal(size=(count, 12)) * np.linspace(1, 0.1, 12)
        seen = np.concatenate([text @ image + 0.05 * dice.normal(size=(count, 40)), dice.normal(size=(count, 20))], axis=1)
        return seen, text

    return draw


def test_captions_find_what_was_made_for_them(world):
    probe = train_retrieval(*world(400))
    seen, text = world(250)
    found, pool = found_own(probe, seen, text, [str(number) for number in range(250)], seed=0)
    assert pool == 100
    assert len(found) == 200
    assert found.mean() > 0.95


def test_samples_of_other_captions_are_found_by_chance_alone(world):
    probe = train_retrieval(*world(400))
    seen, text = world(2000)
    found, pool = found_own(probe, np.roll(seen, 1, axis=0), text, [str(number) for number in range(2000)], seed=0)
    assert pool == 100
    assert found.mean() < 0.03


def test_samples_of_one_caption_take_part_once(world):
    probe = train_retrieval(*world(100))
    seen, text = world(6)
    found, pool = found_own(probe, seen, text, ["a", "a", "b", "b", "c", "c"], seed=0)
    assert (len(found), pool) == (3, 3)
