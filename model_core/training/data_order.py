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


def rows_at(step: int, rows: Sequence[int], *, batch_size: int, seed: int) -> list[int]:
    """Returns the rows of a step: each epoch visits all rows once, in an order of its own; a batch may span two epochs."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    return [rows[int(_permutation(len(rows), seed, position // len(rows))[position % len(rows)])] for position in positions]
