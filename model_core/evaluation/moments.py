"""Mean and covariance of features, batch by batch: what a gaussian fit needs, in memory that does not grow with the pictures.

Moments of two parts make those of the whole exactly (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample
variance"; with a part of one this is Welford's update), so nothing is ever read twice. Everything is double precision.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from model_core.errors import BadDataError


@dataclass(frozen=True, kw_only=True)
class Moments:
    """First and second moments of a set of feature vectors.

    Attributes:
        count: How many vectors.
        mean: Their mean.
        scatter: Sum of the outer products of their deviations from the mean.
    """

    count: int
    mean: Float[np.ndarray, " dim"]
    scatter: Float[np.ndarray, "dim dim"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "n dim"]) -> "Moments":
        """Returns the moments of one batch.

        Raises:
            BadDataError: The batch is empty, not [n dim], or a feature is not finite.
        """
        if features.ndim != 2 or not features.size:
            raise BadDataError(f"moments need features [n dim], n and dim at least 1, not {list(features.shape)}")
        if not np.isfinite(features).all():
            raise BadDataError("the moments are undefined: a feature is not a finite number")
        features64 = features.astype(np.float64)
        mean = features64.mean(axis=0)
        deviations = features64 - mean
        return cls(count=len(features), mean=mean, scatter=deviations.T @ deviations)

    def merge(self, other: "Moments") -> "Moments":
        """Returns the moments of both sets together: ``M = M_a + M_b + d d^T n_a n_b / n`` with ``d = mean_b - mean_a``.

        Raises:
            BadDataError: The features have different dimensions.
        """
        if self.mean.shape != other.mean.shape:
            raise BadDataError(f"features of {len(self.mean)} and of {len(other.mean)} dimensions cannot be put together")
        count = self.count + other.count
        difference = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + difference * (other.count / count),
            scatter=self.scatter + other.scatter + np.outer(difference, difference) * (self.count * other.count / count),
        )

    @property
    def covariance(self) -> Float[np.ndarray, "dim dim"]:
        """The unbiased covariance, with n - 1 below.

        Raises:
            BadDataError: There is only one vector.
        """
        if self.count < 2:
            raise BadDataError("the covariance of one picture is undefined")
        return np.asarray(self.scatter / (self.count - 1))


def stream_moments(batches: Iterable[Float[np.ndarray, "_ dim"]]) -> Moments:
    """Returns the moments of all batches together; each is looked at once and may then be dropped.

    Raises:
        BadDataError: There is nothing, batches differ in dimension, or a feature is not finite.
    """
    moments: Moments | None = None
    for batch in batches:
        if len(batch):
            found = Moments.of(batch)
            moments = found if moments is None else moments.merge(found)
    if moments is None:
        raise BadDataError("there are no features to take moments of")
    return moments
