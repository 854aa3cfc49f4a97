"""What a step may ask of the world around it, as small interfaces; `components.runtime` supplies the real ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from governance.model_records import RegisteredModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

__all__ = ["Metrics", "Ports", "Progress", "RegisteredModel", "Registry", "RequestMaker", "StepReport", "Tracking", "Watermarker"]


class Tracking(Protocol):
    """Where parameters, metrics and pictures of a run are logged."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs parameters, keys dotted."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Logs metrics, at a training step where there is one."""

    def log_artifact(self, path: Path, *, folder: str = "") -> None:
        """Logs a copy of a file, or of a folder with all that is in it."""


class Progress(Protocol):
    """Where a step says how far it has come."""

    def update(self, completed: int, total: int, description: str = "", **fields: float | str) -> None:
        """Reports progress; cheap enough to call for every batch.

        Args:
            completed: Units of work done.
            total: Units of work in all.
            description: What is being done, in a few words.
            **fields: Figures to show beside the bar, such as ``loss`` or ``steps_per_s``.
        """


class Metrics(Protocol):
    """Prometheus metrics of a step."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Sets a gauge; the runtime adds the prefix ``groundswell_`` and the labels ``pipeline`` and ``step``."""


class Registry(Protocol):
    """Where model packages are signed and registered."""

    def register(self, package: Path, *, name: str, metrics: Mapping[str, float], inputs: Mapping[str, str]) -> RegisteredModel:
        """Signs a finished package and registers it; a package already registered under this name keeps its version.

        Args:
            package: The folder of the package, complete but for its signature.
            name: The model's name.
            metrics: Evaluation metrics to log with the version.
            inputs: Digests of what it was made from, by name (``dataset``, ``latents``, ``codec``, ...).
        """


class Watermarker(Protocol):
    """What puts the home's invisible mark into the pixels that a model makes; its key stays behind it."""

    def mark(
        self, frames: "npt.NDArray[np.uint8]", watermark_id: str | None = None
    ) -> "tuple[npt.NDArray[np.uint8], str | None]":
        """Returns frames as they are handed out, and the id that is in them in hex; the same frames give the same.

        Args:
            frames: RGB pixels, uint8 [frames height width 3].
            watermark_id: The id of the clip's frames before these, in hex, which these get, too; the frames' own if not given.

        Returns:
            The frames as they are where they are too small to bear a mark; no id where they are too small to bear one.
        """


class RequestMaker(Protocol):
    """What makes the requests of a table as any other request is made: held to the guardrails, on record, signed."""

    def make(self, requests: Path, options: Mapping[str, Any], out: Path, progress: Progress) -> "Sequence[Mapping[str, str]]":
        """Makes them, going on where an earlier attempt with the same folder stopped.

        Args:
            requests: A folder with the table, ``requests.csv``, each row with its seed, and the files that rows are made from.
            options: What holds for rows that do not say otherwise, by the names of the step's configuration.
            out: The folder for the files.
            progress: How far it has come.

        Returns:
            What came of each row, in order, by the columns of the table of results.
        """


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What a step gets beside its configuration, inputs and outputs.

    Attributes:
        tracking: Parameters, metrics, pictures.
        progress: How far the step has come.
        metrics: Prometheus metrics.
        scratch: A folder that survives a killed process and is found again by the next attempt at the same work:
            the place for checkpoints.
        cache: A folder of the step's own that all runs of a home share: the place for what depends on inputs alone and is
            costly to make. What is found there must be verified before use; it may be gone at any time, and there may be none.
        registry: The model registry; present for the step that registers.
        watermarker: Marks pixels; present for the step that generates media.
        maker: Makes requests; present for the step that makes a part of a table.
    """

    tracking: Tracking
    progress: Progress
    metrics: Metrics
    scratch: Path
    cache: Path | None = None
    registry: Registry | None = None
    watermarker: Watermarker | None = None
    maker: RequestMaker | None = None


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step returns.

    Attributes:
        metrics: Figures worth comparing between runs; deterministic for the same work.
        summary: One line for a person.
        facts: JSON-serialisable facts for lineage and the report, such as item counts and licences. An error that a step
            raises may have `facts`, too: what it found out before it failed. `final` is False of work that may come out
            otherwise another time: it is not reused, and its scratch folder stays for the next attempt.
        artifacts: Files or folders to log to MLflow, as paths relative to an output: ``{"validation": ["report.html"]}``.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    summary: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
