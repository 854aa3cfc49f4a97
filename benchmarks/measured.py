"""What the benchmarks wrote to ``benchmarks/results``, for the report on all of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.command import read_json
from model_core.errors import BadDataError

RESULTS = Path(__file__).parent / "results"
FILES = {
    "speed": "transformer-speed.json",
    "quality": "quality-time.json",
    "ablation": "ablation.json",
    "samplers": "samplers.json",
}
REFERENCE_RECIPE = "original"
CONTENDERS = {
    "reference": REFERENCE_RECIPE,
    "diffusers": "",
    "ours": "ours",
    "ours-modern": "ours-modern",
    "ours-modern-shared": "",
}
"""Contenders of the measurement of speed, and the recipe that stands for each in that of quality, if one does."""
_BASE_ARM = "base"

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Results:
    """What the benchmarks wrote, None where one did not.

    Attributes:
        speed: Of `benchmarks.transformer_speed`.
        quality: Of `benchmarks.quality_time`.
        ablation: Of `benchmarks.ablation`.
        samplers: Of `benchmarks.samplers`.
    """

    speed: Document | None = None
    quality: Document | None = None
    ablation: Document | None = None
    samplers: Document | None = None

    @property
    def missing(self) -> list[str]:
        """The files that were not there."""
        return [file for name, file in FILES.items() if getattr(self, name) is None]


def read_results(folder: Path) -> Results:
    """Reads the files that are there.

    Raises:
        BadDataError: None is there, or one is damaged.
    """
    found = {name: read_json(folder / file) for name, file in FILES.items() if (folder / file).is_file()}
    if not found:
        raise BadDataError(f"{folder} holds no results", hint="measure something first: benchmarks/README.md says how")
    return Results(**found)


def machine_line(document: Document) -> str:
    """Returns which machine a document's figures are of."""
    machine = document["machine"]
    accelerator = f", {machine['accelerator']}" if machine.get("accelerator") else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads{accelerator}, torch {machine['torch']}"
    )


def entries_of(document: Document | None, name: str) -> list[Document]:
    """Returns a recipe's runs of its largest budget, one a seed."""
    entries = [entry for entry in (document or {}).get("entries", []) if entry["name"] == name and entry["points"]]
    longest = max(entries, key=lambda entry: int(entry["points"][-1]["step"]), default=None)
    return [entry for entry in entries if longest is not None and entry["budget"] == longest["budget"]]


def target_distance(results: Results, asked: float | None) -> float | None:
    """Returns the distance that counts as good enough: the one asked for, or what the paper's recipe reached at its end."""
    ends = [entry["points"][-1]["distance"] for entry in entries_of(results.quality, REFERENCE_RECIPE)]
    return asked if asked is not None else (mean(ends) if ends else None)


def differences(results: Results) -> dict[str, float]:
    """Returns each ablation arm's mean distance less that of the base, in the order of the file."""
    by_name: dict[str, list[float]] = {}
    for entry in (results.ablation or {}).get("entries", []):
        by_name.setdefault(entry["name"], []).append(entry["points"][-1]["distance"])
    base = mean(by_name[_BASE_ARM]) if _BASE_ARM in by_name else None
    return {} if base is None else {name: mean(found) - base for name, found in by_name.items() if name != _BASE_ARM}
