"""Holds samples against the training items of their model before they are written, so that no near-copy is kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from components.generate_media.config import MemorisationMode
from components.ports import Ports
from model_core.device import DeviceName, select_device
from model_core.evaluation.index_file import INDEX_NAME

if TYPE_CHECKING:
    from model_core.evaluation.features import FeatureExtractor
    from model_core.evaluation.training_index import Comparison, TrainingIndex

FILE_NAME: Final = "memorisation.json"
State = Literal["checked", "unchecked", "off"]
MIN_HOLDOUT = 30
"""Of so few held-back items the lowest is undercut by one honest sample in thirty, and by more where there are fewer."""
NO_EVALUATION: Final = "the evaluation that the package names is not in this home"
NO_INDEX: Final = "the evaluation that the package names has no index of training items"
TOO_FEW_HELD_BACK: Final = "too few items were held back from training to say how near is too near"
NO_EXTRACTOR: Final = "the feature extractor is not installed"


@dataclass(frozen=True, kw_only=True)
class NearCopies:
    """What the check found.

    Attributes:
        mode: What was to be done with near-copies.
        state: Whether samples were checked.
        reason: Why they were not.
        found: The near-copies, by number of the sample.
        num_compared: How many training items they were held against.
        num_in_training: How many there are.
    """

    mode: MemorisationMode
    state: State
    reason: str = ""
    found: "dict[int, Comparison]"
    num_compared: int = 0
    num_in_training: int = 0

    def kept(self, num_samples: int) -> list[int]:
        """Returns the samples that may be handed out."""
        return [index for index in range(num_samples) if self.mode != "withhold" or index not in self.found]

    def write(self, folder: Path, seeds: Sequence[int]) -> None:
        """Writes what was found, without a pixel of it."""
        near = [{"position": index, "seed": seeds[index], **asdict(one)} for index, one in sorted(self.found.items())]
        values = {name: getattr(self, name) for name in ("mode", "state", "reason", "num_compared", "num_in_training")}
        text = json.dumps({**values, "near_copies": near}, indent=2, sort_keys=True)
        (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")

    def summary(self) -> str:
        """Returns what is worth saying of it in the step's one line; "" where there is nothing."""
        if not self.found:
            return ""
        return f", {len(self.found)} {'withheld' if self.mode == 'withhold' else 'flagged'} as too near a training item"


@dataclass(frozen=True, kw_only=True)
class Checker:
    """Holds samples against a model's training items.

    Attributes:
        mode: What is to be done with near-copies.
        state: Whether samples are checked.
        reason: Why they are not.
        index: The index of training items; None where samples are not checked.
        extractor: Takes features of frames; None where samples are not checked.
    """

    mode: MemorisationMode
    state: State
    reason: str = ""
    index: "TrainingIndex | None" = None
    extractor: "FeatureExtractor | None" = None

    def near_copies(self, samples: np.ndarray) -> "dict[int, Comparison]":
        """Returns which samples, uint8 [n frames height width 3], are near-copies, by their number."""
        if self.index is None or self.extractor is None or not len(samples):
            return {}
        from model_core.evaluation.training_index import Items

        places = np.linspace(0, samples.shape[1] - 1, self.index.train.thumbnails.shape[1]).round().astype(int)
        looked_at = samples[:, places]
        features = self.extractor.extract(looked_at.reshape(-1, *samples.shape[2:])).reshape(len(samples), len(places), -1)
        compared = self.index.compare(Items.of(looked_at, features.mean(axis=1)))
        return {number: one for number, one in enumerate(compared) if one.is_near_copy}

    def result(self, found: "Mapping[int, Comparison]") -> NearCopies:
        """Returns what was found, by number of the sample, as it goes on record."""
        return NearCopies(
            mode=self.mode,
            state=self.state,
            reason=self.reason,
            found=dict(found),
            num_compared=0 if self.index is None else len(self.index.train),
            num_in_training=0 if self.index is None else self.index.num_in_training,
        )


def open_checker(evaluation: Path | None, mode: MemorisationMode, *, device: DeviceName, ports: Ports) -> Checker:
    """Returns what checks samples.

    Args:
        evaluation: The evaluation of the model, verified by who gives it; None where there is none.
        mode: What is to be done with near-copies.
        device: Where features are taken.
        ports: Cache for the extractor's weights.

    Raises:
        BadModelError: The index was made with another feature extractor.
    """
    if mode == "off":
        return Checker(mode=mode, state="off")
    if evaluation is None:
        return Checker(mode=mode, state="unchecked", reason=NO_EVALUATION)
    from model_core.errors import BadModelError
    from model_core.evaluation.features import open_extractor
    from model_core.evaluation.training_index import TrainingIndex

    path = evaluation / INDEX_NAME
    if not path.is_file():
        return Checker(mode=mode, state="unchecked", reason=NO_INDEX)
    index = TrainingIndex.load(path)
    if len(index.holdout) < MIN_HOLDOUT:
        return Checker(mode=mode, state="unchecked", reason=TOO_FEW_HELD_BACK)
    try:
        extractor = open_extractor((ports.cache or ports.scratch) / "weights", input_size=index.input_size)
    except ImportError:
        return Checker(mode=mode, state="unchecked", reason=NO_EXTRACTOR)
    if extractor.digest != index.extractor:
        raise BadModelError(
            "the index of training items was made with another feature extractor", hint="run the training pipeline again"
        )
    return Checker(mode=mode, state="checked", index=index, extractor=extractor.to(select_device(device)))
