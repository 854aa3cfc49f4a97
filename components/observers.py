"""What happens around a step besides its record: tracking, metrics, progress. Each observer knows one of them."""

import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from components.cluster_training import is_clusters
from components.ports import StepReport
from components.step_context import StepContext
from infra.gpu_usage import GpuSampler, usage_path
from infra.progress import ProgressFile
from infra.runs import PIPELINE_RUNNERS
from infra.tables import runs

if TYPE_CHECKING:
    from infra.mlflow_registry import MlflowRegistry
    from infra.mlflow_tracking import MlflowTracking

_PARENT_TIMEOUT_S = 60.0


class TrackingObserver:
    """Logs the step as a child run in MLflow; MLflow is imported beside the step's own work."""

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def start(self) -> None:
        """Begins to import MLflow, beside whatever else is going on."""
        self.port.start()

    @cached_property
    def port(self) -> "MlflowTracking":
        """The tracking port."""
        from infra.mlflow_tracking import MlflowTracking

        context = self._context
        settings = context.home.settings
        tracking = MlflowTracking(
            settings.mlflow_tracking_uri,
            settings.artifact_root,
            f"groundswell-{context.pipeline}",
            context.step,
            lambda: _parent_run(context),
            {
                "groundswell.run_id": context.run_id,
                "groundswell.step": context.step,
                "groundswell.fingerprint": context.fingerprint,
            },
        )
        tracking.log_inputs({name: reference.subject for name, reference in context.inputs.items()})
        tracking.log_params(context.config.model_dump(mode="json"))
        return tracking

    def registry(self) -> "MlflowRegistry":
        """Returns the registry port."""
        from infra.mlflow_registry import MlflowRegistry

        context = self._context
        return MlflowRegistry(
            context.home.database,
            context.home.settings.mlflow_tracking_uri,
            context.home.settings.artifact_root,
            context.home.package_signing_key,
            context.actor,
            context.run_id,
            self.port.run_id,
        )

    def ended(self, report: StepReport) -> None:
        """Logs what the step reports."""
        self.port.log_metrics(report.metrics)
        for output, names in report.artifacts.items():
            for name in names:
                self.port.log_artifact(self._context.work.partial_output(output) / name)

    def finish(self, status: str) -> str | None:
        """Ends the run in MLflow and returns its id.

        Args:
            status: ``FINISHED``, ``FAILED`` or ``KILLED``.
        """
        return self.port.finish(status)


class MetricsObserver:
    """Prometheus metrics of the step, as a text file that a node exporter collects."""

    def __init__(self, context: StepContext) -> None:
        from prometheus_client import CollectorRegistry

        self._labels = {"pipeline": context.pipeline, "step": context.spec.name}
        self._path = context.home.metrics / f"{context.pipeline}-{context.spec.name}.prom"
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Any] = {}

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Sets a gauge."""
        from prometheus_client import Gauge

        names = [*self._labels, *sorted(labels)]
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"groundswell_{name}", name.replace("_", " "), names, registry=self._registry)
        self._gauges[name].labels(**self._labels, **labels).set(value)

    def ended(self, status: str, *, work_s: float, values: Mapping[str, float] | None = None) -> None:
        """Writes the file."""
        from prometheus_client import write_to_textfile

        for known in ("completed", "reused", "failed", "interrupted"):
            self.gauge("step_status", float(status == known), status=known)
        self.gauge("step_work_seconds", work_s)
        self.gauge("step_ended_timestamp_seconds", time.time())
        for name, value in (values or {}).items():
            self.gauge("step_metric", value, metric=name)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(self._path), self._registry)


class ProgressObserver:
    """The progress file of the step, and beside it how busy the machine's GPUs are, unless the work is other machines'."""

    def __init__(self, context: StepContext) -> None:
        path = context.progress_path
        self.port = ProgressFile(path)
        self._gpus = None if is_clusters(context) else GpuSampler(usage_path(path))

    def ended(self, status: str, summary: str) -> None:
        """Writes the final state."""
        if self._gpus is not None:
            self._gpus.stop()
        self.port.end(status, summary)


def _parent_run(context: StepContext) -> str | None:
    """Waits, in the background, until whoever runs the pipeline has made its run in MLflow."""
    query = select(runs.c.mlflow_run_id, runs.c.runner).where(runs.c.run_id == context.run_id)
    deadline = time.monotonic() + _PARENT_TIMEOUT_S
    while True:
        with context.home.database.read() as connection:
            row = connection.execute(query).first()
        if row is None or row.mlflow_run_id is not None or row.runner not in PIPELINE_RUNNERS or time.monotonic() > deadline:
            return row.mlflow_run_id if row else None
        time.sleep(0.2)
