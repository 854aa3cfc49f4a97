"""Whether a candidate is no worse than the champion by more than a margin, judged on the same holdout.

Both evaluations hold replicates of their figures (`resamples` of `evaluation/report.json`; `model_core.evaluation.resampling`
says how they are drawn). Those of the same holdout, seed and number weigh the same holdout rows alike, so replicate by replicate
the difference candidate - champion is a paired bootstrap of it. Its percentile interval (Efron & Tibshirani 1993, ch. 13) is
held against the margin: the candidate is non-inferior where the interval's worse end lies within it, the two being compared as
a trial of non-inferiority does (ICH E9, 3.3.2). What is not known to be no worse is not non-inferior.

Two limits. Where neither model ever shows what is counted (a memorised share of 0), every replicate is 0 and so is the interval.
And the interval tells of other holdout rows and seeds of samples, not of another training run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from governance.errors import BadRecordError, RefusedError
from governance.model_records import metrics_of

MAX_RESAMPLES = 100_000
_LARGEST = 1e300  # so that a difference is finite too
_SAME = {"holdout": "on different holdouts", "seed": "with different seeds", "num": "with different numbers of resamples"}


class NotComparableError(RefusedError):
    """Two evaluations were not made on the same holdout, so no difference between them can be judged."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A metric of a candidate beside the champion's.

    Attributes:
        metric: Which.
        candidate: The candidate's value.
        champion: The champion's value.
        difference: Candidate - champion.
        low: The difference is at least this, with one-sided confidence `confidence`.
        high: It is at most this, likewise; both ends together hold with ``2 confidence - 1``: at 0.95 they are a 90 % interval.
        margin: By how much the candidate may be worse.
        confidence: One-sided confidence of either end.
        non_inferior: Whether the worse end of the interval is within the margin.
        paired: Whether the interval is of differences on the same holdout rows; true of all that `compare` returns.
        reason: One sentence that says why.
    """

    metric: str
    candidate: float
    champion: float
    difference: float
    low: float
    high: float
    margin: float
    confidence: float
    non_inferior: bool
    paired: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class _Replicates:
    holdout: str
    seed: int
    num: int
    values: Sequence[float]


def compare(
    candidate: Mapping[str, Any],
    champion: Mapping[str, Any],
    metric: str,
    *,
    better: Literal["lower", "higher"],
    margin: float,
    confidence: float,
) -> Comparison:
    """Compares a metric of two evaluations.

    Args:
        candidate: The candidate's evaluation report.
        champion: The champion's.
        metric: Which metric.
        better: Whether the lower or the higher value is the better one.
        margin: By how much the candidate may be worse, in the metric's unit.
        confidence: One-sided confidence of the interval's ends, from 0.5 to below 1.

    Raises:
        NotComparableError: They were made on different holdouts, or with other seeds or numbers of resamples; one has no
            resamples of the metric; or there are too few resamples for such a confidence.
        BadRecordError: A report is malformed.
        ValueError: Margin or confidence is out of range.
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"the margin must be a number from 0, not {margin}")
    names = ("the candidate", "the champion")
    difference, low, high = paired_difference(candidate, champion, metric, confidence=confidence, names=names)
    values = [metrics_of(report)[metric] for report in (candidate, champion)]
    worse = high if better == "lower" else -low
    non_inferior = worse <= margin
    return Comparison(
        metric=metric,
        candidate=values[0],
        champion=values[1],
        difference=difference,
        low=low,
        high=high,
        margin=margin,
        confidence=confidence,
        non_inferior=non_inferior,
        paired=True,
        reason=_reason(metric, worse, margin, confidence, non_inferior=non_inferior),
    )


def paired_difference(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    metric: str,
    *,
    confidence: float,
    names: tuple[str, str] = ("the first model", "the second model"),
) -> tuple[float, float, float]:
    """Returns the difference first - second of a metric with its interval, each end with one-sided confidence `confidence`.

    The interval always holds the difference.

    Args:
        first: An evaluation report.
        second: Another.
        metric: Which metric.
        confidence: From 0.5 to below 1.
        names: What to call the models where they cannot be compared.

    Raises:
        NotComparableError: See `compare`.
        BadRecordError: A report is malformed.
        ValueError: The confidence is out of range.
    """
    if not 0.5 <= confidence < 1:
        raise ValueError(f"the confidence must be from 0.5 to below 1, not {confidence}")
    one, other = _replicates(first, metric, names[0]), _replicates(second, metric, names[1])
    differing = [words for name, words in _SAME.items() if getattr(one, name) != getattr(other, name)]
    if differing:
        raise NotComparableError(
            f"{metric} of {' and '.join(names)} cannot be compared: they were evaluated {' and '.join(differing)}",
            hint="evaluate both on the same holdout, with the same seed and number of resamples",
        )
    if (1 - confidence) * (one.num + 1) < 1 - 1e-9:
        raise NotComparableError(
            f"{one.num} resamples of {metric} cannot bear a confidence of {confidence:g}",
            hint="evaluate both with a higher evaluate.num_resamples, or ask for less confidence",
        )
    difference = metrics_of(first)[metric] - metrics_of(second)[metric]
    differences = sorted(a - b for a, b in zip(one.values, other.values, strict=True))
    low, high = _quantile(differences, 1 - confidence), _quantile(differences, confidence)
    return difference, min(low, difference), max(high, difference)


def resampled_metrics(evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the metrics that an evaluation report holds replicates of, sorted; none where it holds no replicates at all."""
    resamples = evaluation.get("resamples")
    metrics = resamples.get("metrics") if isinstance(resamples, Mapping) else None
    return tuple(sorted(map(str, metrics))) if isinstance(metrics, Mapping) else ()


def _replicates(evaluation: Mapping[str, Any], metric: str, which: str) -> _Replicates:
    """Reads the replicates of a metric; nothing about a report is believed."""
    metrics = metrics_of(evaluation)
    resamples = evaluation.get("resamples")
    if resamples is None:
        raise _missing(metric, f"{which} was evaluated before resamples were kept")
    if not isinstance(resamples, Mapping):
        raise _malformed("resamples is no object")
    holdout, seed, num = (resamples.get(name) for name in ("holdout", "seed", "num"))
    if not isinstance(holdout, str) or len(holdout) != 64 or not all(char in "0123456789abcdef" for char in holdout):
        raise _malformed("resamples.holdout is no SHA-256")
    if not _is_count(seed, low=0, high=2**63) or not _is_count(num, low=2, high=MAX_RESAMPLES):
        raise _malformed(f"resamples.seed must be a count, and resamples.num one from 2 to {MAX_RESAMPLES}")
    by_metric = resamples.get("metrics")
    if not isinstance(by_metric, Mapping):
        raise _malformed("resamples.metrics is no object")
    if metric not in metrics or metric not in by_metric:
        raise _missing(metric, f"the evaluation of {which} has no resamples of it")
    if not _is_number(metrics[metric]):
        raise _malformed(f"metric {metric!r:.80} is no figure that could be compared")
    values = by_metric[metric]
    if not isinstance(values, list) or len(values) != num:
        raise _malformed(f"resamples.metrics has no list of {num} numbers for {metric!r:.80}")
    if not all(_is_number(value) for value in values):
        raise _malformed(f"a resample of {metric!r:.80} is no finite number")
    return _Replicates(holdout=holdout, seed=int(seed or 0), num=num, values=values)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Returns a quantile at position ``share (B + 1)`` from 1, between neighbours in proportion."""
    position = min(max(share * (len(ordered) + 1) - 1, 0.0), len(ordered) - 1.0)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _reason(metric: str, worse: float, margin: float, confidence: float, *, non_inferior: bool) -> str:
    sure = f"with {100 * confidence:g} % confidence"
    if non_inferior:
        how = f"worse by at most {worse:.3g}" if worse > 0 else f"better by at least {-worse:.3g}" if worse else "no worse"
        return f"{sure} {metric} is {how}, and the margin is {margin:g}"
    return f"{metric} may be worse by {worse:.3g} ({sure} not by more), which is beyond the margin of {margin:g}"


def _missing(metric: str, why: str) -> NotComparableError:
    return NotComparableError(f"{metric} cannot be compared: {why}", hint="evaluate both on the same holdout")


def _malformed(what: str) -> BadRecordError:
    return BadRecordError(f"evaluation/report.json: {what}")


def _is_count(value: Any, *, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST  # of NaN false
