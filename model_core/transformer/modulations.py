"""What a transformer computes from timestep and condition alone, before it sees latents.

Shape legend: s samples, t places in time (frames over the patch's) where each has a timestep of its own, d hidden size, k vectors
that modulate a block, m caption tokens, h heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from model_core.errors import BadDataError


@dataclass(frozen=True, kw_only=True)
class TextMemory:
    """A caption's tokens as every block's cross attention reads them; the same at every timestep.

    Attributes:
        keys_values: One tensor a block, [s m 2 h head_dim].
        mask: False at tokens that are not there.
    """

    keys_values: tuple[Float[Tensor, "s m 2 h dim"], ...]
    mask: Bool[Tensor, "s m"]


@dataclass(frozen=True, kw_only=True)
class Modulations:
    """Shifts, scales and gates of a batch at its timesteps and conditions; one a sample, or one a place in time.

    Attributes:
        blocks: One tensor a block: its vectors side by side.
        final: Shift and scale of the final layer side by side.
        text: Captions for cross attention, None in a network without it.
    """

    blocks: tuple[Float[Tensor, "s *t kd"], ...]
    final: Float[Tensor, "s *t fd"]
    text: TextMemory | None = None

    def __len__(self) -> int:
        """Returns the number of samples."""
        return len(self.final)

    @property
    def times_each(self) -> int | None:
        """Places in time of which each has modulations of its own; None where a sample has one timestep."""
        return self.final.shape[1] if self.final.ndim == 3 else None

    def rows(self, indices: Int[Tensor, "chosen"]) -> "Modulations":
        """Returns the modulations of chosen samples, in their order."""
        text = self.text and TextMemory(
            keys_values=tuple(memory[indices] for memory in self.text.keys_values), mask=self.text.mask[indices]
        )
        return Modulations(blocks=tuple(block[indices] for block in self.blocks), final=self.final[indices], text=text)


def along_time(parts: Sequence[Modulations], lengths: Sequence[int]) -> Modulations:
    """Returns modulations one a place in time: the first part's for so many places, then the next one's.

    Args:
        parts: Of the same samples under the same condition, each at one timestep a sample.
        lengths: Places of each.
    """

    def laid(vectors: Sequence[Tensor]) -> Tensor:
        return torch.cat([one.unsqueeze(1).expand(-1, n, -1) for one, n in zip(vectors, lengths, strict=True)], dim=1)

    return Modulations(
        blocks=tuple(map(laid, zip(*(part.blocks for part in parts), strict=True))),
        final=laid([part.final for part in parts]),
        text=parts[0].text,
    )


@dataclass(frozen=True, kw_only=True)
class ModulationTable:
    """The modulations of a batch at all timesteps of a sampler, made in one pass over the weights that make them.

    Those weights are about a third of a DiT's, and at few tokens reading them is much of a step's time. A table holds
    ``steps x batch x (depth k + 2) d`` numbers: 39 MB for DiT-S at 20 steps of 16 samples, 600 MB for DiT-XL at 50.

    Attributes:
        num_samples: Samples of the batch.
        modulations: Of every sample at the first timestep, then at the second, and so on.
    """

    num_samples: int
    modulations: Modulations

    def __len__(self) -> int:
        """Returns the number of timesteps."""
        return len(self.modulations) // self.num_samples if self.num_samples else 0

    def at(self, index: int) -> Modulations:
        """Returns the modulations at a timestep of the table, as views.

        Args:
            index: Place of the timestep, from 0; negative places count from the end.

        Raises:
            BadDataError: The table has no such place.
        """
        if not -len(self) <= index < len(self):
            raise BadDataError(f"a table of modulations at {len(self)} timesteps has no place {index}")
        start = index % len(self) * self.num_samples
        here = slice(start, start + self.num_samples)
        return replace(
            self.modulations, blocks=tuple(block[here] for block in self.modulations.blocks), final=self.modulations.final[here]
        )
