"""The sections of a lineage report below its summary: data, timeline, metrics, code, environment, open questions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from governance.lineage_report.model import UNKNOWN, DataSource, Fact, FactTable, TimelineEntry, WithdrawnItems
from governance.withdrawal import items_text
from infra.imported_statements import imported_timeline
from infra.lineage_media import items_noun, medium_of
from infra.lineage_nodes import artifact_title, as_text, error_text, step_title
from infra.lineage_records import Records
from infra.lineage_subjects import digest_of, run_of_step

_ENVIRONMENT_LABELS = {
    "revision": "Source commit",
    "lock_digest": "Dependency lock (SHA-256)",
    "python": "Python",
    "platform": "Platform",
    "accelerator": "Accelerator",
    "host": "Host",
}


def data_sources(subjects: Iterable[str], records: Records) -> tuple[DataSource, ...]:
    """Returns the datasets among some subjects."""
    return tuple(_data_source(subject, records) for subject in subjects if subject.startswith("dataset:"))


def _data_source(subject: str, records: Records) -> DataSource:
    facts = records.artifacts.get(subject, {}).get("facts", {})

    def text(key: str) -> str | None:
        return str(facts[key]) if facts.get(key) not in (None, "") else None

    def count(key: str) -> int | None:
        return facts[key] if isinstance(facts.get(key), int) else None

    def texts(key: str) -> tuple[str, ...]:
        value = facts.get(key) or ()
        return tuple(str(item) for item in value) if isinstance(value, list) else (str(value),) if value else ()

    return DataSource(
        subject=subject,
        digest=digest_of(subject),
        name=text("name"),
        importer=text("importer"),
        num_items=count("num_items"),
        num_train=count("num_train"),
        num_holdout=count("num_holdout"),
        labels=texts("labels"),
        licences=texts("licences"),
        attribution=text("attribution"),
        sources=texts("sources"),
        noun=items_noun(facts),
        withdrawn=tuple(
            WithdrawnItems(time=one.created, who=records.who(one.actor), num_items=one.num_items, reason=one.reason)
            for one in records.withdrawals.get(digest_of(subject), ())
        ),
    )


def timeline(subject: str, nodes: Sequence[str], records: Records, *, importers: Mapping[str, str]) -> tuple[TimelineEntry, ...]:
    """Returns what happened to the nodes of a report, oldest first.

    Args:
        subject: The subject of the report.
        nodes: The graph's nodes.
        records: What the database holds.
        importers: Who imported an artifact, as the ledger says.
    """
    entries = []
    run_ids = {run_of_step(node) for node in nodes if node.startswith("step:")} | {subject.removeprefix("run:")}
    for run_id in sorted(run_ids & records.runs.keys()):
        entries += _run_entries(records.runs[run_id], records)
    own = {key for key in records.steps if subject == f"run:{run_of_step(key)}"}
    for step in sorted({node for node in nodes if node.startswith("step:")} | own):
        if (row := records.steps.get(step)) is not None:
            entries.append(_step_entry(step, row, records, shown=step in nodes))
    for node in nodes:
        if node.startswith("dataset:") and (row := records.artifacts.get(node)):
            title = artifact_title(node, records)[0]
            entries.append(
                TimelineEntry(
                    time=row["created"],
                    what=f"Dataset {title} recorded",
                    who=records.who(importers.get(node, UNKNOWN)),
                    subject=node,
                )
            )
            entries += [
                TimelineEntry(
                    time=one.created,
                    what=f"{items_text(one.num_items)} of {title} withdrawn",
                    who=records.who(one.actor),
                    detail=one.reason or "",
                    subject=node,
                )
                for one in records.withdrawals.get(digest_of(node), ())
            ]
        for version in records.versions.get(digest_of(node), ()) if node.startswith("package:") else ():
            who = records.who(records.runs.get(version["run_id"] or "", {}).get("actor", UNKNOWN))
            what = f"{version['name']} version {version['version']} registered"
            entries.append(TimelineEntry(time=version["created"], what=what, who=who, subject=node))
    entries += imported_timeline(records.imported, nodes)
    return tuple(sorted(entries, key=lambda entry: (entry.time, entry.what)))


def _run_entries(row: Mapping[str, Any], records: Records) -> list[TimelineEntry]:
    who = records.who(row["actor"])
    started = TimelineEntry(
        time=row["started"],
        what=f"Run of the {row['pipeline']} pipeline started",
        who=who,
        detail=f"run {row['run_id']} on {row['host'] or 'an unknown machine'}",
    )
    if not row["ended"]:
        return [started]
    what = f"Run of the {row['pipeline']} pipeline {row['status']}"
    return [started, TimelineEntry(time=row["ended"], what=what, who=who, detail=error_text(row["error"]), status=row["status"])]


def _step_entry(step: str, row: Mapping[str, Any], records: Records, *, shown: bool) -> TimelineEntry:
    title = step_title(step, records)
    detail = error_text(row["error"]) or str(row["record"].get("summary") or "")
    return TimelineEntry(
        time=row["ended"] or row["started"],
        what=f"{title}: {row['status']}",
        who=records.step_actor(step),
        detail=detail,
        status=row["status"],
        subject=step if shown else "",
    )


def metric_tables(nodes: Sequence[str], records: Records) -> tuple[FactTable, ...]:
    """Returns the figures that steps reported, and those registered with model versions."""
    tables = [_table(step_title(step, records), row["record"].get("metrics") or {}, step) for step, row in _steps(nodes, records)]
    for node in nodes:
        for version in records.versions.get(digest_of(node), ()) if node.startswith("package:") else ():
            title = f"Registered with {version['name']} version {version['version']}"
            tables.append(_table(title, version["metrics"], node))
    return tuple(table for table in tables if table.facts)


def check_tables(nodes: Sequence[str], records: Records) -> tuple[FactTable, ...]:
    """Returns the checks of data that steps tell of in their last events, by step: how many hold, and each that does not."""
    tables = []
    for node in nodes:
        event = (records.last_event(node) if node.startswith("step:") else None) or {}
        data = [*event.get("inputs", ()), *event.get("outputs", ())]
        facets = [{**one.get("facets", {}), **one.get("inputFacets", {})}.get("dataQualityAssertions", {}) for one in data]
        checks = [check for facet in facets for check in facet.get("assertions", ())]
        failed = [check for check in checks if not check["success"]]
        facts = [Fact(label="Checks that hold", value=f"{len(checks) - len(failed):,} of {len(checks):,}")]
        facts += [Fact(label=check.get("description") or check["assertion"], value=_unmet(check)) for check in failed]
        if checks:
            tables.append(FactTable(title=step_title(node, records), facts=tuple(facts), subject=node))
    return tuple(tables)


def _unmet(check: Mapping[str, Any]) -> str:
    return "does not hold (a warning)" if check.get("severity") == "warn" else "does not hold: the data are refused"


def parameter_tables(nodes: Sequence[str], records: Records) -> tuple[FactTable, ...]:
    """Returns the configuration of steps."""
    tables = [_table(step_title(step, records), row["record"].get("config") or {}, step) for step, row in _steps(nodes, records)]
    return tuple(table for table in tables if table.facts)


def code_facts(nodes: Sequence[str], records: Records) -> tuple[Fact, ...]:
    """Returns the digest of the code of each step."""
    found: dict[tuple[str, str], None] = {}
    for step, row in _steps(nodes, records):
        found[step_title(step, records), str(row["record"].get("code_digest") or UNKNOWN)] = None
    for node in nodes:
        if node.startswith("step:") and node not in records.steps and (event := records.last_event(node)):
            digest = event["job"].get("facets", {}).get("groundswell_sourceCode", {}).get("digest", UNKNOWN)
            found[step_title(node, records), str(digest)] = None
    return tuple(Fact(label=label, value=value, is_digest=True) for label, value in found)


def environments(nodes: Sequence[str], records: Records) -> tuple[FactTable, ...]:
    """Returns the environments that steps ran in, each once."""
    found: dict[tuple[Fact, ...], list[str]] = {}
    for step, row in _steps(nodes, records):
        recorded = row["record"].get("environment") or {}
        labels = _ENVIRONMENT_LABELS | {key: key.replace("_", " ") for key in recorded if key not in _ENVIRONMENT_LABELS}
        facts = tuple(
            Fact(label=label, value=as_text(recorded[key]) if recorded.get(key) else UNKNOWN, is_digest=key.endswith("digest"))
            for key, label in labels.items()
        )
        found.setdefault(facts, []).append(step_title(step, records))
    return tuple(FactTable(title=", ".join(dict.fromkeys(titles)), facts=facts) for facts, titles in found.items())


def open_questions(upstream: Sequence[str], records: Records, *, left_out: int) -> tuple[str, ...]:
    """Returns what is not recorded about a subject and what it was made from."""
    questions = [question for source in data_sources(upstream, records) for question in _about_data(source)]
    if not any(node.startswith("dataset:") for node in upstream):
        questions.append("Which data it goes back to is unknown: no dataset is recorded upstream.")
    for step, row in _steps(upstream, records):
        questions += _about_step(step, row, records)
    for node in upstream:
        questions += _about_node(node, records)
    if left_out:
        questions.append(f"{left_out:,} more things made from it are recorded but not drawn.")
    return tuple(dict.fromkeys(questions))


def _about_step(step: str, row: Mapping[str, Any], records: Records) -> list[str]:
    if row["status"] not in {"completed", "reused"}:
        return []
    environment = row["record"].get("environment") or {}
    missing = [key.replace("_", " ") for key in ("lock_digest", "python", "platform") if not environment.get(key)]
    missing += [] if row["record"].get("code_digest") else ["code digest"]
    questions = [f"{step_title(step, records)} (run {run_of_step(step)[:8]}): {', '.join(missing)} unknown."] if missing else []
    if step.endswith(("/train_dit", "/finetune_dit")) and not environment.get("accelerator"):
        questions.append("Which processor or accelerator trained the model is unknown.")
    return questions


def _about_node(node: str, records: Records) -> list[str]:
    questions = []
    is_told = records.last_event(node) is not None or bool(records.imported_about(node))
    if node.startswith("step:") and node not in records.steps and not is_told:
        questions.append(f"The step {step_title(node, records)} is named by lineage, but its record is missing.")
    if node.startswith("media:") and node not in records.assets:
        questions.append(f"Where the file with SHA-256 {digest_of(node)[:12]} came from is unknown: it was not made here.")
    if node.startswith("checkpoint:"):
        told = records.artifacts.get(node, {}).get("facts", {}).get("origin") or "not recorded"
        questions.append(f"What the published checkpoint {digest_of(node)[:12]} was trained on is unknown; its origin: {told}.")
    if node.startswith("package:") and not records.versions.get(digest_of(node)):
        questions.append(f"The model package {digest_of(node)[:12]} is not registered as a version.")
    unasked = [row for row in records.assets.get(node, ()) if row["condition_commitment"] not in records.conditions]
    media = sorted({medium_of(row["file_name"]) for row in unasked})
    return questions + [f"What was asked for when the {one} was made is unknown: the text was erased." for one in media]


def _about_data(source: DataSource) -> list[str]:
    name = source.name or f"dataset {source.digest[:12]}"
    missing = [
        word
        for word, value in (
            (f"the number of {source.noun}", source.num_items is not None),
            (f"the split into training and held-out {source.noun}", source.num_train is not None),
            ("the licence", source.licences),
            ("the attribution", source.attribution),
            ("the sources", source.sources),
        )
        if not value
    ]
    return [f"{name}: {', '.join(missing)} unknown."] if missing else []


def _steps(nodes: Sequence[str], records: Records) -> list[tuple[str, Mapping[str, Any]]]:
    return [(node, records.steps[node]) for node in nodes if node in records.steps]


def _table(title: str, values: Mapping[str, Any], subject: str) -> FactTable:
    return FactTable(
        title=title, subject=subject, facts=tuple(Fact(label=key, value=as_text(values[key])) for key in sorted(values))
    )
