"""Does the model repeat its training pictures?

A sample is suspicious when it lies closer to a training picture than new real pictures do. "Closer" is calibrated on the real
holdout, which nobody trained on: in a space of pictures (features, or pixels) a sample counts as memorised if both its distance
to the nearest training picture, and that distance over the one to the nearest holdout picture, are below what all but a few
(`TOLERATED_SHARE`) of the holdout pictures themselves show. The distance alone would accuse simple pictures, which lie close to
everything; the ratio alone would accuse pictures of a well-covered category.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from model_core.errors import BadDataError
from model_core.evaluation.nearest import nearest

TOLERATED_SHARE = 0.05
MIN_HOLDOUT = 2
_SMALLEST_DISTANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest training and holdout picture of each query, in one space.

    Attributes:
        train_index: Nearest training picture.
        train_distance: Its distance.
        holdout_index: Nearest holdout picture (other than the query itself, if that is one).
        holdout_distance: Its distance.
    """

    train_index: Int[np.ndarray, " n"]
    train_distance: Float[np.ndarray, " n"]
    holdout_index: Int[np.ndarray, " n"]
    holdout_distance: Float[np.ndarray, " n"]

    @property
    def ratio(self) -> Float[np.ndarray, " n"]:
        """Distance to the training set over distance to the holdout: far below 1 means "drawn from memory"."""
        return np.asarray((self.train_distance + _SMALLEST_DISTANCE) / (self.holdout_distance + _SMALLEST_DISTANCE))


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What real holdout pictures show in one space, all but a tolerated share of them.

    Attributes:
        distance: Below this distance to the training set ...
        ratio: ... and below this ratio, a picture counts as memorised.
    """

    distance: float
    ratio: float

    @classmethod
    def of_holdout(cls, real: Neighbours, *, tolerated_share: float = TOLERATED_SHARE) -> "Thresholds":
        """Calibrates them on holdout pictures; with a share of 0, none of these counts as memorised."""
        return cls(
            distance=float(np.quantile(real.train_distance, tolerated_share)),
            ratio=float(np.quantile(real.ratio, tolerated_share)),
        )

    def accuse(self, found: Neighbours) -> Bool[np.ndarray, " n"]:
        """Returns which pictures count as memorised."""
        return np.asarray((found.train_distance < self.distance) & (found.ratio < self.ratio))


@dataclass(frozen=True, kw_only=True)
class SpaceResult:
    """What one space says.

    Attributes:
        samples: Neighbours of the samples.
        real: Neighbours of the real holdout pictures.
        distance_threshold: Below this distance to the training set ...
        ratio_threshold: ... and below this ratio, a picture counts as memorised.
        flagged: Whether each sample does.
        flagged_real: Whether each real holdout picture does: the false alarms to expect.
    """

    samples: Neighbours
    real: Neighbours
    distance_threshold: float
    ratio_threshold: float
    flagged: Bool[np.ndarray, " samples"]
    flagged_real: Bool[np.ndarray, " holdout"]


@dataclass(frozen=True, kw_only=True)
class MemorisationResult:
    """What both spaces say together.

    Attributes:
        features: Result on unit-length features, which see through shifts and small changes.
        pixels: Result on pixels, which see exact copies.
    """

    features: SpaceResult
    pixels: SpaceResult

    @property
    def flagged(self) -> Bool[np.ndarray, " samples"]:
        """Samples that count as memorised in either space."""
        return np.asarray(self.features.flagged | self.pixels.flagged)

    @property
    def memorised_share(self) -> float:
        """Share of the samples that count as memorised."""
        return float(self.flagged.mean())

    @property
    def memorised_share_real(self) -> float:
        """Share of the real holdout pictures that the same rule accuses."""
        return float((self.features.flagged_real | self.pixels.flagged_real).mean())

    @property
    def ratio_median(self) -> float:
        """Median over samples of the ratio of distances, on features."""
        return float(np.median(self.features.samples.ratio))

    @property
    def ratio_median_real(self) -> float:
        """The same median over real holdout pictures: what it is where nothing is drawn from memory."""
        return float(np.median(self.features.real.ratio))

    def evidence(self, index: int) -> SpaceResult:
        """Returns the space whose neighbours show best why a sample is suspicious: features, unless only pixels accuse it."""
        only_pixels = self.pixels.flagged[index] and not self.features.flagged[index]
        return self.pixels if only_pixels else self.features

    def worst(self, count: int) -> Int[np.ndarray, " count"]:
        """Returns the samples nearest to the training set, relative to the holdout, the memorised ones first."""
        ratio = np.minimum(
            self.features.samples.ratio / self.features.ratio_threshold, self.pixels.samples.ratio / self.pixels.ratio_threshold
        )
        return np.asarray(np.lexsort((ratio, ~self.flagged))[:count])


def unit_features(features: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
    """Scales each feature vector to length 1, so that distance is a matter of what is shown and not of contrast."""
    features64 = features.astype(np.float64)
    return np.asarray(features64 / np.maximum(np.linalg.norm(features64, axis=1, keepdims=True), _SMALLEST_DISTANCE))


def pixel_vectors(images: UInt8[np.ndarray, "n height width channels"]) -> Float[np.ndarray, "n dim"]:
    """Flattens pictures so that distances are root mean square differences of pixels in 0..1."""
    vectors = images.reshape(len(images), -1).astype(np.float64) / 255.0
    return np.asarray(vectors / np.sqrt(vectors.shape[1]))


def check_memorisation(
    *,
    sample_features: Float[np.ndarray, "n dim"],
    train_features: Float[np.ndarray, "t dim"],
    holdout_features: Float[np.ndarray, "h dim"],
    sample_images: UInt8[np.ndarray, "n height width channels"],
    train_images: UInt8[np.ndarray, "t height width channels"],
    holdout_images: UInt8[np.ndarray, "h height width channels"],
) -> MemorisationResult:
    """Looks for each sample's nearest training and holdout picture, by features and by pixels.

    Distances are taken block by block, so memory does not grow with the product of the sets.

    Raises:
        BadDataError: There are too few pictures to compare with, they differ in size, there is not one feature vector a
            picture, or a feature is not finite.
    """
    features = (sample_features, train_features, holdout_features)
    images = (sample_images, train_images, holdout_images)
    if len(train_images) < 1 or len(holdout_images) < MIN_HOLDOUT or len(sample_images) < 1:
        counts = f"{len(sample_images)} samples, {len(train_images)} training and {len(holdout_images)} holdout pictures"
        raise BadDataError(f"the memorisation check needs at least 1, 1 and {MIN_HOLDOUT}, not {counts}")
    if len({pictures.shape[1:] for pictures in images}) > 1:
        sizes = ", ".join(str(list(pictures.shape[1:])) for pictures in images)
        raise BadDataError(f"samples, training and holdout pictures must be of one size, not {sizes}")
    if any(len(found) != len(pictures) for found, pictures in zip(features, images, strict=True)):
        raise BadDataError("the memorisation check needs one feature vector a picture")
    if not all(np.isfinite(found).all() for found in features):
        raise BadDataError("the memorisation check is undefined: a feature is not a finite number")
    return MemorisationResult(features=_check_space(*features, unit_features), pixels=_check_space(*images, pixel_vectors))


def find_neighbours(
    queries: np.ndarray,
    train: np.ndarray,
    holdout: np.ndarray,
    *,
    vectors: Callable[[np.ndarray], np.ndarray],
    are_holdout: bool = False,
) -> Neighbours:
    """Finds the nearest training and holdout picture of each query.

    Args:
        queries: Pictures or features to look from.
        train: Those of the training set.
        holdout: Those of the holdout.
        vectors: Turns a block of them into vectors of the space.
        are_holdout: Whether the queries are the holdout, and none is its own neighbour.
    """
    train_index, train_distance = nearest(queries, train, vectors=vectors)
    holdout_index, holdout_distance = nearest(queries, holdout, vectors=vectors, exclude_self=are_holdout)
    return Neighbours(
        train_index=train_index,
        train_distance=train_distance,
        holdout_index=holdout_index,
        holdout_distance=holdout_distance,
    )


def _check_space(
    samples: np.ndarray, train: np.ndarray, holdout: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray]
) -> SpaceResult:
    real = find_neighbours(holdout, train, holdout, vectors=vectors, are_holdout=True)
    found = find_neighbours(samples, train, holdout, vectors=vectors)
    thresholds = Thresholds.of_holdout(real)
    return SpaceResult(
        samples=found,
        real=real,
        distance_threshold=thresholds.distance,
        ratio_threshold=thresholds.ratio,
        flagged=thresholds.accuse(found),
        flagged_real=thresholds.accuse(real),
    )
