"""Replicates of an evaluation's figures: what they would be with other holdout rows, and by how much two models then differ.

A holdout row is a description with its real picture. Rows are what was drawn at random, so they are what is resampled: a row
takes all the samples drawn for its description with it, and its real picture too. Replicates of two models that were judged on
the same rows, with the same seed and number, weigh the same rows alike (common random numbers), so that subtracting them one by
one is a paired bootstrap of the difference: whatever makes a row hard for both falls out.

The bootstrap is the Bayesian one (Rubin 1981): instead of counting how often a row is drawn from the rows with replacement, each
row gets an exponential weight of mean 1 and variance 1, which gives the same spread to first order (Præstgaard & Wellner 1993),
and a replicate is never without two rows, which KID needs. From the replicates' quantiles come percentile intervals (Efron &
Tibshirani 1993, ch. 13, who ask for about a thousand replicates).

Replicates cover the choice of rows and, with it, the seeds of samples. The judges are given: the feature extractor, the probe of
the categories, and the thresholds of the memorisation check. Another training run is not covered.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

MAX_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """Replicates of figures.

    Attributes:
        seed: Seed of the rows' weights.
        num: How many replicates there are of each figure.
        metrics: Replicates by figure.
    """

    seed: int
    num: int
    metrics: Mapping[str, Float[np.ndarray, " resamples"]]


def row_weights(num_rows: int, *, seed: int, num: int) -> Float[np.ndarray, "resamples rows"]:
    """Returns the weight of each row in each replicate: the same for the same arguments, with every version of numpy.

    NumPy vouches for a bit generator's raw numbers across versions, and not for what its distributions make of them (NEP 19), so
    the exponential is taken here: ``w = -log(u)``.
    """
    raw = np.random.PCG64(seed).random_raw(num * num_rows).reshape(num, num_rows)
    return np.asarray(-np.log(((raw >> np.uint64(11)) + 0.5) * 2.0**-53))


def joint_rows(
    of_samples: Int[np.ndarray, " n"], of_pictures: Int[np.ndarray, " m"] | None, num_pictures: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"], int]:
    """Numbers the rows that samples and real pictures are of, from 0, so that both know a shared row by the same number.

    Args:
        of_samples: The holdout row that each sample was drawn for.
        of_pictures: The row of each real picture; None where that is unknown, and each is a row of its own.
        num_pictures: How many real pictures there are.

    Returns:
        The number of each sample's row, of each picture's, and how many rows there are.
    """
    if of_pictures is None:
        of_pictures = int(of_samples.max(initial=-1)) + 1 + np.arange(num_pictures)
    rows, numbers = np.unique(np.concatenate([of_samples, of_pictures]), return_inverse=True)
    return numbers[: len(of_samples)], numbers[len(of_samples) :], len(rows)


def resampled_means(
    values: Float[np.ndarray, " n"], rows: Int[np.ndarray, " n"], weights: Float[np.ndarray, "resamples rows"]
) -> Float[np.ndarray, " resamples"]:
    """Returns replicates of the mean: ``sum_i w_row(i) v_i / sum_i w_row(i)``.

    Args:
        values: One number an item.
        rows: The row of each.
        weights: The weight of each row in each replicate.
    """
    num_rows = weights.shape[1]
    sums = np.bincount(rows, weights=values, minlength=num_rows)
    counts = np.bincount(rows, minlength=num_rows).astype(np.float64)
    return np.asarray((weights @ sums) / (weights @ counts))
