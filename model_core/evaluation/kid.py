"""Kernel Inception Distance (Bińkowski 2018, arXiv 1801.01401), on whatever features it is given.

KID is the squared maximum mean discrepancy under the cubic kernel ``k(x, y) = (x . y / d + 1)^3``, in its unbiased form. Being
unbiased it compares sets of different, even small, sizes, and is about 0 (now and then below) for two sets drawn alike.
"""

import numpy as np
from jaxtyping import Float, Int

from model_core.errors import BadDataError
from model_core.evaluation.intervals import Interval, percentile_interval
from model_core.evaluation.nearest import blocks

MIN_SAMPLES = 4
_BLOCK_NUMBERS = 32 * 1024 * 1024


def polynomial_kernel(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]) -> Float[np.ndarray, "n m"]:
    """Returns ``(x . y / dim + 1)^3`` for each pair, in double precision."""
    return np.asarray((x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1.0) ** 3)


def kernel_inception_distance(
    x: Float[np.ndarray, "n dim"],
    y: Float[np.ndarray, "m dim"],
    *,
    seed: int,
    num_subsets: int = 200,
    groups_x: Int[np.ndarray, " n"] | None = None,
    groups_y: Int[np.ndarray, " m"] | None = None,
    block_numbers: int = _BLOCK_NUMBERS,
) -> Interval:
    """Returns the unbiased KID of two sets of features, with an interval from random half subsets.

    The interval is the spread of KID over random halves of both sets, drawn without replacement: a half's deviation from the
    whole has, for a mean, exactly the variance of the whole's own error (half-sampling; Politis, Romano & Wolf 1999, ch. 2). The
    ordinary bootstrap would put copies of one picture into the unbiased estimator, and so bias it.

    Vectors of one group (frames of one clip, say) are no independent evidence: pairs within a group are left out of the mean,
    as a vector's pair with itself is, which keeps the estimate unbiased, and halves are halves of the groups.

    Args:
        x: Features of one set.
        y: Features of the other.
        seed: Seed of the subsets.
        num_subsets: How many pairs of halves to draw.
        groups_x: Group of each vector of `x`; each is its own where this is left out.
        groups_y: Group of each vector of `y`.
        block_numbers: Most numbers of a kernel matrix kept at a time.

    Raises:
        BadDataError: A set has fewer than four members or groups, the dimensions differ, or a feature is not finite.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise BadDataError(f"KID needs features [n dim] of one dimension, not {list(x.shape)} and {list(y.shape)}")
    group_x, group_y = _groups(groups_x, len(x)), _groups(groups_y, len(y))
    counts_x, counts_y = np.bincount(group_x), np.bincount(group_y)
    if min(len(counts_x), len(counts_y)) < MIN_SAMPLES:
        what = "pictures" if groups_x is None and groups_y is None else "groups"
        raise BadDataError(f"KID needs at least {MIN_SAMPLES} {what} on either side, not {len(counts_x)} and {len(counts_y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise BadDataError("KID is undefined: a feature is not a finite number")
    generator = np.random.default_rng(seed)
    chosen_x = _halves_after_all(generator, len(counts_x), num_subsets)
    chosen_y = _halves_after_all(generator, len(counts_y), num_subsets)
    in_x, in_y = chosen_x[:, group_x], chosen_y[:, group_y]
    num_x, num_y = in_x.sum(axis=1), in_y.sum(axis=1)
    xx = _kernel_sums(x, x, in_x, in_x, (group_x, group_x), block_numbers) / (num_x**2 - chosen_x @ counts_x**2)
    yy = _kernel_sums(y, y, in_y, in_y, (group_y, group_y), block_numbers) / (num_y**2 - chosen_y @ counts_y**2)
    xy = _kernel_sums(x, y, in_x, in_y, None, block_numbers) / (num_x * num_y)
    found = xx + yy - 2 * xy
    return percentile_interval(float(found[0]), found[1:])


def resampled_kid(
    x: Float[np.ndarray, "n dim"],
    y: Float[np.ndarray, "m dim"],
    *,
    rows_x: Int[np.ndarray, " n"],
    rows_y: Int[np.ndarray, " m"],
    weights: Float[np.ndarray, "resamples rows"],
    block_numbers: int = _BLOCK_NUMBERS,
) -> Float[np.ndarray, " resamples"]:
    """Returns replicates of KID under random weights of the rows that samples and real pictures are of.

    KID is a mean over pairs of rows, so a replicate weighs the pair of two different rows with the product of their weights
    (bootstrap of a U-statistic: Bickel & Freedman 1981; with weights: Janssen 1994). What the ordinary bootstrap would add, the
    pairs of a row with its own copy, stays out as it does of KID itself: pairs of vectors of one row, on one side, are left out
    of the mean. Between the sides they are part of KID (a sample and the real picture of its description) and get the row's
    weight once. So every pair has the expected weight 1, as the weights are independent with mean 1, and replicates lie around
    KID, with a bias (of the ratio of two sums) that is small against their spread. Where two sets are drawn alike, replicates
    spread more than KID does (the statistic degenerates: Arcones & Giné 1992), which errs on the side of caution.

    Args:
        x: Features of samples.
        y: Features of real pictures.
        rows_x: The row that each sample was drawn for.
        rows_y: The row of each real picture; a number here and in `rows_x` is the same row.
        weights: The weight of each row in each replicate, see `row_weights`.
        block_numbers: Most numbers of a kernel matrix kept at a time.

    Raises:
        BadDataError: A set is of fewer than two rows.
    """
    num_rows = weights.shape[1]
    counts_x, counts_y = (np.bincount(rows, minlength=num_rows).astype(np.float64) for rows in (rows_x, rows_y))
    if min(np.count_nonzero(counts_x), np.count_nonzero(counts_y)) < 2:
        raise BadDataError("replicates of KID need samples and pictures of at least two rows")
    of_x, of_y = weights[:, rows_x], weights[:, rows_y]
    squares = weights**2
    xx = _kernel_sums(x, x, of_x, of_x, (rows_x, rows_x), block_numbers)
    xx /= (weights @ counts_x) ** 2 - squares @ counts_x**2
    yy = _kernel_sums(y, y, of_y, of_y, (rows_y, rows_y), block_numbers)
    yy /= (weights @ counts_y) ** 2 - squares @ counts_y**2
    own = _own_kernel_sums(x, y, rows_x, rows_y, num_rows)
    xy = _kernel_sums(x, y, of_x, of_y, (rows_x, rows_y), block_numbers) + weights @ own
    shared = counts_x * counts_y
    xy /= (weights @ counts_x) * (weights @ counts_y) - squares @ shared + weights @ shared
    return np.asarray(xx + yy - 2 * xy)


def _own_kernel_sums(
    x: np.ndarray, y: np.ndarray, rows_x: np.ndarray, rows_y: np.ndarray, num_rows: int
) -> Float[np.ndarray, " rows"]:
    """Returns for each row the kernel summed over the pairs of its vectors on either side."""
    sums = np.zeros(num_rows)
    members = {int(row): np.flatnonzero(rows_y == row) for row in np.unique(rows_y)}
    for position, row in enumerate(rows_x):
        if (shared := members.get(int(row))) is not None:
            sums[row] += polynomial_kernel(x[position : position + 1], y[shared]).sum()
    return sums


def _groups(groups: np.ndarray | None, size: int) -> Int[np.ndarray, " n"]:
    """Returns each vector's group as a number from 0."""
    if groups is None:
        return np.arange(size)
    if groups.shape != (size,):
        raise BadDataError(f"there are {size} vectors, but groups {list(groups.shape)}")
    return np.asarray(np.unique(groups, return_inverse=True)[1])


def _halves_after_all(generator: np.random.Generator, size: int, num_subsets: int) -> Float[np.ndarray, "subsets size"]:
    """Draws subsets of half the members, as rows of ones and zeros, below a row of ones for everything."""
    ranks = np.argsort(generator.random((num_subsets, size)), axis=1)
    return np.concatenate([np.ones((1, size)), np.asarray(ranks < size // 2, dtype=np.float64)])


def _kernel_sums(
    x: Float[np.ndarray, "n dim"],
    y: Float[np.ndarray, "m dim"],
    in_x: Float[np.ndarray, "subsets n"],
    in_y: Float[np.ndarray, "subsets m"],
    apart: tuple[np.ndarray, np.ndarray] | None,
    block_numbers: int,
) -> Float[np.ndarray, " subsets"]:
    """Returns the kernel summed over the pairs of each subset, without pairs within a group where groups are given."""
    sums = np.zeros(len(in_x))
    for rows in blocks(len(x), max(1, block_numbers // len(y))):
        kernel = polynomial_kernel(x[rows], y)
        if apart:
            kernel[apart[0][rows, None] == apart[1][None, :]] = 0.0
        sums += np.einsum("sm,sm->s", in_x[:, rows] @ kernel, in_y)
    return sums
