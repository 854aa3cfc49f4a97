"""OpenLineage events as other producers emit them."""

import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SPARK = "https://github.com/OpenLineage/OpenLineage/tree/1.54.0/integration/spark"
AIRFLOW = "https://github.com/apache/airflow/tree/providers-openlineage/2.7.0"
DBT = "https://github.com/OpenLineage/OpenLineage/tree/1.54.0/integration/dbt"
SCHEMAS = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/"
SCHEMA = f"{SCHEMAS}RunEvent"


def dataset(name: str, namespace: str = "s3://lake") -> dict[str, Any]:
    return {"namespace": namespace, "name": name}


def foreign_event(
    number: int = 0,
    *,
    inputs: Iterable[dict[str, Any]] = (),
    outputs: Iterable[dict[str, Any]] = (),
    producer: str = SPARK,
    **changes: Any,
) -> dict[str, Any]:
    """An event of run `number` of a Spark job, with whatever is to be changed."""
    event = {
        "eventType": "COMPLETE",
        "eventTime": "2026-11-20T08:15:30.123456789+01:00",
        "producer": producer,
        "schemaURL": SCHEMA,
        "run": {"runId": str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))},
        "job": {"namespace": "spark://cluster", "name": "crop_pictures"},
        "inputs": list(inputs),
        "outputs": list(outputs),
    }
    return {**event, **changes}


def job_event(
    name: str = "models.tiles",
    *,
    inputs: Iterable[dict[str, Any]] = (),
    outputs: Iterable[dict[str, Any]] = (),
    producer: str = DBT,
    **changes: Any,
) -> dict[str, Any]:
    """Static lineage: an event of a job and of no run, as a catalogue emits it."""
    event = {key: value for key, value in foreign_event(producer=producer).items() if key not in {"run", "eventType"}}
    job = {"namespace": "dbt", "name": name}
    return event | {"schemaURL": f"{SCHEMAS}JobEvent", "job": job, "inputs": list(inputs), "outputs": list(outputs)} | changes


def dataset_event(about: dict[str, Any], *, producer: str = DBT, **changes: Any) -> dict[str, Any]:
    """Static lineage: an event of a dataset and of no run."""
    event = {key: foreign_event(producer=producer)[key] for key in ("eventTime", "producer")}
    return event | {"schemaURL": f"{SCHEMAS}DatasetEvent", "dataset": about} | changes


def write_lines(path: Path, events: Iterable[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    return path
