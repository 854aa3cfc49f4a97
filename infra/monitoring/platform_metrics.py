"""All metrics of a home, computed from its database whenever somebody asks."""

import threading
import time

from cryptography.x509 import load_pem_x509_certificate
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from sqlalchemy import Connection, String, case, cast, exists, func, select

from governance.ledger import format_time, parse_entry
from infra.access_tokens import read_tokens
from infra.content_keys import CERTIFICATE
from infra.errors import BackendUnavailableError
from infra.guardrails import ACTION as GENERATION_REFUSED
from infra.home import Home
from infra.keys import CONTENT_KEY, CONTENT_ROOT
from infra.monitoring.catalogue import Families
from infra.monitoring.entry_counts import EntryCounts
from infra.monitoring.run_metrics import RunHistory, seconds
from infra.monitoring.running_steps import add_running_steps
from infra.monitoring.served_models import ServedModels
from infra.platform_keys import key_entries
from infra.promotion.metrics import promotion_metrics
from infra.schema import HEAD
from infra.tables import attestations, ledger_checkpoints, ledger_entries, ledger_head, model_versions

_TURN_S = 20.0
_COUNTED = {
    "groundswell_assets_generated_total": "asset.generated",
    "groundswell_assets_withheld_total": "asset.withheld",
    "groundswell_artifacts_tampered_total": "artifact.tampered",
    "groundswell_lineage_imports_total": "lineage.imported",
}


class PlatformMetrics:
    """Computes the metrics of a home; keeps counts of what can only grow.

    Args:
        home: The home.
        served: Verifies what is served.
        version: The version of groundswell.
    """

    def __init__(self, home: Home, served: ServedModels, *, version: str) -> None:
        self._home = home
        self._served = served
        self._version = version
        self._turn = threading.Lock()
        self._runs = RunHistory()
        self._counts = {name: EntryCounts(action) for name, action in _COUNTED.items()}
        self._refused = EntryCounts(GENERATION_REFUSED, lambda details: (str(details["rule"]), str(details["category"] or "")))

    def render(self) -> bytes:
        """Returns all metrics in Prometheus's text format, from one snapshot of the database.

        Raises:
            BackendUnavailableError: The database cannot be read, or others have been waiting for it for long.
            IntegrityError: It is damaged.
        """
        began = time.perf_counter()
        families = Families()
        families.add("groundswell_info", 1.0, self._version, HEAD)
        if not self._turn.acquire(timeout=_TURN_S):  # what is counted by one snapshot must not be counted by an older one
            raise BackendUnavailableError("other scrapes are being answered", hint="try again")
        try:
            with self._home.database.read() as connection:
                promotion = self._add_all(families, connection)
        finally:
            self._turn.release()
        families.add("groundswell_scrape_seconds", time.perf_counter() - began)
        registry = CollectorRegistry()
        registry.register(families)
        return generate_latest(registry) + generate_latest(promotion)

    def _add_all(self, families: Families, connection: Connection) -> CollectorRegistry:
        self._runs.add_to(families, connection)
        add_running_steps(families, connection, running=self._runs.running(), runs_folder=self._home.runs_dir)
        _add_ledger(connection, families)
        _add_models(connection, families)
        self._served.add_to(families, connection)
        self._add_counts(connection, families)
        _add_keys(connection, families)
        _add_tokens(connection, families, now=format_time(self._home.database.now()))
        return promotion_metrics(connection, metrics_folder=self._home.metrics)

    def _add_counts(self, connection: Connection, families: Families) -> None:
        for name, counts in self._counts.items():
            families.add(name, sum(counts.read(connection).values()))
        for labels, count in sorted(self._refused.read(connection).items()):
            families.add("groundswell_generation_refused_total", count, *labels)


def _add_ledger(connection: Connection, families: Families) -> None:
    size = int(connection.execute(select(ledger_head.c.size)).scalar() or 0)
    signed = int(connection.execute(select(func.max(ledger_checkpoints.c.size))).scalar() or 0)
    families.add("groundswell_ledger_unsigned_entries", max(0, size - signed))
    data = connection.execute(select(ledger_entries.c.entry).where(ledger_entries.c.index == signed)).scalar()
    if data is not None:
        families.add("groundswell_ledger_unsigned_since_timestamp_seconds", seconds(parse_entry(bytes(data)).time))


def _add_models(connection: Connection, families: Families) -> None:
    columns = model_versions.c
    subject = "model-version:" + columns.name + "/" + cast(columns.version, String)
    is_signed = exists().where(attestations.c.subject == subject, attestations.c.kind == "provenance")
    provenance = case((is_signed, "signed"), else_="missing").label("provenance")
    versions = select(columns.name, provenance).subquery()
    query = select(versions.c.name, versions.c.provenance, func.count()).group_by(versions.c.name, versions.c.provenance)
    for name, state, count in connection.execute(query):
        families.add("groundswell_model_versions", count, name, state)


def _add_keys(connection: Connection, families: Families) -> None:
    """Adds the certificates that are current: the last entry about a key that holds one."""
    for name in (CONTENT_KEY, CONTENT_ROOT):
        certificates = [pem for entry in key_entries(connection, name) if (pem := entry.details.get(CERTIFICATE))]
        if certificates:
            end = load_pem_x509_certificate(str(certificates[-1]).encode()).not_valid_after_utc
            families.add("groundswell_key_expires_timestamp_seconds", end.timestamp(), name)


def _add_tokens(connection: Connection, families: Families, *, now: str) -> None:
    for token in read_tokens(connection).values():
        if token.is_alive(now):
            families.add("groundswell_token_expires_timestamp_seconds", seconds(token.expires), token.token_id)
