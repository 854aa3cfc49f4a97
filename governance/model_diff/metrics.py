"""Holds the figures of two evaluations against each other."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from governance.errors import BadRecordError
from governance.model_diff.model import Difference, MetricPair, Verdict
from governance.model_records import Figure, figures, metrics_of
from governance.promotion.non_inferiority import NotComparableError, paired_difference, resampled_metrics

BETTER: Final[Mapping[str, Literal["lower", "higher"]]] = {
    "kid": "lower",
    "category_accuracy": "higher",
    "memorised_share": "lower",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "fd_effnet_lite0": "lower",
    "utility_ratio": "higher",
    "utility_tstr": "higher",
}
"""What is better of the figures that evaluations report."""

CONFIDENCE: Final = 0.975
"""One-sided confidence of either end, so that the interval is one of 95 %."""


def compare_metrics(
    metrics: tuple[Mapping[str, float], Mapping[str, float]], reports: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> tuple[MetricPair, ...]:
    """Compares the figures of two models, those that can be judged first.

    Args:
        metrics: The figures on record of each, flat.
        reports: The evaluation report of each, from its package.
    """
    of_first, of_second = ({one.name: one for one in _figures(side)} for side in metrics)
    judged = {name for report in reports for name in resampled_metrics(report)}
    names = dict.fromkeys((*BETTER, *of_first, *of_second))
    pairs = [
        _pair(name, (of_first.get(name), of_second.get(name)), reports, judged)
        for name in names
        if name in of_first or name in of_second
    ]
    return tuple(sorted(pairs, key=lambda pair: pair.difference is None and not pair.why_not))


def judged_alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Returns whether two evaluations say that they were on the same holdout, with the same seed."""
    resamples = [report.get("resamples") for report in (first, second)]
    one, other = (
        (found.get("holdout"), found.get("seed")) if isinstance(found, Mapping) else (None, None) for found in resamples
    )
    return one == other and None not in one


def _figures(metrics: Mapping[str, float]) -> list[Figure]:
    try:
        return figures({"metrics": metrics})
    except BadRecordError:  # none on record
        return []


def _pair(
    name: str,
    sides: tuple[Figure | None, Figure | None],
    reports: tuple[Mapping[str, Any], Mapping[str, Any]],
    judged: set[str],
) -> MetricPair:
    first, second = sides
    better = BETTER.get(name)
    if first is None or second is None or name not in judged:
        return MetricPair(name=name, first=first, second=second, better=better)
    difference, why_not = None, ""
    try:
        if any(metrics_of(report).get(name) != side.value for report, side in zip(reports, (first, second), strict=True)):
            why_not = "the figure on record is not the one in the package"
        else:
            names = ("the second model", "the first model")
            value, low, high = paired_difference(reports[1], reports[0], name, confidence=CONFIDENCE, names=names)
            difference = Difference(value=value, low=low, high=high, verdict=_verdict(low, high, better))
    except (NotComparableError, BadRecordError) as error:
        why_not = error.diagnosis
    return MetricPair(name=name, first=first, second=second, better=better, difference=difference, why_not=why_not)


def _verdict(low: float, high: float, better: Literal["lower", "higher"] | None) -> Verdict:
    if low <= 0 <= high:
        return "undecided"
    if better is None:
        return "different"
    return "better" if (high < 0) == (better == "lower") else "worse"
