"""How much each time counts in a loss."""

from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.diffusion.parameterisation import PredictionName


def min_snr_weights(
    prediction: PredictionName, signal: Float[Tensor, "*shape"], sigma: Float[Tensor, "*shape"], *, gamma: float
) -> Float[Tensor, "*shape"]:
    """Returns weights of the squared error that amount to ``min(SNR, gamma)`` on the error of x_0 (Hang 2023, arXiv 2303.09556).

    With ``SNR = signal^2 / sigma^2``: epsilon ``min(SNR, gamma) / SNR``, x0 ``min(SNR, gamma)``, velocity
    ``min(SNR, gamma) / (sqrt(SNR) + 1)^2``, and v ``min(SNR, gamma) / (SNR + 1)`` where ``signal^2 + sigma^2 = 1``. They are
    written so that both ends of a path have weights: without signal, epsilon counts 1 and the others nothing. So the last step of
    a schedule with zero terminal SNR is then learnt from its neighbours alone.

    Args:
        prediction: What the squared error is of.
        signal: Factors of x_0 in x_t.
        sigma: Factors of the noise in x_t.
        gamma: The ceiling of the SNR; 5 is usual.

    Raises:
        ValueError: An unknown prediction.
    """
    ceiling = torch.full_like(signal, gamma)
    match prediction:
        case "epsilon":
            return torch.minimum(torch.ones_like(signal), gamma * sigma.square() / signal.square())
        case "x0":
            return torch.minimum(signal.square() / sigma.square(), ceiling)
        case "v":
            return torch.minimum(signal.square(), gamma * sigma.square()) / (signal.square() + sigma.square()).square()
        case "velocity":
            return torch.minimum(signal.square(), gamma * sigma.square()) / (signal + sigma).square()
        case _:
            raise ValueError(f"no prediction is called {prediction!r}; there are {', '.join(get_args(PredictionName))}")
