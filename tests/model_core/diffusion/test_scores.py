import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.diffusion.bound import CONTINUOUS, vlb_terms
from model_core.diffusion.condition import Condition
from model_core.diffusion.guidance import classifier_free_guidance
from model_core.diffusion.parameterisation import target
from model_core.diffusion.reverse import conditional_reverse_process
from model_core.diffusion.schedules import noise_schedule
from model_core.diffusion.scores import (
    class_log_posterior,
    implicit_classifier_gradient,
    implicit_classifier_gradient_from_noise,
    noise_from_score,
    score_from_noise,
    score_from_prediction,
)

SHAPE = (3, 2, 1, 2, 2)
SIGNAL, SIGMA = 0.8, 0.6
CENTRES = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64)
PRIOR = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)


def _x_t():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


def _log_likelihoods(x_t):
    """log p(x_t | c) of three gaussian classes ``x_0 ~ N(centre, 0.5^2)``."""
    normal = torch.distributions.Normal(SIGNAL * CENTRES, (SIGNAL**2 * 0.25 + SIGMA**2) ** 0.5)
    return normal.log_prob(x_t.flatten(1).unsqueeze(-1)).sum(dim=1)


def _gradient(value, x_t):
    return torch.autograd.grad(value.sum(), x_t)[0]


def _scores(label):
    x_t = _x_t()
    conditional = _gradient(_log_likelihoods(x_t)[:, label], x_t)
    unconditional = _gradient((_log_likelihoods(x_t) + PRIOR.log()).logsumexp(dim=1), x_t)
    classifier = _gradient(class_log_posterior(_log_likelihoods(x_t), PRIOR.log())[:, label], x_t)
    return conditional, unconditional, classifier


def test_class_posteriors_are_bayes_rule():
    log_posterior = class_log_posterior(_log_likelihoods(_x_t()), PRIOR.log())
    joint = _log_likelihoods(_x_t()).exp() * PRIOR
    torch.testing.assert_close(log_posterior.exp(), joint / joint.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("label", [0, 1, 2])
def test_the_difference_of_scores_is_the_gradient_of_the_classifier(label):
    conditional, unconditional, classifier = _scores(label)
    torch.testing.assert_close(implicit_classifier_gradient(conditional, unconditional), classifier)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_the_same_from_predictions_of_the_noise(label):
    conditional, unconditional, classifier = _scores(label)
    noises = noise_from_score(conditional, SIGMA), noise_from_score(unconditional, SIGMA)
    torch.testing.assert_close(implicit_classifier_gradient_from_noise(*noises, SIGMA), classifier)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance_goes_along_the_classifiers_gradient(scale):
    conditional, unconditional, classifier = _scores(1)
    noises = noise_from_score(conditional, SIGMA), noise_from_score(unconditional, SIGMA)
    guided = score_from_noise(classifier_free_guidance(*noises, scale), SIGMA)
    torch.testing.assert_close(guided, unconditional + scale * classifier)


@given(seed=st.integers(0, 1000), sigma=st.floats(0.05, 3))
def test_noise_and_score_determine_each_other(seed, sigma):
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(noise_from_score(score_from_noise(noise, sigma), sigma), noise)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v", "velocity"])
def test_every_prediction_of_the_mean_gives_the_score_of_gaussian_data(prediction):
    mean, std, x_t = 0.4, 0.7, _x_t().detach()
    variance = SIGNAL**2 * std**2 + SIGMA**2
    x_0 = mean + SIGNAL * std**2 / variance * (x_t - SIGNAL * mean)  # E[x_0 | x_t]
    output = target(prediction, x_0, (x_t - SIGNAL * x_0) / SIGMA, SIGNAL, SIGMA)
    expected = -(x_t - SIGNAL * mean) / variance
    torch.testing.assert_close(score_from_prediction(prediction, output, x_t, SIGNAL, SIGMA), expected)


def test_bounds_under_each_condition_classify_as_exact_likelihoods_do():
    """P3 under P5 for each class, into P6: a conditional model is a classifier."""
    schedule, std, count = noise_schedule("cosine", 20, zero_terminal_snr=True), 0.5, 400
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (count,), generator=generator)
    x_0 = CENTRES[labels].view(-1, 1, 1, 1, 1) + std * torch.randn(count, 1, 1, 2, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(20, *x_0.shape, generator=generator, dtype=torch.float64)  # the same for each class

    def predict(x_t, timestep, condition):
        t, centre = timestep.long(), CENTRES[condition.labels].view(-1, 1, 1, 1, 1)
        signal, sigma = schedule.at(t, schedule.signals, x_t), schedule.at(t, schedule.sigmas, x_t)
        return centre + signal * std**2 / (signal**2 * std**2 + sigma**2) * (x_t - signal * centre)  # E[x_0 | x_t, c]

    def log_likelihood(label):
        condition = Condition(
            labels=torch.full((count,), label), text=torch.zeros(count, 0), text_mask=torch.zeros(count, dtype=torch.bool)
        )
        reverse = conditional_reverse_process(predict, condition, prediction="x0", schedule=schedule, variance="large")
        draws = iter(noise)
        bits = vlb_terms(reverse, x_0, schedule, draw_noise=lambda: next(draws), decoder=CONTINUOUS).total
        return -bits * math.log(2) * x_0[0].numel()

    ours = class_log_posterior(torch.stack([log_likelihood(label) for label in range(3)], dim=1), torch.zeros(3).double())
    exact = torch.distributions.Normal(CENTRES, std).log_prob(x_0.flatten(1).unsqueeze(-1)).sum(dim=1)
    assert float((ours.argmax(dim=1) == exact.argmax(dim=1)).double().mean()) > 0.97
    assert float((ours.argmax(dim=1) == labels).double().mean()) > 0.95


def test_clean_data_has_no_score():
    noise = torch.zeros(SHAPE)
    with pytest.raises(ValueError, match="score cannot be read"):
        score_from_noise(noise, 0.0)
