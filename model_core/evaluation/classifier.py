"""A small classifier of small pictures: the judge for benchmarks where features of photographs say little (28 or 32 px).

Trained on a dataset's own real pictures it gives two things: the class that it sees (`Classifier.predict`), and the pooled
activations before its last layer (`Classifier.features`), 128 numbers a picture, on which Fréchet distance, KID and
precision/recall may be taken. Such a distance depends on the classifier: figures compare only under one `Classifier.digest`.

Shapes: n pictures, [n height width channels] 8 bits, as in the rest of this room.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int, UInt8
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from model_core.errors import BadDataError, BadModelError, TrainingDivergedError
from model_core.evaluation.features import tensors_digest

CONFIG_NAME, TENSORS_NAME = "config.json", "classifier.safetensors"
FORMAT: Literal["groundswell-classifier/1"] = "groundswell-classifier/1"
FEATURE_DIM = 128
MIN_SIDE = 8

# (channels, stride) of each 3x3 convolution: most weights where the map is small, so that a core trains it in minutes.
_LAYERS = ((16, 1), (48, 2), (96, 2), (FEATURE_DIM, 1), (FEATURE_DIM, 2))
_WARM_UP_SHARE = 0.2
_WEIGHT_DECAY = 0.01
_INFERENCE_BATCH = 250


class ClassifierConfig(BaseModel):
    """What a classifier's `config.json` says.

    Attributes:
        num_classes: Classes told apart.
        channels: Colour channels of its pictures.
        height: Their height in pixels.
        width: Their width in pixels.
        digest: Digest of its tensors.
        format: Format of the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_classes: int = Field(ge=2, le=10_000)
    channels: int = Field(ge=1, le=4)
    height: int = Field(ge=MIN_SIDE, le=64)
    width: int = Field(ge=MIN_SIDE, le=64)
    digest: str = ""
    format: Literal["groundswell-classifier/1"] = FORMAT


class Classifier(nn.Module):
    """Five 3x3 convolutions, a mean over places, a linear layer; batch normalisation: Ioffe & Szegedy 2015, arXiv 1502.03167.

    About 310 thousand weights. A thousand steps (two minutes of one core) on Fashion-MNIST reach 91.5 % of its test pictures.

    Args:
        config: Classes and size of the pictures.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        channels = config.channels
        for width, stride in _LAYERS:
            layers += [nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURE_DIM, config.num_classes)

    @property
    def digest(self) -> str:
        """Digest of all that a feature or a verdict depends on."""
        return hashlib.sha256(f"{FORMAT} {tensors_digest(self.state_dict())}".encode()).hexdigest()

    def pooled(self, pixels: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n 128"]:
        """Maps pixels in -1..1 to features."""
        pooled: Tensor = reduce(self.body(pixels), "n c h w -> n c", "mean")
        return pooled

    def forward(self, pixels: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n classes"]:
        """Maps pixels in -1..1 to class logits."""
        logits: Tensor = self.head(self.pooled(pixels))
        return logits

    def features(self, images: UInt8[np.ndarray, "n height width channels"]) -> Float[np.ndarray, "n 128"]:
        """Returns the pooled activations of pictures, float32.

        Raises:
            BadDataError: The pictures are not 8-bit, or of another size than those it was trained on.
        """
        return self._in_batches(images, self.pooled, FEATURE_DIM)

    def predict(self, images: UInt8[np.ndarray, "n height width channels"]) -> Int[np.ndarray, " n"]:
        """Returns the most probable class of each picture.

        Raises:
            BadDataError: The pictures are not 8-bit, or of another size than those it was trained on.
        """
        return np.asarray(self._in_batches(images, self, self.config.num_classes).argmax(axis=1), dtype=np.int64)

    @torch.inference_mode()
    def _in_batches(self, images: np.ndarray, function: Callable[[Tensor], Tensor], dim: int) -> Float[np.ndarray, "n dim"]:
        size = (self.config.height, self.config.width, self.config.channels)
        _check_pictures(images, size)
        batches = [
            function(_pixels(images[start : start + _INFERENCE_BATCH])).numpy()
            for start in range(0, len(images), _INFERENCE_BATCH)
        ]
        return np.concatenate(batches) if batches else np.zeros((0, dim), np.float32)


def train_classifier(
    images: UInt8[np.ndarray, "n height width channels"],
    labels: Int[np.ndarray, " n"],
    *,
    num_classes: int,
    seed: int,
    num_steps: int = 1000,
    batch_size: int = 128,
    learning_rate: float = 4e-3,
    on_step: Callable[[int, float], None] | None = None,
) -> Classifier:
    """Trains a classifier on real pictures; the same input gives the same weights on one machine with one number of threads.

    AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101) on the cross-entropy, the learning rate rising linearly and then falling
    along a cosine to 0; batches run through shuffled passes over the pictures.

    Args:
        images: Pictures.
        labels: The class of each, 0 to `num_classes` - 1.
        num_classes: Classes to tell apart.
        seed: Seed of weights and order.
        num_steps: Batches to learn from.
        batch_size: Pictures a batch (at most all there are).
        learning_rate: Highest learning rate.
        on_step: Called after each step with its number, from 1, and its loss.

    Raises:
        BadDataError: There are no pictures, they are no 8-bit pictures, or the labels do not fit them.
        TrainingDivergedError: The loss is no longer finite.
    """
    _check_training(images, labels, num_classes, num_steps, batch_size)
    generator = torch.Generator().manual_seed(seed)
    height, width, channels = images.shape[1:]
    classifier = Classifier(ClassifierConfig(num_classes=num_classes, channels=channels, height=height, width=width))
    _initialise(classifier, generator)
    classifier.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=learning_rate, weight_decay=_WEIGHT_DECAY)
    batches = _Batches(len(images), min(batch_size, len(images)), generator)
    targets = torch.from_numpy(labels.astype(np.int64))
    for step in range(num_steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * _one_cycle((step + 1) / num_steps)
        chosen = batches.next()
        loss = functional.cross_entropy(classifier(_pixels(images[chosen.numpy()])), targets[chosen])
        if not torch.isfinite(loss):
            raise TrainingDivergedError(f"the classifier's loss is {loss.item()} at step {step + 1}", hint="lower learning_rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if on_step:
            on_step(step + 1, float(loss.item()))
    classifier.eval().requires_grad_(requires_grad=False)
    classifier.config = classifier.config.model_copy(update={"digest": classifier.digest})
    return classifier


def accuracy(predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Returns the share of predictions that are right.

    Raises:
        BadDataError: There are none, or not one for each label.
    """
    if predicted.shape != labels.shape or not len(labels):
        raise BadDataError(f"accuracy needs a prediction for each label, not {predicted.shape} for {labels.shape}")
    return float((predicted == labels).mean())


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Writes `config.json` and `classifier.safetensors` into a folder, made if missing; the same weights give the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in sorted(classifier.state_dict().items())}
    config = classifier.config.model_copy(update={"digest": classifier.digest})
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True, indent=2) + "\n"
    _write(folder / TENSORS_NAME, lambda path: save_file(tensors, path))
    _write(folder / CONFIG_NAME, lambda path: path.write_text(text, encoding="utf-8"))


def load_classifier(folder: Path) -> Classifier:
    """Reads a classifier; what it says is bit for bit what it said when it was saved.

    Raises:
        BadModelError: A file is missing or unreadable, or the tensors are not those that the configuration names.
    """
    hint = "train the classifier again"
    try:
        config = ClassifierConfig.model_validate(json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8")))
        tensors = load_file(folder / TENSORS_NAME)
    except (OSError, ValueError, ValidationError, SafetensorError, RecursionError) as error:
        problem = " ".join(str(error).split())[:200]
        raise BadModelError(f"{folder} holds no classifier that can be read: {problem}", hint=hint) from error
    classifier = Classifier(config)
    try:
        classifier.load_state_dict(tensors)
    except RuntimeError as error:
        raise BadModelError(f"{folder / TENSORS_NAME} does not fit its configuration", hint=hint) from error
    if classifier.digest != config.digest:
        raise BadModelError(f"{folder / TENSORS_NAME} is not what {CONFIG_NAME} says: its digest differs", hint=hint)
    classifier.eval().requires_grad_(requires_grad=False)
    classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return classifier


class _Batches:
    """Indices of batches, through one shuffled pass after another; a pass's incomplete rest is left out."""

    def __init__(self, size: int, batch_size: int, generator: torch.Generator) -> None:
        self._size, self._batch_size, self._generator = size, batch_size, generator
        self._order, self._position = torch.empty(0, dtype=torch.int64), 0

    def next(self) -> Int[Tensor, " batch"]:
        if self._position + self._batch_size > len(self._order):
            self._order, self._position = torch.randperm(self._size, generator=self._generator), 0
        chosen = self._order[self._position : self._position + self._batch_size]
        self._position += self._batch_size
        return chosen


def _initialise(classifier: Classifier, generator: torch.Generator) -> None:
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01, generator=generator)
            nn.init.zeros_(module.bias)


def _one_cycle(share: float) -> float:
    if share < _WARM_UP_SHARE:
        return share / _WARM_UP_SHARE
    return float(0.5 * (1 + np.cos(np.pi * (share - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE))))


def _pixels(images: np.ndarray) -> Float[Tensor, "n channels height width"]:
    pixels = torch.from_numpy(images.astype(np.float32)) / 127.5 - 1
    return rearrange(pixels, "n h w c -> n c h w")


def _check_pictures(images: np.ndarray, size: tuple[int, ...] | None = None) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or (size is not None and images.shape[1:] != size):
        wanted = " ".join(map(str, size)) if size else "height width channels"
        raise BadDataError(f"pictures must be uint8 [n {wanted}], not {images.dtype} {list(images.shape)}")


def _check_training(images: np.ndarray, labels: np.ndarray, num_classes: int, num_steps: int, batch_size: int) -> None:
    _check_pictures(images)
    height, width, channels = images.shape[1:]
    if num_classes < 2 or num_steps < 1 or batch_size < 2:
        raise BadDataError(
            f"training needs two classes, one step and batches of two at least, not {num_classes}, {num_steps} and {batch_size}"
        )
    if not (min(height, width) >= MIN_SIDE and max(height, width) <= 64 and 1 <= channels <= 4):
        raise BadDataError(f"the classifier is for pictures of {MIN_SIDE} to 64 pixels a side, not {list(images.shape[1:])}")
    if len(images) < 2 or labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise BadDataError(f"the classifier needs two pictures or more and one label each, not {len(images)} and {labels.shape}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise BadDataError(f"labels must be 0 to {num_classes - 1}, not {labels.min()} to {labels.max()}")


def _write(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    write(partial)
    partial.replace(path)
