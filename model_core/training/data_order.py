"""Which rows a step sees and which random numbers it draws: functions of (seed, step), so nothing has to be saved to resume."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor


def random_generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """Returns a generator of its own for a purpose, such as ``"step"`` or ``"weights"``, and an index."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@lru_cache(maxsize=2)
def _permutation(num_rows: int, seed: int, epoch: int) -> Int[Tensor, "rows"]:
    return torch.randperm(num_rows, generator=random_generator(seed, "order", epoch))


def rows_between(start: int, stop: int, rows: Sequence[int], *, seed: int) -> list[int]:
    """Returns the rows of the items from one to before another, counted over a whole training.

    Each epoch visits all rows once, in an order of its own.
    """
    found = (divmod(position, len(rows)) for position in range(start, stop))
    return [rows[int(_permutation(len(rows), seed, epoch)[place])] for epoch, place in found]
