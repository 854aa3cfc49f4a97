"""Scores, and the classifier that a conditional and an unconditional model imply (P6, P7).

The score of noised data is ``grad_x log p(x_t) = -E[noise | x_t] / sigma`` (Song 2020, arXiv 2011.13456): it is the prediction of
the noise in another unit, and guidance (P8) is a step along the implied classifier's gradient.

Shape legend: x_t, noise and scores are [batch channels frames height width]; sigma and signal are numbers or broadcast to it.
"""

from jaxtyping import Float
from torch import Tensor

from model_core.diffusion.parameterisation import Coefficient, PredictionName, require_nonzero, to_noise

Latents = Float[Tensor, "batch channels frames height width"]


def score_from_noise(noise: Latents, sigma: Coefficient) -> Latents:
    """Returns ``grad_x log p(x_t) = -noise / sigma`` (Dhariwal & Nichol 2021, arXiv 2105.05233, eq. 11).

    Raises:
        ValueError: There is no noise: the score of clean data is not to be had from it.
    """
    return -noise / require_nonzero(sigma, "the score cannot be read from the noise where there is none")


def noise_from_score(score: Latents, sigma: Coefficient) -> Latents:
    """Returns ``noise = -sigma grad_x log p(x_t)``, the inverse of `score_from_noise`."""
    return -sigma * score


def score_from_prediction(
    prediction: PredictionName, output: Latents, x_t: Latents, signal: Coefficient, sigma: Coefficient
) -> Latents:
    """Returns the score that any prediction implies, on any path ``x_t = signal x_0 + sigma noise``.

    Raises:
        ValueError: An unknown prediction, or there is no noise.
    """
    return score_from_noise(to_noise(prediction, output, x_t, signal, sigma), sigma)


def class_log_posterior(
    log_likelihoods: Float[Tensor, "batch classes"], log_prior: Float[Tensor, "classes"]
) -> Float[Tensor, "batch classes"]:
    """Returns ``log p(c|x) = log p(x|c) + log p(c) - log p(x)``, with ``p(x)`` the sum over classes (P6, Bayes' rule).

    Args:
        log_likelihoods: ``log p(x|c)`` in nats, up to a number of each sample's own.
        log_prior: ``log p(c)``, up to a number.
    """
    return (log_likelihoods + log_prior).log_softmax(dim=1)


def implicit_classifier_gradient(conditional_score: Latents, unconditional_score: Latents) -> Latents:
    """Returns ``grad_x log p(c|x) = grad_x log p(x|c) - grad_x log p(x)`` (P7; Ho & Salimans 2022, arXiv 2207.12598, §3.2)."""
    return conditional_score - unconditional_score


def implicit_classifier_gradient_from_noise(conditional: Latents, unconditional: Latents, sigma: Coefficient) -> Latents:
    """Returns ``grad_x log p(c|x) = -(eps(x_t, c) - eps(x_t, null)) / sigma``, P7 for networks that predict the noise.

    Raises:
        ValueError: There is no noise.
    """
    return implicit_classifier_gradient(score_from_noise(conditional, sigma), score_from_noise(unconditional, sigma))
