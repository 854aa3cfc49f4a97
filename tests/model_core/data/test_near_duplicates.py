"""The quick search against the plain one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.data.near_duplicates import fingerprint, nearest_within


def plain_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.sqrt(((left[:, None].astype(float) - right[None].astype(float)) ** 2).mean(axis=2))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 40))
def test_no_neighbour_is_missed(seed: int, radius: float) -> None:
    random = np.random.default_rng(seed)
    base = random.integers(0, 256, (6, 768))
    noisy = np.clip(base[random.integers(0, 6, 30)] + random.normal(0, random.uniform(0, 30, (30, 1)), (30, 768)), 0, 255)
    prints = noisy.astype(np.uint8)
    distances = plain_distances(prints, prints)
    np.fill_diagonal(distances, np.inf)
    found = nearest_within(prints, prints, radius, same=True)
    assert set(found) == set(np.flatnonzero(distances.min(axis=1) <= radius).tolist())
    for query, near in found.items():
        assert near.place == distances[query].argmin()
        assert abs(near.distance - distances[query].min()) < 1e-9


def test_blocks_are_searched_against_each_other() -> None:
    random = np.random.default_rng(0)
    prints = random.integers(0, 256, (2_500, 768), dtype=np.uint8)
    prints[2_400] = prints[3]
    found = nearest_within(prints, prints, 5.0, same=True)
    assert {query: near.place for query, near in found.items()} == {3: 2_400, 2_400: 3}


def test_nothing_is_near_nothing() -> None:
    none = np.zeros((0, 768), dtype=np.uint8)
    assert nearest_within(none, none, 10.0) == {}


def test_a_fingerprint_keeps_colours() -> None:
    red, green = np.zeros((32, 32, 3), dtype=np.uint8), np.zeros((32, 32, 3), dtype=np.uint8)
    red[..., 0], green[..., 1] = 200, 200
    assert nearest_within(fingerprint(red)[None], fingerprint(green)[None], 64.0) == {}
