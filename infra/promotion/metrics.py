"""Prometheus metrics of promotion and of the ledger, computed from the database whenever somebody asks."""

import json
from collections import Counter
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from sqlalchemy import Connection, func, select

from governance.promotion.state import OPEN
from infra.append_failures import num_failures
from infra.home import Home
from infra.key_files import replace_file
from infra.promotion.delivery import MAX_ATTEMPTS
from infra.promotion.refusals import ACTION as REFUSED
from infra.tables import champions, ledger_checkpoints, ledger_entries, ledger_head, outbox, promotions

FILE = "promotion.prom"


def promotion_metrics(connection: Connection, *, metrics_folder: Path) -> CollectorRegistry:
    """Returns the metrics as they are now.

    Args:
        connection: An open connection.
        metrics_folder: The home's folder of metrics, where failures to append are counted.
    """
    registry = CollectorRegistry()
    _pending(connection, registry)
    _champions(connection, registry)
    _ledger(connection, registry)
    _outbox(connection, registry)
    registry.register(_Counters(_refused(connection), num_failures(metrics_folder)))
    return registry


def write_promotion_metrics(home: Home) -> None:
    """Writes the metrics where a node exporter collects text files.

    Raises:
        BackendUnavailableError: The database or the file cannot be used.
    """
    with home.database.read() as connection:
        registry = promotion_metrics(connection, metrics_folder=home.metrics)
    home.metrics.mkdir(exist_ok=True)
    replace_file(home.metrics / FILE, generate_latest(registry), 0o644)


class _Counters(Collector):
    """Counters whose values are on record, not in this process."""

    def __init__(self, refused: Counter[tuple[str, str, str]], failures: int) -> None:
        self._refused = refused
        self._failures = failures

    def collect(self) -> list[CounterMetricFamily]:
        """Returns the counters."""
        refused = CounterMetricFamily(
            "groundswell_promotion_refused", "Attempts that were refused.", labels=["attempt", "rule", "environment"]
        )
        for labels, count in sorted(self._refused.items()):
            refused.add_metric(labels, count)
        failures = CounterMetricFamily(
            "groundswell_audit_append_failures", "Units of work that the database did not take.", value=self._failures
        )
        return [refused, failures]


def _pending(connection: Connection, registry: CollectorRegistry) -> None:
    labels = ["model", "environment"]
    pending = Gauge("groundswell_promotion_pending", "Requests that wait for approval or application.", labels, registry=registry)
    oldest = Gauge(
        "groundswell_promotion_pending_since_timestamp_seconds", "When the oldest of them was made.", labels, registry=registry
    )
    columns = promotions.c
    query = select(columns.name, columns.environment, func.count(), func.min(columns.requested))
    query = query.where(columns.state.in_(sorted(OPEN))).group_by(columns.name, columns.environment)
    for name, environment, count, requested in connection.execute(query):
        pending.labels(name, environment).set(count)
        oldest.labels(name, environment).set(_seconds(requested))


def _champions(connection: Connection, registry: CollectorRegistry) -> None:
    labels = ["model", "environment", "version"]
    since = Gauge("groundswell_champion_since_timestamp_seconds", "When a champion was put in.", labels, registry=registry)
    expires = Gauge(
        "groundswell_champion_expires_timestamp_seconds", "When it is to be validated again.", labels, registry=registry
    )
    for row in connection.execute(select(champions)):
        since.labels(row.name, row.environment, row.version).set(_seconds(row.since))
        expires.labels(row.name, row.environment, row.version).set(_seconds(row.expires))


def _ledger(connection: Connection, registry: CollectorRegistry) -> None:
    size = Gauge("groundswell_ledger_size", "Entries of the ledger.", registry=registry)
    size.set(connection.execute(select(ledger_head.c.size)).scalar() or 0)
    last = connection.execute(select(func.max(ledger_checkpoints.c.time))).scalar()
    signed = Gauge(
        "groundswell_ledger_checkpoint_timestamp_seconds",
        "When the ledger's head was signed last; 0 for never.",
        registry=registry,
    )
    signed.set(_seconds(last) if last else 0)


def _outbox(connection: Connection, registry: CollectorRegistry) -> None:
    columns = outbox.c
    attempts = connection.execute(select(columns.attempts).where(columns.delivered.is_(None))).scalars().all()
    given_up = sum(count >= MAX_ATTEMPTS for count in attempts)
    waiting = Gauge("groundswell_outbox_waiting", "Messages that are still to be delivered.", registry=registry)
    waiting.set(len(attempts) - given_up)
    lost = Gauge("groundswell_outbox_given_up", "Messages that will not be sent again.", registry=registry)
    lost.set(given_up)


def _refused(connection: Connection) -> Counter[tuple[str, str, str]]:
    query = select(ledger_entries.c.entry).where(ledger_entries.c.action == REFUSED)
    found: Counter[tuple[str, str, str]] = Counter()
    for data in connection.execute(query).scalars():
        details = json.loads(bytes(data))["details"]
        found[details["attempt"], details["rule"], details["environment"] or ""] += 1
    return found


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
