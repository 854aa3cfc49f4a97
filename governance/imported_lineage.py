"""Lineage events of other producers: what their runs and datasets are called here.

An imported event never stands for one that groundswell emitted itself:

- A dataset of the namespace ``groundswell`` with the name of an artifact is that artifact; any other is
  ``external:<namespace>#<name>``.
- A run is one of our steps only where its job, its parent and its id are the step's; any other is
  ``step:<run id>/<namespace>#<job>``, and no step of ours has a ``#`` in its name.

- Static lineage, an event of a job or dataset and of no run, is kept under a name in place of a run's id that is none; a job of
  it is ``step:static-<digest>/<namespace>#<job>``.

What such an event states is kept as an import and shown as one.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from governance.ledger import format_time
from governance.lineage import (
    CUSTOM_SCHEMA,
    NAMESPACE,
    PRODUCER,
    Edge,
    Event,
    StepIdentity,
    event_edges,
    owning_run,
    step_subject,
)

ACTION = "lineage.imported"
"""The action of the ledger's entry that commits to an imported file; its subject is ``lineage-import:<the file's SHA-256>``."""
EXTERNAL = "external"
JOB, DATASET = "JOB", "DATASET"
"""What stands for the type of an event of a job, or of a dataset, and of no run."""

_ARTIFACT = re.compile(r"(?!step:|run:|external:)[a-z][a-z0-9_-]*:[0-9a-f]{64}", re.ASCII)
_URI_RESERVED = "/:@~!$&'()*+,;=?"


def import_subject(file_sha256: str) -> str:
    """Returns what the ledger calls the import of a file."""
    return f"lineage-import:{file_sha256}"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an event tells, as its row holds it.

    Attributes:
        step: The graph's node of its run, or of the job or dataset that it is about.
        run_id: The run that it belongs to; of static lineage the name that stands for one.
        job: The name of its job; empty where there is none.
        event_type: START, RUNNING, COMPLETE, ABORT, FAIL or OTHER; JOB or DATASET for static lineage.
        time: When it happened.
        edges: What it states.
    """

    step: str
    run_id: str
    job: str
    event_type: str
    time: str
    edges: tuple[Edge, ...]

    @property
    def is_static(self) -> bool:
        """Whether it is of no run."""
        return self.event_type in {JOB, DATASET}


def told_by(event: Mapping[str, Any], *, imported: bool) -> Told:
    """Returns what an event tells.

    Args:
        event: An event; an imported one was checked with `check_event`.
        imported: Whether another producer's word is all that there is for it.

    Raises:
        BadRecordError: The event, or a dataset of it, has no name.
        KeyError, TypeError, AttributeError, ValueError: It is no OpenLineage event at all.
    """
    if not imported:
        edges = event_edges(event)
        return Told(
            step=step_subject(event),
            run_id=owning_run(event),
            job=event["job"]["name"],
            event_type=event.get("eventType", "OTHER"),
            time=event["eventTime"],
            edges=edges,
        )
    time = format_time(datetime.fromisoformat(event["eventTime"].upper()))
    if "run" not in event and "job" not in event:
        dataset = _imported_dataset(event["dataset"])
        return Told(step=dataset, run_id=static_name(dataset), job="", event_type=DATASET, time=time, edges=())
    step = _imported_step(event) if "run" in event else _static_step(event["job"])
    inputs = [Edge(_imported_dataset(dataset), step) for dataset in event.get("inputs", ())]
    outputs = [Edge(step, _imported_dataset(dataset)) for dataset in event.get("outputs", ())]
    return Told(
        step=step,
        run_id=step.removeprefix("step:").partition("/")[0],
        job=event["job"]["name"],
        event_type=event.get("eventType", "OTHER") if "run" in event else JOB,
        time=time,
        edges=tuple(dict.fromkeys(inputs + outputs)),
    )


def as_imported(event: Event, file_sha256: str) -> Event:
    """Returns an imported event with a facet that says so, for those who get it from here.

    Args:
        event: The event as it was imported.
        file_sha256: The digest of the file that it came in.
    """
    facet = {
        "_producer": PRODUCER,
        "_schemaURL": f"{CUSTOM_SCHEMA}#/$defs/GroundswellImportFacet",
        "producer": event["producer"],
        "fileDigest": file_sha256,
        "algorithm": "SHA-256",
    }
    part = next(name for name in ("run", "job", "dataset") if name in event)
    return {**event, part: {**event[part], "facets": {**event[part].get("facets", {}), "groundswell_import": facet}}}


def static_name(about: str) -> str:
    """Returns what stands in place of a run's id for static lineage.

    Args:
        about: The dataset's node, or namespace and name of the job.
    """
    return f"static-{hashlib.sha256(about.encode()).hexdigest()[:32]}"


def _imported_step(event: Mapping[str, Any]) -> str:
    run, job = event["run"], event["job"]
    run_id = str(run["runId"]).lower()
    parent = run.get("facets", {}).get("parent")
    pipeline, _, step = str(job["name"]).partition(".")
    if job["namespace"] == NAMESPACE and parent is not None and step:
        own = StepIdentity(run_id=str(parent["run"]["runId"]).lower(), pipeline=pipeline, step=step)
        if own.openlineage_run_id == run_id:
            return own.subject
    return f"step:{run_id}/{_name_of_job(job)}"


def _static_step(job: Mapping[str, Any]) -> str:
    return f"step:{static_name(_name_of_job(job))}/{_name_of_job(job)}"


def _name_of_job(job: Mapping[str, Any]) -> str:
    return f"{quote(str(job['namespace']), safe=_URI_RESERVED)}#{job['name']}"


def _imported_dataset(dataset: Mapping[str, Any]) -> str:
    namespace, name = str(dataset["namespace"]), str(dataset["name"])
    if namespace == NAMESPACE and _ARTIFACT.fullmatch(name):
        return name
    return f"{EXTERNAL}:{quote(namespace, safe=_URI_RESERVED)}#{name}"
