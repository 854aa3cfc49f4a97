from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.training.data_order import random_generator, rows_between


@given(num_rows=st.integers(1, 30), batch_size=st.integers(1, 40), seed=st.integers(0, 2**62))
def test_rows_are_visited_equally_often(num_rows, batch_size, seed):
    rows = [100 + row for row in range(num_rows)]
    seen = Counter(
        row for step in range(num_rows) for row in rows_between(step * batch_size, (step + 1) * batch_size, rows, seed=seed)
    )
    assert seen == dict.fromkeys(rows, batch_size)


def test_the_order_differs_between_epochs_and_seeds_and_not_between_calls():
    rows = list(range(50))

    def order(step, seed):
        return rows_between(50 * step, 50 * (step + 1), rows, seed=seed)

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(step, seed)) for step in (0, 1) for seed in (1, 2)}) == 4


def test_generators_differ_by_seed_purpose_and_index():
    given = [(0, "step", 0), (0, "step", 1), (0, "weights", 0), (1, "step", 0)]
    draws = {float(torch.rand((), dtype=torch.float64, generator=random_generator(*which))) for which in given}
    assert len(draws) == 4
