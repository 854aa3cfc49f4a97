"""FD-EffNetLite0: the Fréchet distance of two gaussians fitted to features (Heusel 2017, arXiv 1706.08500).

On EfficientNet-Lite0 features it is no FID and must not be called or compared so. With fewer pictures than the features'
1,280 dimensions the fitted covariances are singular and the distance is strongly biased upwards (Chong & Forsyth 2019,
arXiv 1911.07023): a `FrechetDistance` says so, and below `MIN_PICTURES` it is no headline figure.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from model_core.errors import BadDataError
from model_core.evaluation.moments import Moments

MIN_PICTURES = 2000


@dataclass(frozen=True, kw_only=True)
class FrechetDistance:
    """A Fréchet distance with what its bias depends on.

    Attributes:
        value: The distance, squared as usual; 0 for equal gaussians.
        num_x: Pictures on one side.
        num_y: Pictures on the other.
        dim: Dimensions of the features.
    """

    value: float
    num_x: int
    num_y: int
    dim: int

    @property
    def is_biased(self) -> bool:
        """Whether a covariance was fitted to fewer pictures than it has dimensions; compare only at equal numbers then."""
        return min(self.num_x, self.num_y) < self.dim


def frechet_distance(
    mean_x: Float[np.ndarray, " dim"],
    covariance_x: Float[np.ndarray, "dim dim"],
    mean_y: Float[np.ndarray, " dim"],
    covariance_y: Float[np.ndarray, "dim dim"],
) -> float:
    """Returns ``|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))``.

    The trace of the root is taken from the symmetric ``S_x^(1/2) S_y S_x^(1/2)``, which has the eigenvalues of ``S_x S_y``: no
    complex numbers appear, and singular covariances need no padding. Rounding never makes the result negative.

    Raises:
        BadDataError: Shapes do not fit each other, or a number is not finite.
    """
    dim = len(mean_x)
    if mean_y.shape != (dim,) or covariance_x.shape != (dim, dim) or covariance_y.shape != (dim, dim):
        shapes = f"{mean_x.shape} {covariance_x.shape} and {mean_y.shape} {covariance_y.shape}"
        raise BadDataError(f"the Fréchet distance needs gaussians of one dimension, not {shapes}")
    if not all(np.isfinite(part).all() for part in (mean_x, covariance_x, mean_y, covariance_y)):
        raise BadDataError("the Fréchet distance is undefined: a mean or covariance is not finite")
    values, vectors = np.linalg.eigh(covariance_x)
    root_x = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product = root_x @ covariance_y @ root_x
    product_values = np.linalg.eigvalsh((product + product.T) / 2)
    trace_of_root = np.sqrt(np.clip(product_values, 0, None)).sum()
    difference = mean_x - mean_y
    distance = difference @ difference + np.trace(covariance_x) + np.trace(covariance_y) - 2 * trace_of_root
    return max(0.0, float(distance))


def frechet_of_moments(x: Moments, y: Moments) -> FrechetDistance:
    """Returns the Fréchet distance of two sets of features of which only the moments were kept.

    Raises:
        BadDataError: A set has fewer than two members, or the dimensions differ.
    """
    value = frechet_distance(x.mean, x.covariance, y.mean, y.covariance)
    return FrechetDistance(value=value, num_x=x.count, num_y=y.count, dim=len(x.mean))


def frechet_of_features(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]) -> FrechetDistance:
    """Returns the Fréchet distance of two sets of features.

    Sets smaller than the dimension need no [dim dim] matrix: with deviations ``A`` and ``B`` as rows, ``tr (S_x S_y)^(1/2)`` is
    the sum of the singular values of ``A B^T / sqrt((n - 1) (m - 1))``, which is [n m].

    Raises:
        BadDataError: A set has fewer than two members, the dimensions differ, or a feature is not finite.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        shapes = f"{list(x.shape)} and {list(y.shape)}"
        raise BadDataError(f"the Fréchet distance needs two vectors or more of one dimension on either side, not {shapes}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise BadDataError("the Fréchet distance is undefined: a feature is not a finite number")
    if min(len(x), len(y)) >= x.shape[1]:
        return frechet_of_moments(Moments.of(x), Moments.of(y))
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = x64.mean(axis=0), y64.mean(axis=0)
    a, b = (x64 - mean_x) / np.sqrt(len(x) - 1), (y64 - mean_y) / np.sqrt(len(y) - 1)
    trace_of_root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    distance = ((mean_x - mean_y) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * trace_of_root
    return FrechetDistance(value=max(0.0, float(distance)), num_x=len(x), num_y=len(y), dim=x.shape[1])


def fd_effnet_lite0(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"], *, min_pictures: int = MIN_PICTURES) -> float:
    """Returns the Fréchet distance of two sets of features, as a headline figure.

    Raises:
        BadDataError: A set is too small for the figure to mean anything.
    """
    if min(len(x), len(y)) < min_pictures:
        diagnosis = f"FD-EffNetLite0 needs at least {min_pictures} pictures on either side, not {len(x)} and {len(y)}"
        raise BadDataError(diagnosis, hint="use KID, which is unbiased at any size")
    return frechet_of_features(x, y).value
