"""What a lineage report says, before anybody decides how it looks."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from governance.lineage import Edge
from governance.lineage_report.plots import Curve, Estimates

UNKNOWN = "unknown"
FORMAT = "groundswell-lineage-report/1"

LedgerState = Literal["verified", "failed", "empty"]


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """A piece of a sentence of the summary.

    Attributes:
        text: The words.
        strong: Whether they carry the meaning of the sentence.
        anchor: The section that says more.
    """

    text: str
    strong: bool = False
    anchor: str | None = None


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A labelled value.

    Attributes:
        label: What it is.
        value: The value as text, in full.
        is_digest: Whether it is a digest or another long identifier, set in fixed width.
    """

    label: str
    value: str
    is_digest: bool = False


@dataclass(frozen=True, kw_only=True)
class ImportedStatement:
    """What an event of another producer states; that it was imported and not changed since is all that the ledger proves.

    Attributes:
        producer: The URI that the event names as its producer.
        file_sha256: Digest of the file that it came in.
        subject: The graph's node of its run, or of the job or dataset that it is about.
        run_id: The run's id, as it says; empty for static lineage.
        job: Namespace and name of its job, or of the dataset.
        event_type: START, RUNNING, COMPLETE, ABORT, FAIL or OTHER; JOB or DATASET for static lineage.
        time: When it happened, as it says.
        edges: What it states was made from what.
    """

    producer: str
    file_sha256: str
    subject: str
    run_id: str
    job: str
    event_type: str
    time: str
    edges: tuple[Edge, ...]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of the graph and the section that tells about it.

    Attributes:
        subject: The subject string; for a group of media, a name made for it.
        kind: ``dataset``, ``step``, ``model``, ``media`` and so on.
        title: What a person calls it.
        subtitle: One more line for the graph.
        status: Of a step: ``completed``, ``reused``, ``failed``, ``interrupted``, ``running``; else empty.
        facts: What is known of it.
        members: Of a group, the subjects in it.
        imported_from: The producer from whose events alone it is known; empty for what was recorded here.
    """

    subject: str
    kind: str
    title: str
    subtitle: str = ""
    status: str = ""
    facts: tuple[Fact, ...] = ()
    members: tuple[str, ...] = ()
    imported_from: str = ""


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """Something that happened: when, what, by whom."""

    time: str
    what: str
    who: str
    detail: str = ""
    status: str = ""
    subject: str = ""


@dataclass(frozen=True, kw_only=True)
class WithdrawnItems:
    """Items of a dataset that may no longer be used.

    Attributes:
        time: When they were withdrawn.
        who: Who withdrew them.
        num_items: How many.
        reason: Why; None where that was erased.
    """

    time: str
    who: str
    num_items: int
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A dataset that went into the subject; None and empty values were not recorded.

    Where only events of another producer say that it did, `imported_from` names that producer. `noun` is what its items are.
    """

    subject: str
    digest: str
    name: str | None
    importer: str | None
    num_items: int | None
    num_train: int | None
    num_holdout: int | None
    labels: tuple[str, ...]
    licences: tuple[str, ...]
    attribution: str | None
    sources: tuple[str, ...]
    withdrawn: tuple[WithdrawnItems, ...] = ()
    imported_from: str = ""
    noun: str = "pictures"


@dataclass(frozen=True, kw_only=True)
class FactTable:
    """A titled list of facts, such as the metrics of one step."""

    title: str
    facts: tuple[Fact, ...]
    subject: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture to show, whose bytes were checked against their recorded digest; of a clip some of its frames.

    Attributes:
        caption: What it shows.
        data_uri: The picture itself.
        sha256: Digest of the file that is shown.
        pixelated: Whether it is so small that enlarging it should keep its pixels.
    """

    caption: str
    data_uri: str
    sha256: str
    pixelated: bool = False


@dataclass(frozen=True, kw_only=True)
class SignedStatement:
    """A signed statement about a subject of the report.

    Attributes:
        digest: SHA-256 of its envelope, by which the ledger names it.
        kind: ``provenance`` or ``approval``.
        subject: What it is about.
        time: When it was signed.
        signers: Who signed it, by name.
        key_ids: SHA-256 of each key that signed it; empty where none is known to have.
        problem: Why it does not verify; empty where it does.
    """

    digest: str
    kind: str
    subject: str
    time: str
    signers: tuple[str, ...]
    key_ids: tuple[str, ...]
    problem: str


@dataclass(frozen=True, kw_only=True)
class LedgerLine:
    """One ledger entry about a subject of the report; `raw` is its exact canonical JSON."""

    index: int
    time: str
    action: str
    actor: str
    subject: str
    raw: str


@dataclass(frozen=True, kw_only=True)
class LedgerStatus:
    """Whether the ledger verified when the report was made.

    Attributes:
        state: ``verified``, ``failed``, or ``empty`` where there is nothing to verify.
        message: One sentence that says so.
        size: Number of entries in the tree.
        root_hash: Root of the tree, hexadecimal.
        last_time: Time of the latest entry: the report's date.
        entries: Entries about the report's subjects.
    """

    state: LedgerState
    message: str
    size: int
    root_hash: str
    last_time: str | None
    entries: tuple[LedgerLine, ...]


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything that a lineage report says.

    Attributes:
        subject: The subject string asked about.
        kind: Its kind: ``media``, ``model-version``, ``run``, ``dataset`` and so on.
        title: What a person calls it.
        summary: Sentences for a reader who is no engineer.
        highlight: The node of the graph to mark; empty where the subject is none.
        nodes: The graph's nodes, in an order that never puts a result before its cause.
        edges: The graph's edges.
        timeline: What happened, oldest first.
        data: Datasets that went into it.
        metrics: Figures by step.
        code: Digests of the code by step.
        environments: What ran the steps.
        parameters: Configuration by step.
        pictures: Pictures whose digests were checked.
        ledger: Whether the ledger verified, and its entries about these subjects.
        open_questions: What is not recorded, in words.
        events: OpenLineage events of the steps above; those of other producers say so in a facet ``groundswell_import``.
        curves: Losses of the models that were trained, from folders whose digests were checked.
        estimates: Figures of the evaluations with their intervals.
        statements: Signed statements about these subjects, verified again.
        checks: Checks of data by step: how many hold, and which do not.
        imported: What other producers state about the nodes above.
        imported_edges: The edges that they alone state, with who does.
    """

    subject: str
    kind: str
    title: str
    summary: tuple[tuple[Phrase, ...], ...]
    highlight: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    timeline: tuple[TimelineEntry, ...]
    data: tuple[DataSource, ...]
    metrics: tuple[FactTable, ...]
    code: tuple[Fact, ...]
    environments: tuple[FactTable, ...]
    parameters: tuple[FactTable, ...]
    pictures: tuple[Picture, ...]
    ledger: LedgerStatus
    open_questions: tuple[str, ...]
    events: tuple[Mapping[str, Any], ...]
    curves: tuple[Curve, ...] = ()
    estimates: tuple[Estimates, ...] = ()
    statements: tuple[SignedStatement, ...] = ()
    checks: tuple[FactTable, ...] = ()
    imported: tuple[ImportedStatement, ...] = ()
    imported_edges: Mapping[Edge, str] = field(default_factory=dict)


def to_json(content: ReportContent) -> dict[str, Any]:
    """Returns the content as JSON-serialisable values; the events are left to `to_openlineage`."""
    plain = {f.name: getattr(content, f.name) for f in dataclasses.fields(content) if f.name not in {"events", "imported_edges"}}
    edges = [{**_plain(edge), "imported_from": content.imported_edges.get(edge, "")} for edge in content.edges]
    return {"format": FORMAT, **_plain(plain), "edges": edges}


def to_openlineage(content: ReportContent) -> list[dict[str, Any]]:
    """Returns the OpenLineage events of the steps in the report, in the order they were recorded."""
    return [dict(event) for event in content.events]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
