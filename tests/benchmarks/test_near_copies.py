"""The benchmark of near-copies: what it plants is what it says, and it counts what the check finds."""

import numpy as np
import pytest

from benchmarks.near_copies import CHANGES, _halves
from model_core.evaluation.training_index import Items

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", CHANGES)
def test_a_planted_copy_is_a_picture_of_the_same_size_that_is_near_to_it(name: str) -> None:
    changed = CHANGES[name](IMAGE)
    assert (changed.shape, changed.dtype) == (IMAGE.shape, np.uint8)
    back = changed[:, ::-1] if name == "mirrored" else np.roll(changed, -1, axis=1) if name.startswith("shifted") else changed
    assert np.median(np.abs(back.astype(int) - IMAGE)) <= 40
    assert (name == "copied") == np.array_equal(changed, IMAGE)


def test_every_picture_of_the_other_half_is_counted() -> None:
    rng = np.random.default_rng(1)
    train, holdout = (
        Items.of(rng.integers(0, 256, (num, 1, 16, 16, 3), dtype=np.uint8), rng.normal(size=(num, 8))) for num in (30, 21)
    )
    found = _halves(train, holdout, rng)
    assert 0 <= found["withheld"] <= found["num"] == 30 * 11
