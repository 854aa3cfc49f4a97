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
