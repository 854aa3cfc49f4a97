"""Kernel Inception Distance (Bińkowski 2018, arXiv 1801.01401), on whatever features it is given.

KID is the squared maximum mean discrepancy under the cubic kernel ``k(x, y) = (x . y / d + 1)^3``, in its unbiased form. Being
unbiased it compares sets of different, even small, sizes, and is about 0 (now and then below) for two sets drawn alike.
"""

import numpy as np
from jaxtyping import Float

from model_core.errors import BadDataError
from model_core.evaluation.intervals import Interval, percentile_interval

MIN_SAMPLES = 4


def polynomial_kernel(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]) -> Float[np.ndarray, "n m"]:
    """Returns ``(x . y / dim + 1)^3`` for each pair, in double precision."""
    return np.asarray((x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1.0) ** 3)


def kernel_inception_distance(
    x: Float[np.ndarray, "n dim"],
    y: Float[np.ndarray, "m dim"],
    *,
    seed: int,
    num_subsets: int = 200,
) -> Interval:
    """Returns the unbiased KID of two sets of features, with an interval from random half subsets.

    The interval is the spread of KID over random halves of both sets, drawn without replacement: a half's deviation from the
    whole has, for a mean, exactly the variance of the whole's own error (half-sampling; Politis, Romano & Wolf 1999, ch. 2). The
    ordinary bootstrap would put copies of one picture into the unbiased estimator, and so bias it.

    Args:
        x: Features of one set.
        y: Features of the other.
        seed: Seed of the subsets.
        num_subsets: How many pairs of halves to draw.

    Raises:
        BadDataError: A set has fewer than four members, or a feature is not finite.
    """
    if min(len(x), len(y)) < MIN_SAMPLES:
        raise BadDataError(f"KID needs at least {MIN_SAMPLES} pictures on either side, not {len(x)} and {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise BadDataError("KID is undefined: a feature is not a finite number")
    k_xx, k_yy, k_xy = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    np.fill_diagonal(k_xx, 0.0)
    np.fill_diagonal(k_yy, 0.0)
    everything = _unbiased(k_xx, k_yy, k_xy, np.ones((1, len(x))), np.ones((1, len(y))))
    generator = np.random.default_rng(seed)
    halves_x, halves_y = _halves(generator, len(x), num_subsets), _halves(generator, len(y), num_subsets)
    return percentile_interval(float(everything[0]), _unbiased(k_xx, k_yy, k_xy, halves_x, halves_y))


def _halves(generator: np.random.Generator, size: int, num_subsets: int) -> Float[np.ndarray, "subsets size"]:
    """Draws subsets of half the members, as rows of ones and zeros."""
    ranks = np.argsort(generator.random((num_subsets, size)), axis=1)
    return np.asarray(ranks < size // 2, dtype=np.float64)


def _unbiased(
    k_xx: Float[np.ndarray, "n n"],
    k_yy: Float[np.ndarray, "m m"],
    k_xy: Float[np.ndarray, "n m"],
    in_x: Float[np.ndarray, "subsets n"],
    in_y: Float[np.ndarray, "subsets m"],
) -> Float[np.ndarray, " subsets"]:
    """Returns the unbiased squared MMD of subsets, from kernel matrices whose own diagonals are zero."""
    n, m = in_x.sum(axis=1), in_y.sum(axis=1)
    xx = np.einsum("sn,sn->s", in_x @ k_xx, in_x) / (n * (n - 1))
    yy = np.einsum("sm,sm->s", in_y @ k_yy, in_y) / (m * (m - 1))
    xy = np.einsum("sm,sm->s", in_x @ k_xy, in_y) / (n * m)
    return np.asarray(xx + yy - 2 * xy)
