"""Gaussian data ``x_0 ~ N(mean, std^2)``, for which everything about diffusion has a closed form."""

import math

import torch

from model_core.diffusion.reverse import Gaussian, posterior_variances, reverse_process

MEAN, STD = 0.4, 0.7
SHAPE = (256, 4, 1, 8, 8)


def draw(seed, dtype=torch.float64):
    return MEAN + STD * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def denoiser(schedule):
    """The best prediction of x_0 there is: its mean given x_t."""

    def predict(x_t, timestep):
        t = timestep.long()
        signal, sigma = (schedule.at(t, values, x_t) for values in (schedule.signals, schedule.sigmas))
        gain = signal * STD**2 / (signal**2 * STD**2 + sigma**2)
        return MEAN + gain * (x_t - signal * MEAN)

    return predict


def residual_variances(schedule):
    """Variance of x_0 given x_t at each step."""
    return schedule.sigmas**2 * STD**2 / (schedule.signals**2 * STD**2 + schedule.sigmas**2)


def data_factors(schedule):
    """Factor of x_0 in the mean of the posterior q(x_{t-1} | x_t, x_0) at each step."""
    return schedule.previous_alpha_bars.sqrt() * schedule.betas / (1 - schedule.alpha_bars)


def true_reverse_process(schedule):
    """The true p(x_{t-1} | x_t), which is gaussian too: the best mean and the best variance."""
    process = reverse_process(denoiser(schedule), prediction="x0", schedule=schedule, variance="small")
    log_variances = (posterior_variances(schedule) + data_factors(schedule) ** 2 * residual_variances(schedule)).log()

    def reverse(x_t, t):
        return Gaussian(mean=process(x_t, t).mean, log_variance=schedule.at(t, log_variances, x_t).expand_as(x_t))

    return reverse


def entropy_bits():
    """Bits of the data per dimension: the least any model can need, ``log2(std sqrt(2 pi e))``."""
    return math.log2(STD * math.sqrt(2 * math.pi * math.e))


def nll_bits(x_0):
    """Exact negative log-likelihood of each sample in bits per dimension."""
    return -torch.distributions.Normal(MEAN, STD).log_prob(x_0).flatten(1).mean(dim=1) / math.log(2)
