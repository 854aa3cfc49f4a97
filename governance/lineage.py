"""Lineage as OpenLineage 1.x events and as a graph; pure, so that what is emitted and what is drawn can be tested alone.

An artifact is an OpenLineage dataset whose namespace is ``groundswell`` and whose name is its subject
``<kind>:<digest>``; a step is a job ``<pipeline>.<step>`` whose run has the pipeline's run as parent. OpenLineage wants
UUIDs for runs, so a step's is the version 5 UUID of its name under the pipeline run's UUID.

Specification: https://openlineage.io/docs/spec/object-model and the JSON schemas of its ``spec`` folder.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from governance.canonical import canonical_digest
from governance.errors import BadRecordError

NAMESPACE = "groundswell"
PRODUCER = "urn:groundswell:lineage:1-0-0"
SCHEMA_URL = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
CUSTOM_SCHEMA = "urn:groundswell:openlineage:facets:1-0-0"

_STANDARD = {
    "DataQualityAssertionsDatasetFacet": "1-1-0",
    "DatasetVersionDatasetFacet": "1-0-1",
    "ErrorMessageRunFacet": "1-0-1",
    "JobTypeJobFacet": "2-0-4",
    "OwnershipDatasetFacet": "1-0-1",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
    "SourceCodeLocationJobFacet": "1-1-0",
}

Event = dict[str, Any]
EventType = Literal["START", "COMPLETE", "FAIL", "ABORT"]


@dataclass(frozen=True, kw_only=True)
class StepIdentity:
    """Names one step of one run, or the run itself where `step` is None.

    Attributes:
        run_id: The run, a UUID.
        pipeline: The pipeline's name, such as ``training``.
        step: The step's name, such as ``train_dit``.
    """

    run_id: str
    pipeline: str
    step: str | None = None

    @property
    def subject(self) -> str:
        """The subject string of the ledger and of the lineage graph."""
        return f"run:{self.run_id}" if self.step is None else f"step:{self.run_id}/{self.step}"

    @property
    def job(self) -> str:
        """The OpenLineage job name."""
        return self.pipeline if self.step is None else f"{self.pipeline}.{self.step}"

    @property
    def openlineage_run_id(self) -> str:
        """The OpenLineage run id.

        Raises:
            BadRecordError: The run id is no UUID.
        """
        try:
            run = uuid.UUID(self.run_id)
        except ValueError as error:
            raise BadRecordError(f"run id {self.run_id!r} is not a UUID", hint="OpenLineage names runs by UUIDs") from error
        return str(run) if self.step is None else str(uuid.uuid5(run, self.step))


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """One check of a dataset and how it came out.

    Attributes:
        assertion: The kind of check, such as ``expect_column_values_to_be_unique``.
        success: Whether it held.
        column: The column checked; None for a check of the whole dataset.
        severity: Whether data that fail it are refused.
        description: What it says, in words.
    """

    assertion: str
    success: bool
    column: str | None = None
    severity: Literal["error", "warn"] = "error"
    description: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as OpenLineage's facet writes it, without what it does not say."""
        return {name: value for name, value in vars(self).items() if value not in {None, ""}}


@dataclass(frozen=True, kw_only=True)
class ArtifactRef:
    """An artifact that a step read or wrote.

    Attributes:
        kind: Such as ``dataset``, ``model``, ``package``, ``media``.
        digest: 64 lowercase hexadecimal characters.
        location: Where it lies, if that is to be told.
        licences: SPDX ids of what is in it.
        attribution: The text by which its authors want to be named.
        owners: Who answers for it, as URNs or identity ids.
        assertions: Checks made of it.
    """

    kind: str
    digest: str
    location: str | None = None
    licences: Sequence[str] = ()
    attribution: str = ""
    owners: Sequence[str] = ()
    assertions: Sequence[Assertion] = ()

    @property
    def subject(self) -> str:
        """The subject string ``<kind>:<digest>``."""
        return f"{self.kind}:{self.digest}"


def run_event(
    event_type: EventType,
    identity: StepIdentity,
    *,
    time: str,
    inputs: Iterable[ArtifactRef] = (),
    outputs: Iterable[ArtifactRef] = (),
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    code_digest: str | None = None,
    revision: str = "",
    engine: tuple[str, str] | None = None,
    error: str | None = None,
    reused: bool = False,
    producer: str = PRODUCER,
) -> Event:
    """Builds an OpenLineage RunEvent of a step, or of a whole run.

    Args:
        event_type: START, then one of COMPLETE, FAIL (an error) and ABORT (interrupted).
        identity: Which step of which run.
        time: RFC 3339 time of the transition.
        inputs: What it reads.
        outputs: What it wrote; a step that failed wrote nothing.
        config: Its configuration: for a training step, the training parameters.
        metrics: Figures that it reports.
        environment: Such as ``lock_digest``, ``python``, ``platform``, ``accelerator``.
        code_digest: Digest of the source that ran.
        revision: The git commit that it comes from, with ``-dirty`` where it differs from that; empty where none is known.
        engine: Name and version of what ran it, such as ``("kfp.local", "2.17.0")``.
        error: One line that says why it failed or stopped.
        reused: Whether verified outputs of an earlier step were taken instead of running.
        producer: URI of the emitting code.

    Raises:
        BadRecordError: The run id is no UUID.
    """
    run_facets = _run_facets(identity, reused=reused, config=config, metrics=metrics, environment=environment, producer=producer)
    if engine is not None:
        name, version = engine
        run_facets["processing_engine"] = _facet("ProcessingEngineRunFacet", producer, name=name, version=version)
    if error is not None:
        run_facets["errorMessage"] = _facet("ErrorMessageRunFacet", producer, message=error, programmingLanguage="Python")
    return {
        "eventType": event_type,
        "eventTime": time,
        "producer": producer,
        "schemaURL": SCHEMA_URL,
        "run": {"runId": identity.openlineage_run_id, "facets": run_facets},
        "job": {"namespace": NAMESPACE, "name": identity.job, "facets": _job_facets(identity, code_digest, revision, producer)},
        "inputs": [_dataset(ref, producer, is_input=True) for ref in inputs],
        "outputs": [_dataset(ref, producer, is_input=False) for ref in outputs],
    }


def _job_facets(identity: StepIdentity, code_digest: str | None, revision: str, producer: str) -> dict[str, Any]:
    job_type = "TASK" if identity.step is not None else "DAG"
    facets = {
        "jobType": _facet("JobTypeJobFacet", producer, processingType="BATCH", integration=NAMESPACE.upper(), jobType=job_type)
    }
    if code_digest is not None:
        facets["groundswell_sourceCode"] = _facet(
            "GroundswellSourceCodeJobFacet", producer, language="Python", digest=code_digest, algorithm="SHA-256"
        )
    if revision:
        # Where a repository lies is nobody's business and changes: the commit is named by its SWHID, ISO/IEC 18670.
        url = f"swh:1:rev:{revision.partition('-')[0]}"
        facets["sourceCodeLocation"] = _facet("SourceCodeLocationJobFacet", producer, type="git", url=url, version=revision)
    return facets


def _facet(name: str, producer: str, /, **fields: Any) -> dict[str, Any]:
    if name in _STANDARD:
        url = f"https://openlineage.io/spec/facets/{_STANDARD[name]}/{name}.json#/$defs/{name}"
    else:
        url = f"{CUSTOM_SCHEMA}#/$defs/{name}"
    return {"_producer": producer, "_schemaURL": url, **fields}


def _run_facets(
    identity: StepIdentity,
    *,
    reused: bool,
    config: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    environment: Mapping[str, Any] | None,
    producer: str,
) -> dict[str, Any]:
    facets = {
        "groundswell_step": _facet(
            "GroundswellStepRunFacet", producer, subject=identity.subject, runId=identity.run_id, reused=reused
        )
    }
    if identity.step is not None:
        parent = StepIdentity(run_id=identity.run_id, pipeline=identity.pipeline)
        facets["parent"] = _facet(
            "ParentRunFacet",
            producer,
            run={"runId": parent.openlineage_run_id},
            job={"namespace": NAMESPACE, "name": parent.job},
        )
    if config is not None:
        facets["groundswell_config"] = _facet(
            "GroundswellConfigRunFacet",
            producer,
            config=dict(config),
            digest=canonical_digest(dict(config), floats=True),
            algorithm="SHA-256",
        )
    if metrics is not None:
        facets["groundswell_metrics"] = _facet("GroundswellMetricsRunFacet", producer, metrics=dict(metrics))
    if environment is not None:
        facets["groundswell_environment"] = _facet("GroundswellEnvironmentRunFacet", producer, environment=dict(environment))
    return facets


def _dataset(ref: ArtifactRef, producer: str, *, is_input: bool) -> dict[str, Any]:
    artifact = {"kind": ref.kind, "digest": ref.digest, "algorithm": "SHA-256"}
    if ref.location is not None:
        artifact["location"] = ref.location
    facets = {
        "version": _facet("DatasetVersionDatasetFacet", producer, datasetVersion=ref.digest),
        "groundswell_artifact": _facet("GroundswellArtifactDatasetFacet", producer, **artifact),
    }
    if ref.licences or ref.attribution:
        facets["groundswell_licences"] = _facet(
            "GroundswellLicencesDatasetFacet", producer, licences=list(ref.licences), attribution=ref.attribution
        )
    if ref.owners:
        facets["ownership"] = _facet("OwnershipDatasetFacet", producer, owners=[{"name": owner} for owner in ref.owners])
    dataset: dict[str, Any] = {"namespace": NAMESPACE, "name": ref.subject, "facets": facets}
    if ref.assertions:
        checks = [assertion.to_dict() for assertion in ref.assertions]
        quality = _facet("DataQualityAssertionsDatasetFacet", producer, assertions=checks)
        # The schema makes it a facet of an input; on an output any dataset facet is allowed.
        if is_input:
            dataset["inputFacets"] = {"dataQualityAssertions": quality}
        else:
            facets["dataQualityAssertions"] = quality
    return dataset


@dataclass(frozen=True, order=True)
class Edge:
    """One step of lineage: `target` was made from, or by, `source`."""

    source: str
    target: str


def step_subject(event: Mapping[str, Any]) -> str:
    """Returns the graph's node for the run of an event, also for events that others emitted.

    Raises:
        BadRecordError: The event names no run or no job.
    """
    try:
        run, job = event["run"], event["job"]
        stated = run.get("facets", {}).get("groundswell_step", {}).get("subject")
        return str(stated) if stated else f"step:{run['runId']}/{job['name']}"
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRecordError("a lineage event names no run or no job") from error


def owning_run(event: Mapping[str, Any]) -> str:
    """Returns the run that an event belongs to: the parent's where it has one, else its own."""
    facets = event.get("run", {}).get("facets", {})
    stated = facets.get("groundswell_step", {}).get("runId") or facets.get("parent", {}).get("run", {}).get("runId")
    return str(stated or event["run"]["runId"])


def event_edges(event: Mapping[str, Any]) -> tuple[Edge, ...]:
    """Returns the edges that an event states: inputs to the step, the step to its outputs.

    Raises:
        BadRecordError: The event, or a dataset of it, has no name.
    """
    step = step_subject(event)
    inputs = [Edge(_dataset_subject(dataset), step) for dataset in event.get("inputs") or ()]
    outputs = [Edge(step, _dataset_subject(dataset)) for dataset in event.get("outputs") or ()]
    return tuple(dict.fromkeys(inputs + outputs))


def _dataset_subject(dataset: Mapping[str, Any]) -> str:
    try:
        namespace, name = dataset["namespace"], dataset["name"]
    except (KeyError, TypeError) as error:
        raise BadRecordError("a lineage event holds a dataset without a name") from error
    return str(name) if namespace == NAMESPACE else f"{namespace}:{name}"


class LineageGraph:
    """A directed graph of subjects: artifacts, steps, media. It may hold cycles where others' events state them.

    Args:
        edges: What is known of what was made from what.
        nodes: Subjects to hold even without an edge.
    """

    def __init__(self, edges: Iterable[Edge] = (), *, nodes: Iterable[str] = ()) -> None:
        self.edges = tuple(sorted(set(edges)))
        self.nodes = frozenset(nodes) | {end for edge in self.edges for end in (edge.source, edge.target)}
        self._sources: dict[str, list[str]] = {}
        self._targets: dict[str, list[str]] = {}
        for edge in self.edges:
            self._sources.setdefault(edge.target, []).append(edge.source)
            self._targets.setdefault(edge.source, []).append(edge.target)

    @classmethod
    def from_events(cls, events: Iterable[Mapping[str, Any]]) -> "LineageGraph":
        """Builds the graph that events state."""
        return cls(edge for event in events for edge in event_edges(event))

    def sources(self, subject: str) -> tuple[str, ...]:
        """Returns what a subject was directly made from or by."""
        return tuple(self._sources.get(subject, ()))

    def targets(self, subject: str) -> tuple[str, ...]:
        """Returns what was directly made from or by a subject."""
        return tuple(self._targets.get(subject, ()))

    def upstream(self, subject: str) -> frozenset[str]:
        """Returns everything that a subject was made from, itself left out unless it is in a cycle."""
        return self._reach(subject, self._sources)

    def downstream(self, subject: str) -> frozenset[str]:
        """Returns everything made from a subject, itself left out unless it is in a cycle."""
        return self._reach(subject, self._targets)

    def restricted_to(self, subjects: Iterable[str]) -> "LineageGraph":
        """Returns the part of the graph among some subjects."""
        kept = frozenset(subjects)
        return LineageGraph((e for e in self.edges if e.source in kept and e.target in kept), nodes=kept)

    @staticmethod
    def _reach(subject: str, neighbours: Mapping[str, Sequence[str]]) -> frozenset[str]:
        found: set[str] = set()
        frontier = [subject]
        while frontier:
            new = [node for near in frontier for node in neighbours.get(near, ()) if node not in found]
            found.update(new)
            frontier = new
        return frozenset(found)
