"""The reverse process: from noise to a latent, a gaussian step at a time (P2), and the same under a condition (P5).

Shape legend: x_0, x_t and means are [batch channels frames height width]; t is [batch], steps 0 to T - 1; step 0 leads to x_0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model_core.diffusion.condition import Condition
from model_core.diffusion.parameterisation import PredictionName, to_x0
from model_core.diffusion.schedules import NoiseSchedule
from model_core.errors import BadModelError

Latents = Float[Tensor, "batch channels frames height width"]
Steps = Int[Tensor, "batch"]
VarianceName = Literal["small", "large", "learned"]


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """A diagonal gaussian.

    Attributes:
        mean: Its mean, [batch channels frames height width].
        log_variance: Logarithm of its variance, broadcast to the mean.
    """

    mean: Tensor
    log_variance: Tensor


ReverseProcess = Callable[[Tensor, Tensor], Gaussian]
"""``(x_t, t) -> p_theta(x_{t-1} | x_t)``."""


def posterior_mean(x_0: Latents, x_t: Latents, t: Steps, schedule: NoiseSchedule) -> Latents:
    """Returns the mean of ``q(x_{t-1} | x_t, x_0)`` (Ho 2020, arXiv 2006.11239, eq. 7)."""
    before, after = schedule.previous_alpha_bars, schedule.alpha_bars
    of_x_0 = before.sqrt() * schedule.betas / (1 - after)
    of_x_t = (1 - schedule.betas).sqrt() * (1 - before) / (1 - after)
    return schedule.at(t, of_x_0, x_0) * x_0 + schedule.at(t, of_x_t, x_t) * x_t


def posterior_variances(schedule: NoiseSchedule) -> Float[Tensor, "T"]:
    """Returns ``beta-tilde``, the variance of ``q(x_{t-1} | x_t, x_0)`` at each step (Ho 2020, eq. 7); 0 at step 0."""
    return schedule.betas * (1 - schedule.previous_alpha_bars) / (1 - schedule.alpha_bars)


def posterior(x_0: Latents, x_t: Latents, t: Steps, schedule: NoiseSchedule) -> Gaussian:
    """Returns ``q(x_{t-1} | x_t, x_0)`` (Ho 2020, eq. 6), its log variance at step 0 being that of step 1."""
    return Gaussian(
        mean=posterior_mean(x_0, x_t, t, schedule), log_variance=schedule.at(t, small_log_variances(schedule), x_t).expand_as(x_t)
    )


def small_log_variances(schedule: NoiseSchedule) -> Float[Tensor, "T"]:
    """Returns ``log beta-tilde``, with the second value in the place of the first, which has none (Nichol & Dhariwal 2021)."""
    variances = posterior_variances(schedule)
    first = variances[1:2] if schedule.num_timesteps > 1 else schedule.betas
    return torch.cat([first, variances[1:]]).log()


def learned_log_variance(interpolation: Latents, t: Steps, schedule: NoiseSchedule) -> Latents:
    """Returns ``log Sigma_theta = v log beta_t + (1 - v) log beta-tilde_t`` with ``v = (interpolation + 1) / 2`` (P2).

    An interpolation of -1 gives the small variance, 1 the large one (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 15).
    """
    large = schedule.at(t, schedule.betas.log(), interpolation)
    small = schedule.at(t, small_log_variances(schedule), interpolation)
    share = (interpolation + 1) / 2
    return share * large + (1 - share) * small


def reverse_mean(prediction: PredictionName, output: Latents, x_t: Latents, t: Steps, schedule: NoiseSchedule) -> Latents:
    """Returns ``mu_theta(x_t, t)``, the posterior's mean at the predicted x_0 (P2; for epsilon it is Ho 2020, eq. 11).

    Raises:
        ValueError: The noise was predicted where no signal is left.
    """
    x_0 = to_x0(prediction, output, x_t, schedule.at(t, schedule.signals, x_t), schedule.at(t, schedule.sigmas, x_t))
    return posterior_mean(x_0, x_t, t, schedule)


def reverse_process(
    predict: Callable[[Tensor, Tensor], Tensor], *, prediction: PredictionName, schedule: NoiseSchedule, variance: VarianceName
) -> ReverseProcess:
    """Returns ``p_theta(x_{t-1} | x_t) = N(mu_theta(x_t, t), Sigma_theta(x_t, t))`` of a network (P2; Ho 2020, eq. 1).

    Args:
        predict: The network, ``(x_t, timestep) -> output``; with a learned variance its output has twice the channels.
        prediction: What it predicts.
        schedule: The noise schedule of its training.
        variance: ``small`` beta-tilde_t, ``large`` beta_t, or ``learned`` between them.

    Raises:
        ValueError: An unknown variance.
    """
    if variance not in get_args(VarianceName):
        raise ValueError(f"no variance is called {variance!r}; there are {', '.join(get_args(VarianceName))}")

    def reverse(x_t: Tensor, t: Tensor) -> Gaussian:
        output = predict(x_t, t.to(x_t.device, torch.float32))
        if variance == "learned":
            output, interpolation = split_learned(output, x_t)
            log_variance = learned_log_variance(interpolation, t, schedule)
        else:
            log_variances = schedule.betas.log() if variance == "large" else small_log_variances(schedule)
            log_variance = schedule.at(t, log_variances, x_t).expand_as(x_t)
        return Gaussian(mean=reverse_mean(prediction, output, x_t, t, schedule), log_variance=log_variance)

    return reverse


def conditional_reverse_process(
    predict: Callable[[Tensor, Tensor, Condition], Tensor],
    condition: Condition,
    *,
    prediction: PredictionName,
    schedule: NoiseSchedule,
    variance: VarianceName,
) -> ReverseProcess:
    """Returns ``p_theta(x_{t-1} | x_t, c)`` (P5; Dhariwal & Nichol 2021, arXiv 2105.05233, §4): the same under a condition."""
    return reverse_process(
        lambda x_t, timestep: predict(x_t, timestep, condition), prediction=prediction, schedule=schedule, variance=variance
    )


def reverse_step(reverse: ReverseProcess, x_t: Latents, t: Steps, noise: Latents) -> Latents:
    """Draws from ``p_theta(x_{t-1} | x_t)`` (Ho 2020, algorithm 2, line 4); step 0 returns the mean."""
    gaussian = reverse(x_t, t)
    std = (0.5 * gaussian.log_variance).exp()
    return torch.where((t > 0).to(x_t.device).view(-1, 1, 1, 1, 1), gaussian.mean + std * noise, gaussian.mean)


def split_learned(output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
    """Returns prediction and variance interpolation of a network that learns its variance.

    Raises:
        BadModelError: Its output does not have twice the channels of x_t.
    """
    expected = (len(x_t), 2 * x_t.shape[1], *x_t.shape[2:])
    if output.shape != expected:
        raise BadModelError(
            f"the network returned {list(output.shape)}, a learned variance needs {list(expected)}",
            hint="build the transformer with learn_variance",
        )
    prediction, interpolation = output.chunk(2, dim=1)
    return prediction, interpolation
