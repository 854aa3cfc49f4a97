"""Frames that go on from given ones, for networks that take a timestep a frame (Chen 2024, arXiv 2407.01392).

A sampler holds the new frames alone. Wherever it asks the network, the given ones are put before them, at a noise level of their
own that stays the same from step to step, so that no sampler and no kind of guidance has to know of them.

Shape legend: x_t is [batch channels frames height width] of the new frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.diffusion.condition import Condition
from model_core.diffusion.frame_times import MAX_CONTEXT_TIME
from model_core.diffusion.objective import Objective
from model_core.errors import BadDataError
from model_core.sampling.tables import TabledNetwork
from model_core.transformer.dit import DiT
from model_core.transformer.modulations import along_time


@dataclass(frozen=True, kw_only=True)
class Context:
    """The frames that new ones go on from.

    Attributes:
        latents: Clean latents [batch channels frames height width], of a whole number of the network's patches.
        noise: Standard normal noise of their shape.
        time: How much of it they are given, as a share of all time. The network is told, and trusts small errors of earlier
            frames less for it (Chen 2024, §3.2; Song 2025, arXiv 2502.06764).

    Raises:
        BadDataError: A time beyond what networks are trained with.
    """

    latents: Float[Tensor, "b c context h w"]
    noise: Float[Tensor, "b c context h w"]
    time: float = 0.0

    def __post_init__(self) -> None:
        """Refuses a time that no network has seen of context."""
        if not 0 <= self.time <= MAX_CONTEXT_TIME:
            raise BadDataError(f"context is noised to the time {self.time}", hint=f"choose 0 (not at all) to {MAX_CONTEXT_TIME}")


class ContextNetwork:
    """Predicts new frames that follow given ones, with modulations computed beforehand.

    Args:
        model: A transformer that was trained with times of frames.
        context: What the new frames go on from.
        objective: What the transformer predicts, and on which path.
        timesteps: All that it will be asked at, in about that order.
        num_frames: Number of new frames.
    """

    def __init__(
        self, model: DiT, context: Context, objective: Objective, timesteps: Sequence[float], *, num_frames: int
    ) -> None:
        time = objective.time_at(torch.full((len(context.latents),), context.time))
        signal, sigma = objective.coefficients(time, context.latents)
        self._frames = signal * context.latents + sigma * context.noise
        self._length = context.latents.shape[2]
        self._timestep = float(objective.network_time(time[:1]))
        self._model = model
        joined = model.config.patch_size[0]
        self._places = self._length // joined, num_frames // joined
        self._given = TabledNetwork(model, [self._timestep])
        self._new = TabledNetwork(model, timesteps)

    def predict(
        self, x_t: Float[Tensor, "batch c frames h w"], timestep: Float[Tensor, "batch"], condition: Condition
    ) -> Float[Tensor, "batch out frames h w"]:
        """Returns the network's output for the new frames.

        Args:
            x_t: The new frames, noised; a multiple of the context's samples, which guidance asks about under several conditions.
            timestep: Of the new frames, one of those above.
            condition: One condition a sample.
        """
        given = self._frames.repeat(len(x_t) // len(self._frames), 1, 1, 1, 1)
        at_both = self._given.modulations(self._timestep, condition), self._new.modulations(float(timestep[0]), condition)
        modulations = along_time(at_both, self._places)
        return self._model.denoise(torch.cat([given, x_t], dim=2), modulations)[:, :, self._length :]
