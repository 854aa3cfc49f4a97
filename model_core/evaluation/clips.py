"""How clips move: distances of motion, temporal consistency and flicker, batch by batch.

The features of a clip are those of its frames, `f_1 .. f_F`, from the same extractor that judges pictures. Its motion
features are the differences of consecutive ones, `f_{k+1} - f_k`: still clips have none, and frames out of order have large
ones. From them come

- FD-EffNetLite0-motion (`fd_effnet_lite0_motion`): the Fréchet distance (Heusel 2017, arXiv 1706.08500) of motion features to
  those of real clips, in the spirit of FVD (Unterthiner 2018, arXiv 1812.01717) but of other features, and not to be compared
  with it; `frechet_frames` is the same distance of the frames taken as pictures, blind to their order
- KID of motion features (`kid_motion`): unbiased at any number of clips, pairs within one clip left out
- temporal consistency: the mean cosine of consecutive frames' features, 1 for still clips
- pixel flicker: the mean absolute difference of consecutive frames' pixels in 0..1, without warping one onto the other by
  optical flow, so motion counts too: read it beside the figure of real clips; 0 for still clips

Consistency and flicker alone reward stillness. Only the distances tell a model that draws still clips from one that is right.

Shapes: n clips, [n frames height width 3] 8 bits; features [n frames dim].
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8

from model_core.errors import BadDataError
from model_core.evaluation.frechet import FrechetDistance, frechet_of_moments
from model_core.evaluation.intervals import Interval
from model_core.evaluation.kid import kernel_inception_distance
from model_core.evaluation.moments import Moments

_SMALLEST_LENGTH = 1e-12


@dataclass(frozen=True, kw_only=True)
class ClipStatistics:
    """What is kept of a set of clips; its size does not grow with the clips.

    Attributes:
        num_clips: How many clips.
        frames: Moments of the frames' features.
        motion: Moments of the motion features.
        consistency: Sum of the clips' temporal consistency.
        flicker: Sum of the clips' pixel flicker.
    """

    num_clips: int
    frames: Moments
    motion: Moments
    consistency: float
    flicker: float

    @classmethod
    def of(
        cls, features: Float[np.ndarray, "n frames dim"], clips: UInt8[np.ndarray, "n frames height width 3"]
    ) -> "ClipStatistics":
        """Returns the statistics of one batch.

        Raises:
            BadDataError: The batch is empty, clips have one frame, features do not fit them or are not finite.
        """
        _check_clips(clips)
        if features.ndim != 3 or features.shape[:2] != clips.shape[:2]:
            raise BadDataError(f"features {list(features.shape)} are not one vector for each frame of {list(clips.shape)}")
        return cls(
            num_clips=len(clips),
            frames=Moments.of(rearrange(features, "n frames dim -> (n frames) dim")),
            motion=Moments.of(rearrange(motion_features(features), "n steps dim -> (n steps) dim")),
            consistency=float(temporal_consistency(features).sum()),
            flicker=float(pixel_flicker(clips).sum()),
        )

    def merge(self, other: "ClipStatistics") -> "ClipStatistics":
        """Returns the statistics of both sets together."""
        return ClipStatistics(
            num_clips=self.num_clips + other.num_clips,
            frames=self.frames.merge(other.frames),
            motion=self.motion.merge(other.motion),
            consistency=self.consistency + other.consistency,
            flicker=self.flicker + other.flicker,
        )

    @property
    def temporal_consistency(self) -> float:
        """Mean temporal consistency of the clips."""
        return self.consistency / self.num_clips

    @property
    def pixel_flicker(self) -> float:
        """Mean pixel flicker of the clips."""
        return self.flicker / self.num_clips


@dataclass(frozen=True, kw_only=True)
class ClipResult:
    """What sampled clips are like beside real ones.

    Attributes:
        frechet_frames: Fréchet distance of the frames, whatever their order.
        frechet_motion: FD-EffNetLite0-motion.
        temporal_consistency: Of the samples.
        temporal_consistency_real: Of real clips: neither more nor less is better.
        pixel_flicker: Of the samples.
        pixel_flicker_real: Of real clips.
    """

    frechet_frames: FrechetDistance
    frechet_motion: FrechetDistance
    temporal_consistency: float
    temporal_consistency_real: float
    pixel_flicker: float
    pixel_flicker_real: float

    def metrics(self) -> dict[str, float]:
        """Returns the figures by name, flat, rounded to six significant digits."""
        found = {
            "fd_effnet_lite0_frames": self.frechet_frames.value,
            "fd_effnet_lite0_motion": self.frechet_motion.value,
            "temporal_consistency": self.temporal_consistency,
            "temporal_consistency_real": self.temporal_consistency_real,
            "pixel_flicker": self.pixel_flicker,
            "pixel_flicker_real": self.pixel_flicker_real,
        }
        return {name: float(f"{value:.6g}") for name, value in found.items()}


def clip_features(
    extract: Callable[[UInt8[np.ndarray, "n height width 3"]], Float[np.ndarray, "n dim"]],
    clips: UInt8[np.ndarray, "n frames height width 3"],
) -> Float[np.ndarray, "n frames dim"]:
    """Returns the features of each frame of each clip.

    Args:
        extract: Features of pictures, such as `FeatureExtractor.extract`.
        clips: The clips.

    Raises:
        BadDataError: The batch is empty, or clips have fewer than two frames.
    """
    _check_clips(clips)
    features = extract(rearrange(clips, "n frames h w rgb -> (n frames) h w rgb"))
    return rearrange(features, "(n frames) dim -> n frames dim", n=len(clips))


def motion_features(features: Float[np.ndarray, "n frames dim"]) -> Float[np.ndarray, "n steps dim"]:
    """Returns ``f_{k+1} - f_k``, one fewer than there are frames, in double precision.

    Raises:
        BadDataError: Clips have fewer than two frames.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise BadDataError(f"motion needs features [n frames dim] of two frames or more, not {list(features.shape)}")
    return np.asarray(np.diff(features.astype(np.float64), axis=1))


def temporal_consistency(features: Float[np.ndarray, "n frames dim"]) -> Float[np.ndarray, " n"]:
    """Returns each clip's mean cosine of consecutive frames' features: 1 where nothing changes, at least -1.

    Frames whose features are all zero count as equal to each other and at a right angle to any other.

    Raises:
        BadDataError: Clips have fewer than two frames, or a feature is not finite.
    """
    motion = motion_features(features)
    if not np.isfinite(features).all():
        raise BadDataError("temporal consistency is undefined: a feature is not a finite number")
    features64 = features.astype(np.float64)
    lengths = np.linalg.norm(features64, axis=-1)
    products = (features64[:, 1:] * features64[:, :-1]).sum(axis=-1)
    cosine = products / np.maximum(lengths[:, 1:] * lengths[:, :-1], _SMALLEST_LENGTH)
    cosine = np.where((motion == 0).all(axis=-1), 1.0, np.clip(cosine, -1.0, 1.0))
    return np.asarray(cosine.mean(axis=1))


def pixel_flicker(clips: UInt8[np.ndarray, "n frames height width 3"]) -> Float[np.ndarray, " n"]:
    """Returns each clip's mean absolute difference of consecutive frames, in 0..1; frame by frame, to spare memory.

    Raises:
        BadDataError: The batch is empty, or clips have fewer than two frames.
    """
    _check_clips(clips)
    total = np.zeros(len(clips))
    for before, after in zip(range(clips.shape[1] - 1), range(1, clips.shape[1]), strict=True):
        change = np.abs(clips[:, after].astype(np.int16) - clips[:, before].astype(np.int16))
        total += change.reshape(len(clips), -1).mean(axis=1)
    return np.asarray(total / (clips.shape[1] - 1) / 255.0)


def stream_clips(
    batches: Iterable[UInt8[np.ndarray, "_ frames height width 3"]],
    extract: Callable[[UInt8[np.ndarray, "n height width 3"]], Float[np.ndarray, "n dim"]],
) -> ClipStatistics:
    """Returns the statistics of all batches together; each is looked at once and may then be dropped.

    Raises:
        BadDataError: There are no clips, or a batch cannot be used.
    """
    statistics: ClipStatistics | None = None
    for clips in batches:
        found = ClipStatistics.of(clip_features(extract, clips), clips)
        statistics = found if statistics is None else statistics.merge(found)
    if statistics is None:
        raise BadDataError("there are no clips to measure")
    return statistics


def compare_clips(samples: ClipStatistics, real: ClipStatistics) -> ClipResult:
    """Returns how sampled clips differ from real ones.

    Raises:
        BadDataError: The features have different dimensions, or a set has one vector only.
    """
    return ClipResult(
        frechet_frames=frechet_of_moments(samples.frames, real.frames),
        frechet_motion=frechet_of_moments(samples.motion, real.motion),
        temporal_consistency=samples.temporal_consistency,
        temporal_consistency_real=real.temporal_consistency,
        pixel_flicker=samples.pixel_flicker,
        pixel_flicker_real=real.pixel_flicker,
    )


def kid_motion(
    samples: Float[np.ndarray, "n frames dim"], real: Float[np.ndarray, "m frames_real dim"], *, seed: int, num_subsets: int = 200
) -> Interval:
    """Returns the unbiased KID of motion features, with an interval from random halves of the clips.

    Raises:
        BadDataError: There are fewer than four clips on a side, clips have one frame, or a feature is not finite.
    """
    motion = [motion_features(samples), motion_features(real)]
    groups = [np.repeat(np.arange(len(found)), found.shape[1]) for found in motion]
    x, y = (rearrange(found, "n steps dim -> (n steps) dim") for found in motion)
    return kernel_inception_distance(x, y, seed=seed, num_subsets=num_subsets, groups_x=groups[0], groups_y=groups[1])


def _check_clips(clips: np.ndarray) -> None:
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
        raise BadDataError(f"clips must be uint8 [n frames height width 3], not {clips.dtype} {list(clips.shape)}")
    if not clips.size or clips.shape[1] < 2:
        raise BadDataError(f"there must be a clip, and two frames in each, not {list(clips.shape)}")
