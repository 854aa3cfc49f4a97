import numpy as np
import pytest

from model_core.evaluation.intervals import bootstrap_mean, percentile_interval


def test_interval_covers_the_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        found = bootstrap_mean((generator.random(120) < 0.7).astype(float), seed=1, num_resamples=300)
        covered += found.low <= 0.7 <= found.high
    assert 178 <= covered <= 199


def test_repeats_within_a_group_are_no_new_evidence():
    once = (np.random.default_rng(0).random(50) < 0.5).astype(float)
    alone = bootstrap_mean(once, seed=3)
    repeated = bootstrap_mean(np.tile(once, 4), groups=np.tile(np.arange(50), 4), seed=3)
    assert repeated == alone
    assert bootstrap_mean(np.tile(once, 4), seed=3).high < alone.high


def test_interval_holds_its_estimate():
    assert percentile_interval(5.0, np.zeros(10)).high == 5.0


def test_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean(np.zeros(0), seed=0)
