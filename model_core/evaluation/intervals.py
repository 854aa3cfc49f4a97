"""Figures with an interval, and the bootstrap that gives it."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

CONFIDENCE = 0.95
NORMAL_QUANTILE = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % interval.

    Attributes:
        value: The estimate from all the data.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


def percentile_interval(value: float, resampled: Float[np.ndarray, " resamples"]) -> Interval:
    """Returns an estimate with the middle 95 % of its resampled values; the interval always holds the estimate."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = (float(end) for end in np.percentile(resampled, [tail, 100 - tail]))
    return Interval(value=value, low=min(low, value), high=max(high, value))


def bootstrap_mean(
    values: Float[np.ndarray, " items"],
    *,
    groups: Int[np.ndarray, " items"] | None = None,
    seed: int,
    num_resamples: int = 1000,
) -> Interval:
    """Returns a mean with its percentile-bootstrap interval (Efron 1979).

    Args:
        values: One number an item.
        groups: Group of each item. Items of one group are resampled together, because they are no independent
            evidence: two samples drawn for the same caption, say. Every item is its own group where this is left out.
        seed: Seed of the resampling.
        num_resamples: How many resamples to draw.

    Raises:
        ValueError: There is nothing to average.
    """
    if values.size == 0:
        raise ValueError("the mean of no values is undefined")
    _, group_of = np.unique(groups if groups is not None else np.arange(values.size), return_inverse=True)
    sums = np.bincount(group_of, weights=values.astype(np.float64))
    counts = np.bincount(group_of).astype(np.float64)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, sums.size, size=(num_resamples, sums.size))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return percentile_interval(float(values.mean()), means)


def wilson_interval(true: int, num: int) -> Interval:
    """Returns a share with Wilson's score interval (1927), which holds up for few things and for shares of 0 and 1.

    Args:
        true: Of how many it is true.
        num: How many there are.

    Raises:
        ValueError: There are none.
    """
    if num < 1:
        raise ValueError("the share of nothing is undefined")
    value, z = true / num, NORMAL_QUANTILE
    centre = (value + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * (value * (1 - value) / num + z**2 / (4 * num**2)) ** 0.5
    return Interval(value=value, low=max(0.0, min(centre - half, value)), high=min(1.0, max(centre + half, value)))
