"""What the tests of train_codec and encode_latents share: ports that keep what they are told, and a validated toy dataset."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.ports import Ports
from components.train_codec.config import Config
from governance.digest import tree_digest
from tests.model_core.data.toy import toy_dataset

SMALL = Config(
    latent_channels=4,
    encoder_widths=(4, 8, 8),
    encoder_blocks=(0, 0, 1),
    decoder_widths=(4, 8, 8),
    decoder_blocks=(0, 0, 1),
    num_steps=4,
    batch_size=2,
    crop_size=8,
    checkpoint_every=2,
)


@dataclass
class Recorder:
    """Tracking, progress and metrics that remember; progress can stop the step, as a signal would."""

    stop_at: int | None = None
    updates: list[tuple[int, int, str]] = field(default_factory=list)
    metrics: list[tuple[int | None, dict[str, float]]] = field(default_factory=list)

    def log_params(self, params: Mapping[str, Any]) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        self.metrics.append((step, dict(metrics)))

    def log_artifact(self, path: Path, *, folder: str = "") -> None:
        pass

    def update(self, completed: int, total: int, description: str = "", **fields: float | str) -> None:
        self.updates.append((completed, total, description))
        if self.stop_at is not None and len(self.updates) >= self.stop_at:
            raise KeyboardInterrupt

    def gauge(self, name: str, value: float, **labels: str) -> None:
        pass


def ports(scratch: Path, recorder: Recorder) -> Ports:
    scratch.mkdir(parents=True, exist_ok=True)
    return Ports(tracking=recorder, progress=recorder, metrics=recorder, scratch=scratch)


def validated_dataset(folder: Path, *, num_items: int = 12) -> dict[str, Path]:
    """Builds a toy dataset and the report that it passed validation."""
    dataset = toy_dataset(folder, num_items=num_items).folder
    validation = folder / "validation"
    validation.mkdir()
    report = {"success": True, "dataset_digest": tree_digest(dataset)}
    (validation / "report.json").write_text(json.dumps(report))
    return {"dataset": dataset, "validation": validation}


def empty(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
