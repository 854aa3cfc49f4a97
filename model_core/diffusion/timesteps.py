"""At which times the network is trained."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def uniform_steps(batch_size: int, num_timesteps: int, generator: torch.Generator) -> Int[Tensor, "batch"]:
    """Draws steps uniformly from 0 to T - 1 (Ho 2020, algorithm 1)."""
    return torch.randint(num_timesteps, (batch_size,), generator=generator)


def uniform_times(batch_size: int, generator: torch.Generator) -> Float[Tensor, "batch"]:
    """Draws times uniformly from [0, 1)."""
    return torch.rand(batch_size, generator=generator)


def logit_normal_times(
    batch_size: int, generator: torch.Generator, *, mean: float = 0.0, std: float = 1.0
) -> Float[Tensor, "batch"]:
    """Draws times whose logit is normal: more from the middle, where it is hardest (Esser 2024, arXiv 2403.03206, eq. 19)."""
    return torch.sigmoid(mean + std * torch.randn(batch_size, generator=generator))


def logit_normal_steps(
    batch_size: int, num_timesteps: int, generator: torch.Generator, *, mean: float = 0.0, std: float = 1.0
) -> Int[Tensor, "batch"]:
    """Draws steps from 0 to T - 1 whose places in [0, 1) are logit-normal: step ``floor(T u)``."""
    times = logit_normal_times(batch_size, generator, mean=mean, std=std)
    return (num_timesteps * times).long().clamp(max=num_timesteps - 1)
