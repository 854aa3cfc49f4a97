"""The records that a model card and an ML-BOM are written from, and how figures in them read."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from governance.errors import BadRecordError

_LATENT_AXES = 4
_REFERENCES = ("real", "chance", "noise")
_MARKUP = re.compile(r"([\\`*\[\]<>|#!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


@dataclass(frozen=True, kw_only=True)
class ModelRecords:
    """What is on record about one model.

    Attributes:
        name: The model's name.
        config: The package's ``config.json``.
        dataset: ``dataset.json`` of the training data.
        num_items: Items of the dataset by split.
        licences: Items of the dataset by licence (SPDX identifier).
        validation: ``report.json`` of the data validation.
        evaluation: ``report.json`` of the evaluation.
        parameters: How many numbers the weights hold, by file.
        pictures: Paths in the package of the evaluation's pictures.
    """

    name: str
    config: Mapping[str, Any]
    dataset: Mapping[str, Any]
    num_items: Mapping[str, int]
    licences: Mapping[str, int]
    validation: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    parameters: Mapping[str, int]
    pictures: tuple[str, ...] = ()


def bases_of(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns what a model was fine-tuned from, the nearest first; nothing for one that was trained from the beginning.

    Args:
        config: A package's ``config.json``.
    """
    found: list[Mapping[str, Any]] = []
    while isinstance(base := config.get("base"), Mapping):
        found.append(base)
        config = base
    return found


def origin_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns where a model was imported from, None for one that was trained here.

    Args:
        config: A package's ``config.json``.
    """
    origin = config.get("origin")
    return origin if isinstance(origin, Mapping) else None


def licences_behind(config: Mapping[str, Any]) -> dict[str, int] | None:
    """Returns how many items a model, and what it was fine-tuned from, learnt from under each licence; None if it does not say.

    Args:
        config: A package's ``config.json``.
    """
    total: dict[str, int] = {}
    for one in (config, *bases_of(config)):
        licences = one.get("training_data", {}).get("licences")
        if licences is None:
            return None
        for name, count in licences.items():
            total[str(name)] = total.get(str(name), 0) + int(count)
    return total


def samples_of(config: Mapping[str, Any], *, plural: bool = True) -> str:
    """Returns what a model makes, in words: pictures or clips, of which size.

    Args:
        config: The package's ``config.json``.
        plural: Whether to speak of several.
    """
    side, num_frames = config["image_size"], frames_of(config)
    size, ending = f"{side} x {side} pixels", "s" if plural else ""
    if num_frames == 1:
        return f"picture{ending} of {size}"
    pace = f" at {fps:g} a second" if (fps := config.get("fps")) else ""
    return f"clip{ending} of {num_frames} frames{pace}, {size} each"


def frames_of(config: Mapping[str, Any]) -> int:
    """Returns how many frames a model's samples have: 1 for pictures, and where a package does not say.

    Args:
        config: The package's ``config.json``, which names their number where the codec compresses in time.
    """
    shape = list(config.get("latent_shape") or [])
    return int(config.get("num_frames") or (shape[1] if len(shape) == _LATENT_AXES else 1))


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """What a registry answers: a version of a named model."""

    name: str
    version: int
    root_digest: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One evaluated figure.

    Attributes:
        name: The metric's key in the report.
        value: The estimate.
        low: Lower end of its interval, where it has one.
        high: Upper end of its interval, where it has one.
        references: Figures to read it against, such as chance and the real-data ceiling.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    references: Mapping[str, float] = field(default_factory=dict)


def metrics_of(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics of an evaluation report, flat, as it gives them.

    Raises:
        BadRecordError: The report has no metrics, or one of them is no finite number.
    """
    metrics = evaluation.get("metrics")
    if not isinstance(metrics, Mapping) or not metrics:
        raise BadRecordError("evaluation/report.json has no metrics")
    for name, value in metrics.items():
        if not _is_number(value):
            raise BadRecordError(f"evaluation/report.json: metric {name!r} is no finite number: {value!r}")
    return {str(name): float(value) for name, value in sorted(metrics.items())}


def figures(evaluation: Mapping[str, Any]) -> list[Figure]:
    """Returns the figures of an evaluation report, sorted by name.

    In a report ``kid_low`` and ``kid_high`` are the interval of ``kid``, and ``kid_real``, ``kid_noise`` and ``kid_chance`` what
    to compare it with; here they are one figure.

    Raises:
        BadRecordError: The report has no metrics, or one of them is no finite number.
    """
    metrics = metrics_of(evaluation)
    parts = {f"{name}_{part}" for name in metrics for part in ("low", "high", *_REFERENCES)}
    return [
        Figure(
            name=name,
            value=value,
            low=metrics.get(f"{name}_low"),
            high=metrics.get(f"{name}_high"),
            references={part: metrics[f"{name}_{part}"] for part in _REFERENCES if f"{name}_{part}" in metrics},
        )
        for name, value in metrics.items()
        if name not in parts
    ]


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def show_number(value: float) -> str:
    """Returns a figure as people write it: integers with separators, other numbers to four significant digits."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:.4g}"


def plain_markdown(text: object) -> str:
    """Returns text for a Markdown line that shows as written: no markup, no HTML, no line break takes effect."""
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))
