"""FD-EffNetLite0: the Fréchet distance of two gaussians fitted to features (Heusel 2017, arXiv 1706.08500).

On EfficientNet-Lite0 features it is no FID and must not be called or compared so. With fewer pictures than about the
features' 1,280 dimensions the fitted covariances are singular and the distance is strongly biased upwards, so it is refused.
"""

import numpy as np
from jaxtyping import Float

from model_core.errors import BadDataError

MIN_PICTURES = 2000


def frechet_distance(
    mean_x: Float[np.ndarray, " dim"],
    covariance_x: Float[np.ndarray, "dim dim"],
    mean_y: Float[np.ndarray, " dim"],
    covariance_y: Float[np.ndarray, "dim dim"],
) -> float:
    """Returns ``|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))``.

    The trace of the root is taken from the symmetric ``S_x^(1/2) S_y S_x^(1/2)``, which has the eigenvalues of ``S_x S_y``.
    """
    values, vectors = np.linalg.eigh(covariance_x)
    root_x = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product_values = np.linalg.eigvalsh(root_x @ covariance_y @ root_x)
    trace_of_root = np.sqrt(np.clip(product_values, 0, None)).sum()
    difference = mean_x - mean_y
    return float(difference @ difference + np.trace(covariance_x) + np.trace(covariance_y) - 2 * trace_of_root)


def fd_effnet_lite0(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"], *, min_pictures: int = MIN_PICTURES) -> float:
    """Returns the Fréchet distance of two sets of features.

    Raises:
        BadDataError: A set is too small for the figure to mean anything.
    """
    if min(len(x), len(y)) < min_pictures:
        diagnosis = f"FD-EffNetLite0 needs at least {min_pictures} pictures on either side, not {len(x)} and {len(y)}"
        raise BadDataError(diagnosis, hint="use KID, which is unbiased at any size")
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    return frechet_distance(x64.mean(axis=0), np.cov(x64, rowvar=False), y64.mean(axis=0), np.cov(y64, rowvar=False))
