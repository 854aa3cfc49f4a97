"""A step as those around it see it: what it is given, and what came of it."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.ports import StepReport
from components.specs import StepSpec
from components.store import ArtifactRef, WorkFolder
from infra.home import Home
from infra.source_digest import lock_digest
from infra.source_revision import source_revision

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """A step about to run: what it is given, and the digest of the work."""

    home: Home
    run_id: str
    pipeline: str
    actor: str
    spec: StepSpec
    config: "BaseModel"
    inputs: Mapping[str, ArtifactRef]
    code_digest: str
    fingerprint: str
    work: WorkFolder
    part: int | None = None

    @property
    def step(self) -> str:
        """What the step is called within its run: its name, and the number of the part where the run does it several times."""
        return self.spec.name if self.part is None else f"{self.spec.name}-{self.part:04d}"

    @property
    def progress_path(self) -> Path:
        """The file that says how far the step has come."""
        return self.home.run_folder(self.run_id) / "progress" / f"{self.step}.json"

    @property
    def subject(self) -> str:
        """The step's name in ledger and lineage."""
        return f"step:{self.run_id}/{self.step}"

    @property
    def environment(self) -> dict[str, str]:
        """Where the step runs, as lineage records it."""
        return {
            "lock_digest": lock_digest(),
            "python": platform.python_version(),
            "platform": f"{sys.platform}-{platform.machine()}",
            "host": platform.node(),
            "accelerator": _accelerator(),
            **({"revision": revision} if (revision := source_revision()) else {}),
            **self._image,
        }

    @property
    def _image(self) -> dict[str, str]:
        name, _, digest = self.home.settings.images.get(self.spec.whole, "").rpartition("@")
        return {"image": name, "image_digest": digest} if digest else {}


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """A step that has run."""

    context: StepContext
    report: StepReport
    outputs: Mapping[str, ArtifactRef]
    work_s: float

    def record(self) -> dict[str, Any]:
        """Returns what the database keeps of it."""
        context = self.context
        return {
            "config": context.config.model_dump(mode="json"),
            "inputs": _references(context.inputs),
            "outputs": _references(self.outputs),
            "metrics": dict(self.report.metrics),
            "facts": dict(self.report.facts),
            "summary": self.report.summary,
            "code_digest": context.code_digest,
            "environment": context.environment,
        }


def _accelerator() -> str:
    """Names what computes; a step that never imported torch used the processor, and torch is not imported to ask."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return f"none (processor: {platform.machine()}, {os.cpu_count()} cores)"


def _references(references: Mapping[str, ArtifactRef]) -> dict[str, dict[str, str]]:
    return {
        name: {"digest": reference.digest, "kind": reference.kind, "location": str(reference.path)}
        for name, reference in references.items()
    }
