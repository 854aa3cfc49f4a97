"""What differs between two model versions, before anybody decides how it looks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from governance.lineage_diff import LineageDiff, diff_document
from governance.lineage_report.model import Picture
from governance.model_records import Figure

FORMAT = "groundswell-model-diff/1"

Verdict = Literal["better", "worse", "undecided", "different"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How a figure of the second model differs from the first's, on the same holdout rows.

    Attributes:
        value: Second - first.
        low: Lower end of its 95 % interval.
        high: Upper end.
        verdict: What the interval says of the second model: ``undecided`` where it holds 0, ``different`` where nobody said
            whether more is better.
    """

    value: float
    low: float
    high: float
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class MetricPair:
    """A metric of both models.

    Attributes:
        name: Which.
        first: The first model's figure; None where it has none.
        second: The second's.
        better: Whether lower or higher is better, where that is known.
        difference: The paired difference; None where the evaluations bear none.
        why_not: Why there is none, where both evaluations hold something of it.
    """

    name: str
    first: Figure | None
    second: Figure | None
    better: Literal["lower", "higher"] | None = None
    difference: Difference | None = None
    why_not: str = ""

    @property
    def change(self) -> float | None:
        """Second - first, where both have a value."""
        return self.second.value - self.first.value if self.first and self.second else None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A named value of both models; None where one has none."""

    name: str
    first: Any
    second: Any

    @property
    def differs(self) -> bool:
        """Whether the values are not the same."""
        return bool(self.first != self.second)


@dataclass(frozen=True, kw_only=True)
class PicturePair:
    """A picture of each model's evaluation under the same name; None where one has none that can be shown."""

    name: str
    first: Picture | None
    second: Picture | None

    @property
    def is_same(self) -> bool:
        """Whether both are the same, byte for byte."""
        return self.first is not None and self.second is not None and self.first.sha256 == self.second.sha256


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two models.

    Attributes:
        name: ``name/version``.
        package: Root digest of its package.
        created: When it was registered.
        aliases: Environments that point at it.
    """

    name: str
    package: str
    created: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelDiff:
    """Two models side by side.

    Attributes:
        sides: The models.
        metrics: Their figures; those that nothing can be compared by come last.
        config: Settings of their packages that differ, dotted.
        inputs: Digests of what they were made from.
        lineage: What differs in how they came to be.
        pictures: Pictures of their evaluations.
        same_holdout: Whether they were judged on the same holdout with the same seed, and so their pictures were drawn for the
            same descriptions with the same seeds.
    """

    sides: tuple[Side, Side]
    metrics: tuple[MetricPair, ...]
    config: tuple[Setting, ...]
    inputs: tuple[Setting, ...]
    lineage: LineageDiff
    pictures: tuple[PicturePair, ...]
    same_holdout: bool

    @property
    def same_package(self) -> bool:
        """Whether both are the same package, byte for byte."""
        return self.sides[0].package == self.sides[1].package


def to_json(diff: ModelDiff) -> dict[str, Any]:
    """Returns the comparison as JSON-serialisable values; pictures by their digests."""
    names = [side.name for side in diff.sides]
    return {
        "format": FORMAT,
        "models": names,
        "packages": [side.package for side in diff.sides],
        "same_package": diff.same_package,
        "metrics": _flat_metrics(diff, names),
        "differences": {
            pair.name: {
                "difference": pair.difference.value,
                "low": pair.difference.low,
                "high": pair.difference.high,
                "verdict": pair.difference.verdict,
            }
            for pair in diff.metrics
            if pair.difference
        },
        "not_comparable": {pair.name: pair.why_not for pair in diff.metrics if pair.why_not},
        "same_holdout": diff.same_holdout,
        "config_differences": {one.name: _by_model(names, one.first, one.second) for one in diff.config},
        "inputs": {one.name: _by_model(names, one.first, one.second) for one in diff.inputs},
        "lineage": diff_document(diff.lineage),
        "pictures": {
            pair.name: _by_model(names, *(one and one.sha256 for one in (pair.first, pair.second))) for pair in diff.pictures
        },
    }


def _flat_metrics(diff: ModelDiff, names: list[str]) -> dict[str, dict[str, float | None]]:
    flat = [_flat(pair.first) for pair in diff.metrics], [_flat(pair.second) for pair in diff.metrics]
    first, second = ({name: value for one in side for name, value in one.items()} for side in flat)
    return {name: _by_model(names, first.get(name), second.get(name)) for name in dict.fromkeys((*first, *second))}


def _flat(figure: Figure | None) -> dict[str, float]:
    if figure is None:
        return {}
    bounds = {f"{figure.name}_low": figure.low, f"{figure.name}_high": figure.high}
    references = {f"{figure.name}_{part}": value for part, value in figure.references.items()}
    return {figure.name: figure.value, **{name: value for name, value in bounds.items() if value is not None}, **references}


def _by_model(names: list[str], first: Any, second: Any) -> dict[str, Any]:
    return {names[0]: first, names[1]: second}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested mappings as one, keys dotted."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
