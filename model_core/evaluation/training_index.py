"""What a model's training items look like, small enough to be at hand wherever the model is used.

Each sample that is to be handed out is held against it, by the rule of the memorisation check (`memorisation`) with no honest
picture tolerated: a sample is a near-copy where its distance to the nearest training item, and that distance over the one to the
nearest holdout item, are below what every holdout item shows. There are two spaces: features, and thumbnails. Features see
through shifts and mirroring, and thumbnails through the noise of an encoder, which features take for texture.

The file is safetensors: features of unit length as float16, thumbnails of 16 x 16 pixels, the SHA-256 of every training item,
and in its header the extractor and the thresholds. Nothing in it depends on time or place.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch.nn import functional

from model_core.errors import BadModelError
from model_core.evaluation.memorisation import (
    MIN_HOLDOUT,
    Neighbours,
    Thresholds,
    find_neighbours,
    pixel_vectors,
    unit_features,
)

FORMAT: Final = "groundswell-training-index/1"
THUMBNAIL_SIZE: Final = 16
Space = Literal["features", "thumbnails"]
_SPACES: Mapping[Space, Callable[[np.ndarray], np.ndarray]] = {"features": unit_features, "thumbnails": pixel_vectors}
_HEADER = "groundswell"
_DIGEST_BYTES = 32
_UNREADABLE = (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class Items:
    """Items as they are compared.

    Attributes:
        features: Their features.
        thumbnails: A thumbnail of each frame that is looked at.
    """

    features: np.ndarray  # [n dim]
    thumbnails: UInt8[np.ndarray, "n looks 16 16 3"]

    @classmethod
    def of(cls, frames: UInt8[np.ndarray, "n looks height width 3"], features: np.ndarray) -> "Items":
        """Takes what is compared of items.

        Args:
            frames: The frames that are looked at.
            features: A vector an item, [n dim].
        """
        return cls(features=unit_features(features).astype(np.float16), thumbnails=thumbnails(frames))

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One sample beside the training items.

    Attributes:
        is_near_copy: Whether it is one.
        space: The space that says so, otherwise the one in which it comes nearer to be one.
        nearest_sha256: SHA-256 of the nearest training item there.
        distance: Its distance.
        distance_threshold: What every holdout item is at least away.
        ratio: The distance over that to the nearest holdout item.
        ratio_threshold: What that ratio is at least for every holdout item.
    """

    is_near_copy: bool
    space: Space
    nearest_sha256: str
    distance: float
    distance_threshold: float
    ratio: float
    ratio_threshold: float


@dataclass(frozen=True, kw_only=True)
class TrainingIndex:
    """The index of a model's training items.

    Attributes:
        train: The training items.
        holdout: The items that were held back.
        sha256: SHA-256 of each training item.
        thresholds: By space.
        extractor: Digest of the feature extractor.
        input_size: The extractor's input size in pixels.
        num_in_training: How many items the model was trained on; more than there are here where there were too many to look at.
    """

    train: Items
    holdout: Items
    sha256: tuple[str, ...]
    thresholds: Mapping[Space, Thresholds]
    extractor: str
    input_size: int
    num_in_training: int

    @classmethod
    def build(
        cls,
        train: Items,
        holdout: Items,
        *,
        sha256: Sequence[str],
        extractor: str,
        input_size: int,
        num_in_training: int,
    ) -> "TrainingIndex":
        """Makes an index, calibrated on its holdout.

        Raises:
            ValueError: There is not one SHA-256 an item, or too small a holdout.
        """
        if len(sha256) != len(train) or len(holdout) < MIN_HOLDOUT:
            raise ValueError(f"{len(sha256)} digests of {len(train)} training items, and {len(holdout)} holdout items")
        thresholds = {
            space: Thresholds.of_holdout(_look(space, holdout, train, holdout, are_holdout=True), tolerated_share=0.0)
            for space in _SPACES
        }
        return cls(
            train=train,
            holdout=holdout,
            sha256=tuple(sha256),
            thresholds=thresholds,
            extractor=extractor,
            input_size=input_size,
            num_in_training=num_in_training,
        )

    def compare(self, samples: Items) -> list[Comparison]:
        """Holds samples against the training items.

        Raises:
            BadModelError: They have other shapes than the training items, which a model's own samples never have.
        """
        if samples.thumbnails.shape[1:] != self.train.thumbnails.shape[1:]:
            raise BadModelError("samples and training items have different numbers of frames that are looked at")
        found = {space: _look(space, samples, self.train, self.holdout) for space in _SPACES}
        accused = {space: self.thresholds[space].accuse(found[space]) for space in _SPACES}
        return [self._compared(found, accused, index) for index in range(len(samples))]

    def _compared(self, found: Mapping[Space, Neighbours], accused: Mapping[Space, np.ndarray], index: int) -> Comparison:
        def severity(space: Space) -> tuple[bool, float]:
            limits, one = self.thresholds[space], found[space]
            parts = (
                (one.train_distance[index], limits.distance),
                (one.ratio[index], limits.ratio),
            )
            return not accused[space][index], max(value / limit if limit > 0 else np.inf for value, limit in parts)

        space = min(_SPACES, key=severity)
        neighbours, limits = found[space], self.thresholds[space]
        return Comparison(
            is_near_copy=bool(accused[space][index]),
            space=space,
            nearest_sha256=self.sha256[int(neighbours.train_index[index])],
            distance=float(neighbours.train_distance[index]),
            distance_threshold=limits.distance,
            ratio=float(neighbours.ratio[index]),
            ratio_threshold=limits.ratio,
        )

    def save(self, path: Path) -> None:
        """Writes the index; the same index gives the same bytes."""
        header = {
            "format": FORMAT,
            "extractor": self.extractor,
            "input_size": self.input_size,
            "num_in_training": self.num_in_training,
            "thresholds": {space: asdict(limits) for space, limits in self.thresholds.items()},
        }
        tensors = {
            "train_features": self.train.features,
            "train_thumbnails": self.train.thumbnails,
            "train_sha256": np.frombuffer(bytes.fromhex("".join(self.sha256)), np.uint8).reshape(-1, _DIGEST_BYTES),
            "holdout_features": self.holdout.features,
            "holdout_thumbnails": self.holdout.thumbnails,
        }
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        path.write_bytes(save(contiguous, metadata={_HEADER: json.dumps(header, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> "TrainingIndex":
        """Reads an index, whose digest was verified before.

        Raises:
            BadModelError: The file is no such index.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {})[_HEADER])
                tensors = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            if header["format"] != FORMAT:
                raise ValueError(f"its format is {header['format']!r}")
            return cls(
                train=Items(features=tensors["train_features"], thumbnails=tensors["train_thumbnails"]),
                holdout=Items(features=tensors["holdout_features"], thumbnails=tensors["holdout_thumbnails"]),
                sha256=tuple(bytes(row).hex() for row in tensors["train_sha256"]),
                thresholds={space: Thresholds(**header["thresholds"][space]) for space in _SPACES},
                extractor=str(header["extractor"]),
                input_size=int(header["input_size"]),
                num_in_training=int(header["num_in_training"]),
            )
        except _UNREADABLE as error:
            raise BadModelError(f"{path.name} is no index of training items: {error}", hint="evaluate the model again") from error


def thumbnails(frames: UInt8[np.ndarray, "n looks height width 3"]) -> UInt8[np.ndarray, "n looks 16 16 3"]:
    """Shrinks frames to 16 x 16 pixels, each the mean of what it covers."""
    looks = frames.shape[1]
    pixels = torch.from_numpy(np.ascontiguousarray(rearrange(frames, "n l h w c -> (n l) c h w"))).float()
    small = functional.adaptive_avg_pool2d(pixels, THUMBNAIL_SIZE).round().to(torch.uint8).numpy()
    found: np.ndarray = rearrange(small, "(n l) c h w -> n l h w c", l=looks)
    return np.ascontiguousarray(found)


def _look(space: Space, queries: Items, train: Items, holdout: Items, *, are_holdout: bool = False) -> Neighbours:
    sides = (getattr(side, space) for side in (queries, train, holdout))
    return find_neighbours(*sides, vectors=_SPACES[space], are_holdout=are_holdout)
