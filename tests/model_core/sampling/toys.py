"""Toy networks and noise for tests of samplers."""

import torch

SHAPE = (2, 3, 1, 2, 2)


def noise(seed=0, *, dtype=torch.float64, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def network(x_t, timestep):
    """A smooth function of both its inputs, that a sampler may take for any prediction."""
    return torch.tanh(x_t + timestep.view(-1, 1, 1, 1, 1).to(x_t) / 500)


def constant_network(value):
    return lambda x_t, timestep: torch.full_like(x_t, value)


def wide_network(x_t, timestep):
    """A network that learns variances as well: twice the channels, the second half an interpolation from -1 to 1."""
    return torch.cat([network(x_t, timestep), torch.cos(3 * x_t)], dim=1)


def last(states):
    *_, state = states
    return state
