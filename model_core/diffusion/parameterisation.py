"""What a network predicts, and exact conversions between the forms.

On any path ``x_t = signal x_0 + sigma noise`` a network can predict

- ``epsilon``: the noise (Ho 2020, arXiv 2006.11239),
- ``x0``: the data,
- ``v``: ``signal noise - sigma x_0`` (Salimans & Ho 2022, arXiv 2202.00512, appendix D),
- ``velocity``: ``noise - x_0`` (Liu 2022, arXiv 2209.03003).

With x_t each determines both ends of the path. A noise schedule has ``signal = sqrt(alpha_bar_t)`` and
``sigma = sqrt(1 - alpha_bar_t)``, rectified flow ``signal = 1 - t`` and ``sigma = t``, where the velocity is ``d x_t / dt``.

Shape legend: x_0, noise, x_t, output are [batch channels frames height width]; signal and sigma are numbers or broadcast to it.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "batch channels frames height width"]
Coefficient = Float[Tensor, "..."] | float

PredictionName = Literal["epsilon", "x0", "v", "velocity"]

FLOW_TIME_SCALE = 1000.0
"""A network sees times on the scale of 0 to 1,000 whatever the objective; rectified flow's t in [0, 1] is multiplied by this."""


def target(prediction: PredictionName, x_0: Latents, noise: Latents, signal: Coefficient, sigma: Coefficient) -> Latents:
    """Returns what a perfect network would predict.

    Raises:
        ValueError: An unknown prediction.
    """
    match prediction:
        case "epsilon":
            return noise
        case "x0":
            return x_0
        case "v":
            return signal * noise - sigma * x_0
        case "velocity":
            return flow_velocity(x_0, noise)
        case _:
            raise _unknown(prediction)


def to_x0(prediction: PredictionName, output: Latents, x_t: Latents, signal: Coefficient, sigma: Coefficient) -> Latents:
    """Returns the data that a prediction implies.

    Raises:
        ValueError: An unknown prediction, or one that says nothing about the data at this place of the path: the noise where no
            signal is left (as at the last step of a schedule with zero terminal SNR).
    """
    match prediction:
        case "epsilon":
            return x0_from_noise(
                x_t, output, require_nonzero(signal, "the data cannot be read from the noise where no signal is left"), sigma
            )
        case "x0":
            return output
        case "v":
            return (signal * x_t - sigma * output) / (signal**2 + sigma**2)
        case "velocity":
            return (x_t - sigma * output) / (signal + sigma)
        case _:
            raise _unknown(prediction)


def to_noise(prediction: PredictionName, output: Latents, x_t: Latents, signal: Coefficient, sigma: Coefficient) -> Latents:
    """Returns the noise that a prediction implies.

    Raises:
        ValueError: An unknown prediction, or one that says nothing about the noise at this place of the path: the data where
            there is no noise.
    """
    match prediction:
        case "epsilon":
            return output
        case "x0":
            return noise_from_x0(
                x_t, output, signal, require_nonzero(sigma, "the noise cannot be read from the data where there is none")
            )
        case "v":
            return (sigma * x_t + signal * output) / (signal**2 + sigma**2)
        case "velocity":
            return (x_t + signal * output) / (signal + sigma)
        case _:
            raise _unknown(prediction)


def x0_from_noise(x_t: Latents, noise: Latents, signal: Coefficient, sigma: Coefficient) -> Latents:
    """Returns ``x_0 = (x_t - sigma noise) / signal`` (Ho 2020, eq. 15)."""
    return (x_t - sigma * noise) / signal


def noise_from_x0(x_t: Latents, x_0: Latents, signal: Coefficient, sigma: Coefficient) -> Latents:
    """Returns ``noise = (x_t - signal x_0) / sigma``."""
    return (x_t - signal * x_0) / sigma


def flow_velocity(x_0: Latents, noise: Latents) -> Latents:
    """Returns rectified flow's target ``noise - x_0`` (Liu 2022, arXiv 2209.03003, eq. 1, with time reversed)."""
    return noise - x_0


def x0_from_velocity(x_t: Latents, velocity: Latents, t: Coefficient) -> Latents:
    """Returns ``x_0 = x_t - t velocity`` on rectified flow's path."""
    return x_t - t * velocity


def noise_from_velocity(x_t: Latents, velocity: Latents, t: Coefficient) -> Latents:
    """Returns ``noise = x_t + (1 - t) velocity`` on rectified flow's path."""
    return x_t + (1 - t) * velocity


def require_nonzero(coefficient: Coefficient, diagnosis: str) -> Coefficient:
    """Returns a coefficient that is about to divide.

    Raises:
        ValueError: It is 0 somewhere.
    """
    if bool(torch.any(coefficient == 0)) if isinstance(coefficient, Tensor) else coefficient == 0:
        raise ValueError(diagnosis)
    return coefficient


def _unknown(prediction: object) -> ValueError:
    return ValueError(f"no prediction is called {prediction!r}; there are {', '.join(get_args(PredictionName))}")
