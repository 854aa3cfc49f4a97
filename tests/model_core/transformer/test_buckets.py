import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.errors import BadDataError, BadModelError
from model_core.transformer.buckets import aspect_buckets, by_grid, nearest_bucket, token_batches
from model_core.transformer.config import TransformerConfig

CONFIG = TransformerConfig(in_channels=4, patch_size=(1, 2, 2))
SHAPES = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4).map(lambda x: 2 * x), st.integers(1, 4).map(lambda x: 2 * x)))


def _tokens(shape):
    return shape[0] * shape[1] // 2 * shape[2] // 2


@given(shapes=SHAPES)
def test_every_sample_is_in_one_batch_of_its_shape_within_the_budget(shapes):
    batches = token_batches(CONFIG, shapes, max_tokens=100)
    assert sorted(place for batch in batches for place in batch) == list(range(len(shapes)))
    for batch in batches:
        assert len({shapes[place] for place in batch}) == 1
        assert sum(_tokens(shapes[place]) for place in batch) <= 100
        assert batch == sorted(batch)


@given(shapes=SHAPES)
def test_grids_come_in_order_of_their_tokens(shapes):
    tokens = [math.prod(grid) for grid in by_grid(CONFIG, shapes)]
    assert tokens == sorted(tokens)


def test_a_sample_over_the_budget_or_off_the_patch_is_refused():
    with pytest.raises(BadDataError, match="64 tokens does not fit"):
        token_batches(CONFIG, [(1, 16, 16)], max_tokens=63)
    with pytest.raises(BadModelError, match="do not divide"):
        by_grid(CONFIG, [(1, 3, 4)])


@given(max_tokens=st.integers(1, 2000), ratio=st.floats(1, 4))
def test_buckets_stay_within_tokens_and_ratio_and_hold_the_square(max_tokens, ratio):
    buckets = aspect_buckets(max_tokens=max_tokens, max_ratio=ratio)
    side = math.isqrt(max_tokens)
    assert all(h * w <= max_tokens and max(h, w) <= ratio * min(h, w) for h, w in buckets)
    assert any(h >= side and w >= side for h, w in buckets)


def test_buckets_of_256_tokens():
    buckets = aspect_buckets(max_tokens=256)
    assert (16, 16) in buckets
    assert all(h * w > 0.9 * 256 for h, w in buckets)
    assert {(w, h) for h, w in buckets} == set(buckets)


def test_a_picture_goes_to_the_bucket_of_its_ratio():
    buckets = aspect_buckets(max_tokens=256)
    assert nearest_bucket(512, 512, buckets) == (16, 16)
    height, width = nearest_bucket(1080, 1920, buckets)
    assert width / height == pytest.approx(16 / 9, rel=0.06)


def test_no_bucket_and_no_size_are_refused():
    for call in (
        lambda: nearest_bucket(1, 1, []),
        lambda: nearest_bucket(0, 1, [(1, 1)]),
        lambda: aspect_buckets(max_tokens=0),
        lambda: aspect_buckets(max_tokens=4, max_ratio=0.5),
    ):
        with pytest.raises(BadDataError):
            call()
