"""What an evaluation looks at: pictures as they are, of clips four frames and the way they move."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8

from model_core.data.dataset import Dataset
from model_core.data.media import overview
from model_core.evaluation.clips import pixel_flicker, temporal_consistency
from model_core.evaluation.motion import displacements

Clips = UInt8[np.ndarray, "n frames height width 3"]
Pictures = UInt8[np.ndarray, "n height width 3"]
NUM_LOOKS: Final = 4
_REAL_AT_A_TIME: Final = 64
_WEIGHT_OF_MOTION: Final = 16
"""How often each of the few numbers of motion stands beside thousands of features: a ridge shrinks most what is there once."""


def looked_at(clips: Clips) -> Pictures:
    """Returns the frames that are looked at, one item's after the other's: the only one of a picture, four of a clip."""
    num_frames = clips.shape[1]
    places = np.linspace(0, num_frames - 1, min(NUM_LOOKS, num_frames)).round().astype(int)
    frames: np.ndarray = rearrange(clips[:, places], "n f h w c -> (n f) h w c")
    return frames


def overviews(clips: Clips) -> Pictures:
    """Returns a picture an item: itself, or four frames of a clip in a square."""
    return np.stack([overview(frames) for frames in clips])


@dataclass(frozen=True, kw_only=True)
class Look:
    """A set of items as it is looked at.

    Attributes:
        frames: The frames for the feature extractor, `looked_at`.
        images: A picture an item, `overviews`.
        moved: How far each clip moves from frame to frame, in shares of the side; None of pictures.
        flicker: Mean difference of consecutive frames' pixels, from 0 to 1; 0 of pictures.
    """

    frames: Pictures
    images: Pictures
    moved: Float[np.ndarray, "n steps 2"] | None
    flicker: float

    @classmethod
    def of(cls, clips: Clips) -> "Look":
        """Looks at items; nothing of the clips themselves is kept."""
        is_clips = clips.shape[1] > 1
        return cls(
            frames=looked_at(clips),
            images=overviews(clips),
            moved=displacements(clips) if is_clips else None,
            flicker=float(pixel_flicker(clips).mean()) if is_clips else 0.0,
        )

    @classmethod
    def of_rows(cls, dataset: Dataset, rows: Sequence[int]) -> "Look":
        """Looks at rows of a dataset, a few at a time: clips do not all fit into memory."""
        batches = [rows[start : start + _REAL_AT_A_TIME] for start in range(0, len(rows), _REAL_AT_A_TIME)]
        looks = [cls.of(dataset.clips(batch)) for batch in batches]
        moved = [look.moved for look in looks if look.moved is not None]
        return cls(
            frames=np.concatenate([look.frames for look in looks]),
            images=np.concatenate([look.images for look in looks]),
            moved=np.concatenate(moved) if moved else None,
            flicker=float(np.average([look.flicker for look in looks], weights=[len(batch) for batch in batches])),
        )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is seen of clips.

    Attributes:
        features: Of the frames that were looked at.
        moved: As `Look` has it.
        flicker: As `Look` has it.
        captions: A caption a clip.
        text: Its embedding.
    """

    features: Float[np.ndarray, "n looks dim"]
    moved: Float[np.ndarray, "n steps 2"]
    flicker: float
    captions: Sequence[str]
    text: Float[np.ndarray, "n text"]

    @property
    def consistency(self) -> float:
        """Mean cosine of the features of frames that were looked at one after the other."""
        return float(temporal_consistency(self.features).mean())

    def described(self) -> Float[np.ndarray, "n dim"]:
        """Returns one vector a clip: mean features, how they change from the first to the last frame, and the motion."""
        mean, change = self.features.mean(axis=1), self.features[:, -1] - self.features[:, 0]
        motion = np.concatenate([self.moved.reshape(len(self.moved), -1), self.moved.sum(axis=1)], axis=1)
        return np.concatenate([mean, change, np.repeat(motion, _WEIGHT_OF_MOTION, axis=1)], axis=1)
