"""Holds samples against the training items of their model before they are written, so that no near-copy is kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from components.generate_media.config import MemorisationMode
from components.ports import Ports
from model_core.device import DeviceName, select_device
from model_core.evaluation.index_file import INDEX_NAME

if TYPE_CHECKING:
    from model_core.evaluation.training_index import Comparison

FILE_NAME: Final = "memorisation.json"
State = Literal["checked", "unchecked", "off"]
NO_EVALUATION: Final = "the evaluation that the package names is not in this home"
NO_INDEX: Final = "the evaluation that the package names has no index of training items"
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


def check_samples(
    samples: np.ndarray, evaluation: Path | None, mode: MemorisationMode, *, device: DeviceName, ports: Ports
) -> NearCopies:
    """Checks samples.

    Args:
        samples: The samples, uint8 [n frames height width 3].
        evaluation: The evaluation of the model, verified by who gives it; None where there is none.
        mode: What is to be done with near-copies.
        device: Where features are taken.
        ports: Cache for the extractor's weights, progress.

    Raises:
        BadModelError: The index is of samples of another kind, or was made with another feature extractor.
    """

    def without(state: State, reason: str = "") -> NearCopies:
        return NearCopies(mode=mode, state=state, reason=reason, found={})

    if mode == "off":
        return without("off")
    if evaluation is None:
        return without("unchecked", NO_EVALUATION)
    from components.evaluate.looks import looked_at
    from model_core.errors import BadModelError
    from model_core.evaluation import training_index
    from model_core.evaluation.features import open_extractor

    path = evaluation / INDEX_NAME
    if not path.is_file():
        return without("unchecked", NO_INDEX)
    index = training_index.TrainingIndex.load(path)
    ports.progress.update(0, 1, "looking for near-copies of training items")
    try:
        extractor = open_extractor((ports.cache or ports.scratch) / "weights", input_size=index.input_size)
    except ImportError:
        return without("unchecked", NO_EXTRACTOR)
    if extractor.digest != index.extractor:
        raise BadModelError(
            "the index of training items was made with another feature extractor", hint="run the training pipeline again"
        )
    frames = looked_at(samples)
    features = extractor.to(select_device(device)).extract(frames)
    frames = frames.reshape(len(samples), -1, *frames.shape[1:])
    items = training_index.Items.of(frames, features.reshape(len(samples), -1, features.shape[-1]).mean(axis=1))
    compared = index.compare(items)
    ports.progress.update(1, 1, "looked for near-copies of training items")
    return NearCopies(
        mode=mode,
        state="checked",
        found={number: one for number, one in enumerate(compared) if one.is_near_copy},
        num_compared=len(index.train),
        num_in_training=index.num_in_training,
    )
