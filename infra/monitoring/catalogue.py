"""Every metric by name: the one place that says what there is, from which docs/METRICS.md is written."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True)
class Declared:
    """One metric.

    Attributes:
        name: Its name, a counter's with ``_total``.
        kind: Its type.
        labels: Its labels, in order.
        meaning: One sentence.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names that an expression may use."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


_STEP = ("pipeline", "step")
_RUNNING = ("pipeline", "run", "step")
_SERVED = ("model", "environment", "version")

PLATFORM: tuple[Declared, ...] = (
    Declared("groundswell_info", "gauge", ("version", "schema"), "1; which groundswell answers, and its database's schema."),
    Declared("groundswell_scrape_seconds", "gauge", (), "Seconds that it took to compute these metrics."),
    Declared("groundswell_runs", "gauge", ("pipeline", "state"), "Runs on record."),
    Declared("groundswell_run_duration_seconds", "histogram", ("pipeline",), "How long completed runs took, from start to end."),
    Declared(
        "groundswell_run_last_success_timestamp_seconds", "gauge", ("pipeline",), "When a run of the pipeline completed last."
    ),
    Declared("groundswell_run_last_state", "gauge", ("pipeline", "state"), "1 for how the last run to end has ended, else 0."),
    Declared("groundswell_step_status", "gauge", (*_STEP, "status"), "1 for how the step ended in the last run to end, else 0."),
    Declared("groundswell_step_work_seconds", "gauge", _STEP, "Seconds of its own work in that run; 0 where it was reused."),
    Declared("groundswell_step_ended_timestamp_seconds", "gauge", _STEP, "When the step ended in that run."),
    Declared("groundswell_step_metric", "gauge", (*_STEP, "metric"), "The figures that the step reported in that run."),
    Declared("groundswell_running_step_started_timestamp_seconds", "gauge", _RUNNING, "When a step that is running now began."),
    Declared("groundswell_running_step_updated_timestamp_seconds", "gauge", _RUNNING, "When it said last how far it has come."),
    Declared("groundswell_running_step_completed", "gauge", _RUNNING, "Units of its work that are done, such as training steps."),
    Declared("groundswell_running_step_total", "gauge", _RUNNING, "Units of its work in all; 0 while unknown."),
    Declared("groundswell_running_step_rate", "gauge", _RUNNING, "Training steps a second, as it reports them."),
    Declared("groundswell_running_step_loss", "gauge", _RUNNING, "Its loss, as it reports it."),
    Declared("groundswell_gpu_utilization_ratio", "gauge", (*_RUNNING, "gpu"), "Share of time in which a GPU for it works."),
    Declared("groundswell_gpu_memory_used_bytes", "gauge", (*_RUNNING, "gpu"), "Memory of that GPU that is taken."),
    Declared("groundswell_gpu_memory_total_bytes", "gauge", (*_RUNNING, "gpu"), "Memory of that GPU."),
    Declared("groundswell_ledger_unsigned_entries", "gauge", (), "Entries that no signed checkpoint covers yet."),
    Declared(
        "groundswell_ledger_unsigned_since_timestamp_seconds",
        "gauge",
        (),
        "When the oldest of them was written; absent where there is none.",
    ),
    Declared(
        "groundswell_model_versions",
        "gauge",
        ("model", "provenance"),
        "Registered versions, by signed provenance.",
    ),
    Declared(
        "groundswell_served_model_verified",
        "gauge",
        _SERVED,
        "Whether the package that an alias names is registered, whole and signed by a key that counts: 1, else 0.",
    ),
    Declared("groundswell_served_model_checked_timestamp_seconds", "gauge", _SERVED, "When that was last verified."),
    Declared("groundswell_served_model_withdrawn_items", "gauge", _SERVED, "Withdrawn items in the data behind a served model."),
    Declared("groundswell_assets_generated_total", "counter", (), "Pictures and clips that were handed out."),
    Declared("groundswell_assets_withheld_total", "counter", (), "Samples that were withheld as near copies of training items."),
    Declared("groundswell_generation_refused_total", "counter", ("rule", "category"), "Requests that the guardrails refused."),
    Declared("groundswell_artifacts_tampered_total", "counter", (), "Stored outputs that were not what was recorded."),
    Declared("groundswell_lineage_imports_total", "counter", (), "Imports of other producers' lineage events."),
    Declared("groundswell_key_expires_timestamp_seconds", "gauge", ("key",), "When the certificate of a current key ends."),
    Declared("groundswell_token_expires_timestamp_seconds", "gauge", ("token",), "When an access token ends that is still good."),
)
PROMOTION: tuple[Declared, ...] = (
    Declared(
        "groundswell_promotion_pending", "gauge", ("model", "environment"), "Requests that wait for approval or application."
    ),
    Declared(
        "groundswell_promotion_pending_since_timestamp_seconds",
        "gauge",
        ("model", "environment"),
        "When the oldest of them was made.",
    ),
    Declared("groundswell_champion_since_timestamp_seconds", "gauge", _SERVED, "When a champion was put in."),
    Declared("groundswell_champion_expires_timestamp_seconds", "gauge", _SERVED, "When it is to be validated again."),
    Declared("groundswell_promotion_refused_total", "counter", ("attempt", "rule", "environment"), "Attempts that were refused."),
    Declared(
        "groundswell_audit_append_failures_total",
        "counter",
        (),
        "Units of work that the database did not take.",
    ),
    Declared("groundswell_ledger_size", "gauge", (), "Entries of the ledger."),
    Declared(
        "groundswell_ledger_checkpoint_timestamp_seconds", "gauge", (), "When the ledger's head was signed last; 0 for never."
    ),
    Declared("groundswell_outbox_waiting", "gauge", (), "Messages that are still to be delivered."),
    Declared("groundswell_outbox_given_up", "gauge", (), "Messages that will not be sent again."),
)
METRICS = (*PLATFORM, *PROMOTION)
_BY_NAME = {one.name: one for one in METRICS}


class Families(Collector):
    """Metrics of the catalogue with their values, filled by whoever asks the database."""

    def __init__(self) -> None:
        self._found: dict[str, Metric] = {}

    def add(self, name: str, value: float, *labels: object) -> None:
        """Adds a value of a gauge or counter.

        Raises:
            KeyError: The catalogue has no such metric.
            ValueError: It has other labels.
        """
        declared = _BY_NAME[name]
        if len(labels) != len(declared.labels):
            raise ValueError(f"{name} has the labels {declared.labels}")
        family = self._found.get(name)
        if family is None:
            kind = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
            family = self._found[name] = kind(name, declared.meaning, labels=declared.labels)
        family.add_metric([str(label) for label in labels], value)  # type: ignore[attr-defined]  # both families have it

    def add_histogram(self, name: str, buckets: Sequence[tuple[str, float]], total: float, *labels: object) -> None:
        """Adds a histogram: cumulative counts by upper bound, the last of which is ``+Inf``, and the sum of all values."""
        declared = _BY_NAME[name]
        family = self._found.setdefault(name, HistogramMetricFamily(name, declared.meaning, labels=declared.labels))
        family.add_metric([str(label) for label in labels], buckets, total)  # type: ignore[attr-defined]  # the family has it

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics that have values, in the catalogue's order."""
        return [self._found[name] for name in _BY_NAME if name in self._found]

    def describe(self) -> Iterator[Metric]:
        """Returns nothing: what there is depends on the database."""
        return iter(())
