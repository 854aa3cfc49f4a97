import copy
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from governance.errors import BadRecordError, RefusedError
from governance.promotion.non_inferiority import Comparison, NotComparableError, compare, paired_difference, resampled_metrics

HOLDOUT = "ab" * 32


def report(value: float, resamples: list[float], *, metric: str = "kid", **options: Any) -> dict[str, Any]:
    resampled = {"seed": 0, "num": len(resamples), "holdout": HOLDOUT, "metrics": {metric: resamples}}
    return {"metrics": {metric: value}, "resamples": resampled | options}


def judge(candidate: dict[str, Any], champion: dict[str, Any], **options: Any) -> Comparison:
    settings: dict[str, Any] = {"better": "lower", "margin": 0.02, "confidence": 0.95}
    return compare(candidate, champion, "kid", **settings | options)


def pair(difference: float, spread: float = 0.01, num: int = 999) -> tuple[dict[str, Any], dict[str, Any]]:
    """A candidate and a champion whose own figures vary far more than their difference does."""
    generator = np.random.default_rng(0)
    shared = 0.3 + 0.1 * generator.standard_normal(num)
    apart = difference + spread * generator.standard_normal(num)
    return report(0.3 + difference, (shared + apart).tolist()), report(0.3, shared.tolist())


def test_a_candidate_as_good_as_the_champion_is_non_inferior() -> None:
    found = judge(*pair(0.0))
    assert found.non_inferior
    assert found.paired
    assert (found.candidate, found.champion, found.difference) == (0.3, 0.3, 0.0)
    assert found.low == pytest.approx(-0.0164, abs=0.001)
    assert found.high == pytest.approx(0.0164, abs=0.001)
    assert found.reason == f"with 95 % confidence kid is worse by at most {found.high:.3g}, and the margin is 0.02"


def test_a_difference_within_the_margin_is_refused_where_its_interval_reaches_beyond() -> None:
    found = judge(*pair(0.01))
    assert found.difference < found.margin < found.high
    assert not found.non_inferior
    assert "beyond the margin of 0.02" in found.reason
    assert judge(*pair(0.01), margin=0.03).non_inferior
    assert judge(*pair(0.01), confidence=0.6).non_inferior


def test_a_better_candidate_is_non_inferior_without_any_margin() -> None:
    found = judge(*pair(-0.05), margin=0.0)
    assert found.non_inferior
    assert "better by at least" in found.reason


def test_of_a_metric_where_more_is_better_the_lower_end_counts() -> None:
    candidate, champion = pair(0.05)
    assert judge(candidate, champion, better="higher", margin=0.0).non_inferior
    assert not judge(champion, candidate, better="higher").non_inferior
    assert judge(champion, candidate, better="higher", margin=0.07).non_inferior


def test_either_end_stands_where_numpy_puts_that_quantile() -> None:
    candidate, champion = pair(0.01, num=500)
    differences = np.subtract(candidate["resamples"]["metrics"]["kid"], champion["resamples"]["metrics"]["kid"])
    for confidence in (0.5, 0.9, 0.975, 0.99):
        _, low, high = paired_difference(candidate, champion, "kid", confidence=confidence)
        expected = np.quantile(differences, [1 - confidence, confidence], method="weibull")
        assert (low, high) == (min(expected[0], 0.01), pytest.approx(max(expected[1], 0.01)))


def weighted(rows: np.ndarray, weights: np.ndarray) -> list[float]:
    return ((weights @ rows) / weights.sum(axis=1)).tolist()


def mean_difference(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(one.mean(axis=axis) - other.mean(axis=axis))


def test_the_interval_is_scipys_of_the_paired_difference() -> None:
    generator = np.random.default_rng(2)
    hard = generator.normal(size=120)
    rows = [hard + generator.normal(0.1, 0.3, 120), hard + generator.normal(0, 0.3, 120)]
    weights = generator.exponential(size=(4000, 120))
    found = judge(*(report(float(one.mean()), weighted(one, weights)) for one in rows))
    expected = bootstrap(
        rows,
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True,
        confidence_level=0.9,
        method="percentile",
        rng=3,
    ).confidence_interval
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=0.006), pytest.approx(expected.high, abs=0.006))


def test_a_candidate_worse_by_the_whole_margin_passes_in_about_a_twentieth_of_all_cases() -> None:
    """The promise of 95 % confidence, over holdouts and models drawn anew."""
    generator = np.random.default_rng(1)
    weights = np.random.default_rng(9).exponential(size=(300, 80))
    passed = 0
    for _ in range(600):
        hard = generator.normal(size=80)
        worse, champion = hard + generator.normal(0.1, 0.4, 80), hard + generator.normal(0, 0.4, 80)
        reports = [report(float(one.mean()), weighted(one, weights)) for one in (worse, champion)]
        passed += judge(*reports, margin=0.1).non_inferior
    assert 0.03 < passed / 600 < 0.08


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("holdout", "cd" * 32, "different holdouts"),
        ("seed", 7, "different seeds"),
        ("num", 998, "different numbers of resamples"),
    ],
)
def test_evaluations_that_differ_in_what_they_judged_are_not_compared(name: str, value: Any, words: str) -> None:
    candidate, champion = pair(0.0)
    champion["resamples"][name] = value
    if name == "num":
        champion["resamples"]["metrics"]["kid"].pop()
    with pytest.raises(NotComparableError, match=words) as refused:
        judge(candidate, champion)
    assert isinstance(refused.value, RefusedError)
    assert "same holdout" in refused.value.hint
    assert "the candidate and the champion" in refused.value.diagnosis


def test_an_evaluation_without_resamples_is_not_compared_and_is_named() -> None:
    candidate, champion = pair(0.0)
    del champion["resamples"]
    with pytest.raises(NotComparableError, match="the champion was evaluated before resamples were kept"):
        judge(candidate, champion)
    candidate["resamples"]["metrics"] = {}
    with pytest.raises(NotComparableError, match="evaluation of the candidate has no resamples"):
        judge(candidate, pair(0.0)[1])


def test_too_few_resamples_for_the_confidence_asked_for_are_refused() -> None:
    with pytest.raises(NotComparableError, match=r"cannot bear a confidence of 0\.995"):
        judge(*pair(0.0, num=100), confidence=0.995)
    assert judge(*pair(0.0, num=199), confidence=0.995)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metrics",), None),
        (("metrics", "kid"), "0.3"),
        (("metrics", "kid"), math.nan),
        (("metrics", "kid"), 10**400),
        (("metrics", "kid"), 1.7e308),
        (("resamples",), []),
        (("resamples", "holdout"), "AB" * 32),
        (("resamples", "holdout"), None),
        (("resamples", "seed"), -1),
        (("resamples", "seed"), True),
        (("resamples", "seed"), None),
        (("resamples", "num"), 998),
        (("resamples", "num"), 999.0),
        (("resamples", "num"), 10**9),
        (("resamples", "metrics"), [1.0]),
        (("resamples", "metrics", "kid"), "0" * 999),
        (("resamples", "metrics", "kid"), {}),
        (("resamples", "metrics", "kid", 5), "0.3"),
        (("resamples", "metrics", "kid", 5), math.nan),
        (("resamples", "metrics", "kid", 5), -math.inf),
        (("resamples", "metrics", "kid", 5), 10**400),
        (("resamples", "metrics", "kid", 5), False),
        (("resamples", "metrics", "kid", 5), [0.3]),
    ],
)
def test_malformed_reports_are_refused(path: tuple[Any, ...], value: Any) -> None:
    candidate, champion = pair(0.0)
    hostile = copy.deepcopy(champion)
    place: Any = hostile
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    for reports in ((candidate, hostile), (hostile, candidate)):
        with pytest.raises(BadRecordError, match=r"report\.json"):
            judge(*reports)


@pytest.mark.parametrize("options", [{"margin": -0.1}, {"margin": math.nan}, {"confidence": 1.0}, {"confidence": 0.4}])
def test_a_margin_or_confidence_out_of_range_is_the_callers_mistake(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        judge(*pair(0.0), **options)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=20, max_size=60), st.floats(-1e6, 1e6))
def test_swapping_the_models_turns_the_interval_around(pairs: list[tuple[float, float]], value: float) -> None:
    one, other = (report(v, [p[i] for p in pairs]) for i, v in ((0, value), (1, 0.0)))
    difference, low, high = paired_difference(one, other, "kid", confidence=0.9)
    assert low <= difference <= high
    turned = paired_difference(other, one, "kid", confidence=0.9)
    assert turned == pytest.approx((-difference, -high, -low), rel=1e-9, abs=1e-6)


def test_resampled_metrics_are_named() -> None:
    assert resampled_metrics(pair(0.0)[0]) == ("kid",)
    for hostile in ({}, {"resamples": None}, {"resamples": {"metrics": [1]}}):
        assert resampled_metrics(hostile) == ()
