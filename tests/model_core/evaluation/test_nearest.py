import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.evaluation.nearest import blocks, nearest, squared_distances


def test_squared_distances_are_euclidean():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    assert squared_distances(x, y) == pytest.approx(((x[:, None] - y[None]) ** 2).sum(axis=-1))
    assert (squared_distances(x + 1e6, x + 1e6) >= 0).all()


@given(size=st.integers(0, 50), block=st.integers(1, 20))
def test_blocks_cover_everything_once(size, block):
    covered = [index for chosen in blocks(size, block) for index in range(size)[chosen]]
    assert covered == list(range(size))
    assert all(chosen.stop - chosen.start <= block for chosen in blocks(size, block))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), query_block=st.integers(1, 30), reference_block=st.integers(1, 30), own=st.booleans())
def test_nearest_is_the_full_table_whatever_the_blocks(seed, query_block, reference_block, own):
    generator = np.random.default_rng(seed)
    references = generator.integers(-9, 10, size=(20, 2)).astype(float)  # with ties and duplicates
    queries = references if own else generator.integers(-9, 10, size=(13, 2)).astype(float)
    table = np.linalg.norm(queries[:, None] - references[None], axis=-1)
    if own:
        np.fill_diagonal(table, np.inf)
    index, distance = nearest(
        queries,
        references,
        vectors=lambda items: items,
        exclude_self=own,
        query_block=query_block,
        reference_block=reference_block,
    )
    np.testing.assert_array_equal(index, table.argmin(axis=1))
    np.testing.assert_allclose(distance, table.min(axis=1))


def test_bytes_become_vectors_block_by_block():
    pictures = np.random.default_rng(1).integers(0, 256, (30, 4), dtype=np.uint8)
    sizes = []

    def vectors(items):
        sizes.append(len(items))
        return items.astype(float)

    nearest(pictures, pictures, vectors=vectors, query_block=8, reference_block=7)
    assert max(sizes) == 8
