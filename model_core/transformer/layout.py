"""How a sequence of tokens divides into samples: a batch of one grid, or samples of several grids packed one after the other.

Shape legend: b batch, n tokens of a sample, s samples. A batch's sequences are [b n ...], a packed one is [1 sum-of-n ...].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from model_core.transformer.config import Grid


@dataclass(frozen=True, kw_only=True)
class Run:
    """Neighbouring samples of one grid.

    Attributes:
        count: Number of samples.
        grid: Tokens along frames, height and width of each.
    """

    count: int
    grid: Grid

    @property
    def tokens_each(self) -> int:
        """Tokens of one sample."""
        return math.prod(self.grid)


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """The runs of a sequence of tokens.

    Attributes:
        runs: In the sequence's order.
        packed: One sequence for all samples; otherwise one a sample, all of the only run's grid.
    """

    runs: tuple[Run, ...]
    packed: bool = False

    @classmethod
    def batch(cls, count: int, grid: Grid) -> "TokenLayout":
        """Returns the layout of a batch of samples of one grid."""
        return cls(runs=(Run(count=count, grid=grid),))

    @classmethod
    def pack(cls, grids: Sequence[Grid]) -> "TokenLayout":
        """Returns the layout of samples in one sequence; neighbours of the same grid become a run."""
        return cls(runs=tuple(Run(count=len(list(same)), grid=grid) for grid, same in groupby(grids)), packed=True)

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return sum(run.count for run in self.runs)

    def split(self, x: Tensor) -> list[Tensor]:
        """Returns the runs of [b n ...] or [1 tokens ...] as [count n ...] each, without copying."""
        if not self.packed:
            return [x]
        parts = torch.split(x[0], [run.count * run.tokens_each for run in self.runs])
        return [rearrange(part, "(s n) ... -> s n ...", s=run.count) for part, run in zip(parts, self.runs, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Reverses `split`."""
        return torch.cat([part.flatten(0, 1) for part in parts]).unsqueeze(0) if self.packed else parts[0]

    def per_token(self, x: Float[Tensor, "s *t d"]) -> Float[Tensor, "..."]:
        """Returns each token's row: its sample's, or where a sample has t of them along time, that of its place.

        A batch's are [s 1 d] or [s t 1 d], where broadcasting does the rest, those of a packed sequence [1 tokens d].
        """
        if not self.packed:
            return x.unsqueeze(-2)
        return torch.cat(
            [
                rows.repeat_interleave(run.tokens_each, dim=0)
                for rows, run in zip(torch.split(x, [run.count for run in self.runs]), self.runs, strict=True)
            ]
        ).unsqueeze(0)
