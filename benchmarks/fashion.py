"""Fashion-MNIST as the benchmarks see it: pictures, and the judge that says how near drawn pictures are to real ones.

The data are the four IDX files of the dataset in one folder, which the caller names; nothing is fetched. (In Debian the package
``dataset-fashion-mnist`` puts them under /usr/share/datasets/fashion-mnist.)

Shapes: n pictures, [n height width 1] bytes.
"""

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from model_core.data.importers.fashion_mnist import LABELS, read_idx
from model_core.errors import BadDataError
from model_core.evaluation.classifier import Classifier
from model_core.evaluation.frechet import frechet_distance

SplitName = Literal["train", "t10k"]
CLASSIFIER = Path(__file__).parent / "classifiers" / "fashion-mnist"
_FILES_HINT = "give --data the folder with Fashion-MNIST's four IDX files (Debian: the package dataset-fashion-mnist)"


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures with their labels.

    Attributes:
        images: Grey pictures.
        labels: Places in `LABELS`.
    """

    images: UInt8[np.ndarray, "n height width 1"]
    labels: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.images)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the shape and bytes of pictures and labels."""
        found = hashlib.sha256(str(self.images.shape).encode())
        found.update(self.images.tobytes())
        found.update(self.labels.tobytes())
        return found.hexdigest()

    def rows(self, rows: "slice | Int[np.ndarray, ' m']") -> "Pictures":
        """Returns chosen pictures with their labels."""
        return Pictures(images=self.images[rows], labels=self.labels[rows])


def read_pictures(folder: Path, split: SplitName) -> Pictures:
    """Reads a split of the dataset.

    Raises:
        BadDataError: The folder or a file is missing or damaged, or labels and pictures do not belong together.
    """
    if not folder.is_dir():
        raise BadDataError(f"{folder} is no folder", hint=_FILES_HINT)
    images = read_idx(_file(folder, f"{split}-images-idx3-ubyte"), num_dimensions=3)
    labels = read_idx(_file(folder, f"{split}-labels-idx1-ubyte"), num_dimensions=1)
    if len(images) != len(labels) or int(labels.max()) >= len(LABELS):
        raise BadDataError(f"{folder}: pictures and labels of {split!r} do not belong together", hint=_FILES_HINT)
    return Pictures(images=images[..., None].copy(), labels=labels.astype(np.int64))


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise BadDataError(f"{folder} lacks {name} or {name}.gz", hint=_FILES_HINT)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How a set of pictures with known labels was judged.

    Attributes:
        distance: Fréchet distance of its features to the reference pictures' features; it compares under one classifier only.
        accuracy: Share of pictures in which the classifier sees the label that was asked for.
        num_pictures: How many were judged.
    """

    distance: float
    accuracy: float
    num_pictures: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)


class Judge:
    """Judges pictures by one classifier against real pictures that neither it nor a model has seen.

    The reference is a random half of the test split, always the same. The rest of that split gives the real-data floor, with as
    many pictures as are judged, since the distance of finite sets is biased upwards.

    Args:
        classifier: Trained on the train split.
        test: The test split.
    """

    def __init__(self, classifier: Classifier, test: Pictures) -> None:
        config = classifier.config
        if test.images.shape[1:] != (config.height, config.width, config.channels) or config.num_classes != len(LABELS):
            raise BadDataError(
                f"the classifier is for {config.num_classes} classes of {config.height}x{config.width} pictures, "
                f"the data are {len(LABELS)} classes of {test.images.shape[1]}x{test.images.shape[2]}",
                hint="train one on these data with python -m benchmarks.fashion_classifier",
            )
        self.classifier = classifier
        order = np.random.default_rng(0).permutation(len(test))
        self.reference, self.held_out = test.rows(order[: len(test) // 2]), test.rows(order[len(test) // 2 :])
        self._mean, self._covariance = _moments(classifier.features(self.reference.images))

    def judge(self, pictures: Pictures) -> Judgement:
        """Returns distance and accuracy.

        Raises:
            BadDataError: There are fewer than two pictures.
        """
        if len(pictures) < 2:
            raise BadDataError(f"{len(pictures)} pictures are too few to judge", hint="raise --samples; 2000 is usual")
        mean, covariance = _moments(self.classifier.features(pictures.images))
        distance = frechet_distance(mean, covariance, self._mean, self._covariance)
        accuracy = float((self.classifier.predict(pictures.images) == pictures.labels).mean())
        return Judgement(distance=distance, accuracy=accuracy, num_pictures=len(pictures))

    def bounds(self, num_pictures: int, *, train: Pictures, seed: int = 0) -> dict[str, Any]:
        """Returns what stands beside every figure: real held-out pictures, real training pictures, and noise."""
        generator = np.random.default_rng(seed)
        shape = (num_pictures, *self.reference.images.shape[1:])
        normal = np.clip((generator.standard_normal(shape) + 1) * 127.5, 0, 255).round().astype(np.uint8)
        noise = Pictures(images=normal, labels=requested_labels(num_pictures))
        return {
            "real": self.judge(self.held_out.rows(slice(num_pictures))).to_dict(),
            "train": self.judge(train.rows(slice(num_pictures))).to_dict(),
            "noise": self.judge(noise).to_dict(),
        }


def requested_labels(count: int) -> Int[np.ndarray, " n"]:
    """Returns the labels that are asked for: all classes in turn."""
    return np.arange(count, dtype=np.int64) % len(LABELS)


def _moments(features: Float[np.ndarray, "n dim"]) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, "dim dim"]]:
    doubled = features.astype(np.float64)
    return doubled.mean(axis=0), np.cov(doubled, rowvar=False)
