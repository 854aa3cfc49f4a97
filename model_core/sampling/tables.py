"""A transformer at the timesteps of a sampler, which are known before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.diffusion.condition import Condition
from model_core.transformer.dit import DiT
from model_core.transformer.modulations import Modulations, ModulationTable

MAX_ROWS = 128
"""Timesteps times samples in one table: enough to read the weights seldom, few enough for memory (0.1 GB for DiT-XL)."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    condition: Condition
    number: int
    table: ModulationTable


class TabledNetwork:
    """Predicts as `DiT.predict` does, with modulations computed for many timesteps in one pass over their weights.

    The numbers are the same but for the rounding of sums in another order: about 1e-7 of them, and none at all where a batch is
    large enough for the same arithmetic either way.

    Args:
        model: The transformer.
        timesteps: All that it will be asked at, in about that order; at others it answers without a table.
    """

    def __init__(self, model: DiT, timesteps: Sequence[float]) -> None:
        self._model = model
        device = next(model.parameters()).device
        self._timesteps = torch.tensor(timesteps, dtype=torch.float32, device=device)
        self._places = {timestep: place for place, timestep in enumerate(self._timesteps.tolist())}
        self._part: _Part | None = None

    def predict(
        self,
        x_t: Float[Tensor, "batch channels frames height width"],
        timestep: Float[Tensor, "batch"],
        condition: Condition,
    ) -> Float[Tensor, "batch out frames height width"]:
        """Returns the network's output.

        Args:
            x_t: Noised latents.
            timestep: The same for every sample.
            condition: One condition a sample; tables are kept from call to call with the same object.
        """
        if float(timestep[0]) not in self._places:
            return self._model.predict(x_t, timestep, condition)
        return self._model.denoise(x_t, self.modulations(float(timestep[0]), condition))

    def modulations(self, timestep: float, condition: Condition) -> Modulations:
        """Returns the modulations of a batch at one of the timesteps.

        Args:
            timestep: One of those that the tables are of.
            condition: One condition a sample, as `predict` takes it.
        """
        place = self._places[timestep]
        size = max(1, MAX_ROWS // len(condition))
        number = place // size
        if self._part is None or self._part.condition is not condition or self._part.number != number:
            timesteps = self._timesteps[number * size : (number + 1) * size]
            self._part = _Part(condition=condition, number=number, table=self._model.modulation_table(timesteps, condition))
        return self._part.table.at(place % size)
