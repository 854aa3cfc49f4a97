"""Fidelity apart from diversity: precision and recall, density and coverage, of samples against real pictures.

Both estimate the region that a set of pictures covers by balls around its members that reach to their k-th nearest
neighbour in the set. Improved precision and recall (Kynkäänniemi 2019, arXiv 1904.06991, k = 3) say whether a picture lies in
any ball of the other set, with closed balls:

- precision: share of the samples within the real region (do they look right?)
- recall: share of the real pictures within the samples' region (is all that is real also drawn?)

Density and coverage (Naeem 2020, arXiv 2002.09797, k = 5) use balls of the real set alone, which the odd sample far from
everything cannot blow up, with open balls, so that two equal sets have density 1:

- density: real balls that hold a sample, counted over samples and divided by k; may exceed 1
- coverage: share of the real balls that hold a sample

Radii shrink as sets grow, so figures compare only at equal numbers of pictures.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from model_core.errors import BadDataError
from model_core.evaluation.nearest import blocks, squared_distances

PRECISION_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5
MIN_PICTURES = DENSITY_NEIGHBOURS + 1

# Squared distances come out of a difference of norms; within this share of the norms a point lies on a ball's boundary.
_ROUNDING = 1e-11
_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class ManifoldScores:
    """How two sets of pictures cover each other; 1 is best.

    Attributes:
        precision: Share of the samples within the real region.
        recall: Share of the real pictures within the samples' region.
        density: Mean number of real balls around a sample, over k.
        coverage: Share of the real balls that hold a sample.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def squared_radii(features: Float[np.ndarray, "n dim"], *, neighbours: tuple[int, ...], block: int = _BLOCK) -> np.ndarray:
    """Returns the squared distance of each vector to its k-th nearest other one, for each k: [n len(neighbours)].

    Args:
        features: The set.
        neighbours: The k, from 1 to n - 1.
        block: Vectors at a time: memory is `block` times n numbers.
    """
    radii = np.empty((len(features), len(neighbours)))
    for rows in blocks(len(features), block):
        found = squared_distances(features[rows], features)
        found[np.arange(len(found)), np.arange(rows.start, rows.stop)] = np.inf
        places = [k - 1 for k in neighbours]
        radii[rows] = np.partition(found, places, axis=1)[:, places]
    return radii


def manifold_scores(
    samples: Float[np.ndarray, "n dim"],
    real: Float[np.ndarray, "m dim"],
    *,
    precision_neighbours: int = PRECISION_NEIGHBOURS,
    density_neighbours: int = DENSITY_NEIGHBOURS,
    block: int = _BLOCK,
) -> ManifoldScores:
    """Returns precision, recall, density and coverage.

    Args:
        samples: Features of the samples.
        real: Features of real pictures.
        precision_neighbours: The k of precision and recall.
        density_neighbours: The k of density and coverage.
        block: Samples at a time: memory is `block` times the larger set.

    Raises:
        BadDataError: A set has too few members, the dimensions differ, or a feature is not finite.
    """
    if samples.ndim != 2 or real.ndim != 2 or samples.shape[1] != real.shape[1]:
        raise BadDataError(f"features must be [n dim] of one dimension, not {list(samples.shape)} and {list(real.shape)}")
    needed = max(precision_neighbours, density_neighbours) + 1
    if min(len(samples), len(real)) < needed or min(precision_neighbours, density_neighbours) < 1:
        raise BadDataError(
            f"precision and recall need at least {needed} pictures on either side, not {len(samples)} and {len(real)}"
        )
    if not (np.isfinite(samples).all() and np.isfinite(real).all()):
        raise BadDataError("precision and recall are undefined: a feature is not a finite number")
    centre = real.astype(np.float64).mean(axis=0)  # distances stay, and lose fewer digits to the norms
    x, y = samples.astype(np.float64) - centre, real.astype(np.float64) - centre
    radii_y = squared_radii(y, neighbours=(precision_neighbours, density_neighbours), block=block)
    radii_x = squared_radii(x, neighbours=(precision_neighbours,), block=block)[:, 0]
    norms_y = (y**2).sum(axis=1)
    inside_real, balls = 0, 0
    inside_samples, covered = np.zeros(len(y), bool), np.zeros(len(y), bool)
    for rows in blocks(len(x), block):
        apart = squared_distances(x[rows], y)
        rounding = _ROUNDING * ((x[rows] ** 2).sum(axis=1)[:, None] + norms_y)
        inside_real += int((apart <= radii_y[:, 0] + rounding).any(axis=1).sum())
        inside_samples |= (apart <= radii_x[rows, None] + rounding).any(axis=0)
        within = apart < radii_y[:, 1] - rounding
        balls += int(within.sum())
        covered |= within.any(axis=0)
    return ManifoldScores(
        precision=inside_real / len(x),
        recall=float(inside_samples.mean()),
        density=balls / (density_neighbours * len(x)),
        coverage=float(covered.mean()),
    )
