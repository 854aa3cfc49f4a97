import numpy as np
import pytest

from model_core.watermark import detect
from model_core.watermark.significance import false_positive_probability, score_threshold, wrong_payload_probability
from tests.model_core.watermark.pictures import photographs


def test_a_threshold_has_the_probability_it_is_for() -> None:
    threshold = score_threshold(1e-3, 300)
    assert false_positive_probability(threshold, 300) == pytest.approx(1e-3, rel=1e-6)
    assert 5.5 < threshold < 6.5


def test_probabilities_are_probabilities() -> None:
    assert false_positive_probability(-3.0, 300) == 1.0
    assert 0 <= false_positive_probability(30.0, 300) < 1e-100
    assert wrong_payload_probability(0.0) == 2.0**-24


def test_scores_of_random_keys_have_no_heavier_tails_than_a_gaussian() -> None:
    generator = np.random.default_rng(0)
    loudness = generator.gamma(0.5, size=262)
    cosines = np.cos(generator.uniform(0, 2 * np.pi, (20_000, 262)))
    scores = cosines @ loudness / np.sqrt(np.sum(loudness**2) / 2)
    assert scores.std() == pytest.approx(1, abs=0.02)
    assert np.mean(scores > 3) < 0.00135 * 1.5


def test_false_positives_are_no_more_than_told() -> None:
    generator, (picture,) = np.random.default_rng(0), photographs(64, 1)
    told = [detect(picture, generator.bytes(32)).false_positive_probability for _ in range(100)]
    assert np.mean(np.array(told) < 0.2) <= 0.2 + 2.5 * np.sqrt(0.2 * 0.8 / 100)
