"""Describes the nodes of a lineage graph in words and facts."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from governance.imported_lineage import DATASET, EXTERNAL, JOB
from governance.lineage_report.model import UNKNOWN, Fact, Node
from infra.imported_facets import described
from infra.lineage_media import listed_names, media_noun, media_step_title, medium_of
from infra.lineage_records import Records
from infra.lineage_subjects import digest_of, run_of_step

_STEPS = {
    "validate_data": "Check the data",
    "train_codec": "Train the codec",
    "plan_encoding": "Divide the data",
    "encode_part": "Encode a part",
    "encode_latents": "Encode to latents",
    "train_dit": "Train the model",
    "finetune_dit": "Fine-tune the model",
    "import_checkpoint": "Import the checkpoint",
    "evaluate": "Evaluate",
    "register_model": "Register the model",
    "read_source": "Read the source",
}
_TOLD_ELSEWHERE = frozenset({"assertions", "media"})  # in the section about checks of the data, and of each picture
_SAID = {JOB: "Described as a job", DATASET: "Described as a dataset"}
_KINDS = {
    "dataset": "Dataset",
    "validation": "Validation report",
    "data_docs": "Data docs",
    "codec": "Codec",
    "encoding_plan": "Plan of the encoding",
    "encoded_part": "Part of the latents",
    "latents": "Latents",
    "model": "Trained weights",
    "evaluation": "Evaluation",
    "package": "Model package",
    "checkpoint": "Published checkpoint",
    "media": "Generated file",
    "request": "Request",
}


def describe(subject: str, records: Records, *, members: Sequence[str] = (), imported_from: str = "") -> Node:
    """Describes one node.

    Args:
        subject: Its subject string.
        records: What the database holds.
        members: Of a group of media, the subjects in it.
        imported_from: The producer from whose events alone it is known, if so.
    """
    node = _describe(subject, records, members=members)
    if not imported_from:
        return node
    facts = (Fact(label="Imported from", value=imported_from), *node.facts)
    return dataclasses.replace(node, facts=facts, imported_from=imported_from)


def _describe(subject: str, records: Records, *, members: Sequence[str]) -> Node:
    kind = subject.partition(":")[0]
    if members:
        noun = media_noun(row["file_name"] for member in members for row in records.assets.get(member, ()))
        return Node(
            subject=subject,
            kind="media",
            title=f"{len(members):,} {noun}",
            subtitle="made together",
            facts=(
                Fact(label=noun.capitalize(), value=str(len(members))),
                Fact(label="Made in run", value=run_of_step(subject), is_digest=True),
            ),
            members=tuple(digest_of(member) for member in members),
        )
    if kind == "step":
        return _step_node(subject, records)
    title, subtitle = artifact_title(subject, records)
    facts = (*_artifact_facts(subject, records), *_told_by_others(subject, records))
    return Node(subject=subject, kind=kind, title=title, subtitle=subtitle, facts=facts)


def step_title(subject: str, records: Records) -> str:
    """Returns what a person calls a step."""
    name = subject.partition("#")[2] or subject.rpartition("/")[2]
    step, _, part = name.partition("-")
    if part and step in _STEPS:
        return f"{_STEPS[step]} ({part})"
    return media_step_title(subject, records) or _STEPS.get(name, name.replace("_", " ") or subject)


def artifact_title(subject: str, records: Records) -> tuple[str, str]:
    """Returns what a person calls an artifact, and one more line."""
    kind, digest = subject.partition(":")[0], digest_of(subject)
    if kind == EXTERNAL:
        namespace, _, name = digest.partition("#")
        return name, namespace
    if kind == "media":
        return _media_title(subject, records)
    if kind == "package" and (versions := records.versions.get(digest)):
        return f"{versions[-1]['name']} version {versions[-1]['version']}", f"package · {digest[:12]}"
    facts = records.artifacts.get(subject, {}).get("facts", {})
    if kind == "dataset" and facts.get("name"):
        return str(facts["name"]), f"dataset · {digest[:12]}"
    if kind == "media_set":
        return f"Folder of {media_noun(listed_names(facts))}", digest[:12]
    return _KINDS.get(kind, kind), digest[:12]


def _media_title(subject: str, records: Records) -> tuple[str, str]:
    digest = digest_of(subject)
    if not (made := records.assets.get(subject)):
        return "A file of unknown origin", f"not made here · {digest[:12]}"
    name = made[-1]["file_name"]
    return name, f"{medium_of(name)} · {digest[:12]}"


def _step_node(subject: str, records: Records) -> Node:
    row = records.steps.get(subject)
    name = subject.partition("/")[2]
    facts = [Fact(label="Step", value=name), Fact(label="Run", value=run_of_step(subject), is_digest=True)]
    if any(one.told.is_static for one in records.imported_about(subject)):
        facts = [Fact(label="Job", value=name.partition("/")[2] or name), Fact(label="Run", value="none: it is static lineage")]
    facts += _told_by_others(subject, records)
    if row is None and records.last_event(subject) is None and records.imported_about(subject):
        return Node(subject=subject, kind="step", title=step_title(subject, records), facts=tuple(facts))
    if row is None:
        event = records.last_event(subject) or {}
        facts.append(Fact(label="Recorded", value=str(event.get("eventTime", UNKNOWN))))
        return Node(subject=subject, kind="step", title=step_title(subject, records), facts=(*facts, *_event_digests(event)))
    facts += [
        Fact(label="Started", value=row["started"]),
        Fact(label="Ended", value=row["ended"] or UNKNOWN),
        Fact(label="By", value=records.step_actor(subject)),
    ]
    if row["work_s"] is not None:
        facts.append(Fact(label="Own work", value=f"{row['work_s']:,.1f} s"))
    if summary := row["record"].get("summary"):
        facts.append(Fact(label="Result", value=str(summary)))
    if error := error_text(row["error"]):
        facts.append(Fact(label="Error", value=error))
    for side in ("inputs", "outputs"):
        facts += [
            Fact(
                label=f"{side[:-1].capitalize()}: {key}",
                value=f"{ref.get('kind', UNKNOWN)}:{ref.get('digest', UNKNOWN)}",
                is_digest=True,
            )
            for key, ref in sorted(row["record"].get(side, {}).items())
        ]
    facts.append(Fact(label="Code digest", value=str(row["record"].get("code_digest", UNKNOWN)), is_digest=True))
    facts.append(Fact(label="Fingerprint", value=row["fingerprint"], is_digest=True))
    return Node(subject=subject, kind="step", title=step_title(subject, records), status=row["status"], facts=tuple(facts))


def _told_by_others(subject: str, records: Records) -> list[Fact]:
    """Returns what others say of a step's beginning and end, or of what it is, and in which files; of the rest how much it is."""
    imported = records.imported_about(subject)
    facts = [
        Fact(
            label=_SAID.get(one.told.event_type, one.told.event_type.capitalize()), value=f"{one.told.time}, says {one.producer}"
        )
        for one in imported
        if one.is_transition or one.told.is_static
    ]
    more = len(imported) - len(facts)
    if static := [one for one in imported if one.told.is_static]:
        facts += described(max(static, key=lambda one: one.told.time).event)
    if more:
        facts.append(Fact(label="Other imported events", value=f"{more:,}"))
    files = dict.fromkeys(one.file_sha256 for one in imported)
    return facts + [Fact(label="In the imported file", value=sha256, is_digest=True) for sha256 in files]


def _event_digests(event: Mapping[str, Any]) -> list[Fact]:
    sides = {"inputs": "Input", "outputs": "Output"}
    return [Fact(label=sides[side], value=dataset["name"], is_digest=True) for side in sides for dataset in event.get(side, ())]


def _artifact_facts(subject: str, records: Records) -> list[Fact]:
    kind, digest = subject.partition(":")[0], digest_of(subject)
    if kind == EXTERNAL:
        namespace, _, name = digest.partition("#")
        return [Fact(label="Namespace", value=unquote(namespace)), Fact(label="Name", value=name)]
    facts = [Fact(label="SHA-256", value=digest, is_digest=True)]
    for version in records.versions.get(digest_of(subject), ()) if subject.startswith("package:") else ():
        facts.append(Fact(label="Registered as", value=f"{version['name']}/{version['version']}"))
        facts.append(Fact(label="Registered", value=version["created"]))
        facts += [
            Fact(label=f"Made from {name}", value=str(value), is_digest=True) for name, value in sorted(version["inputs"].items())
        ]
    for row in records.assets.get(subject, ()):
        facts += [
            Fact(label="File", value=row["file_name"]),
            Fact(label="Model", value=f"{row['model_name']}/{row['model_version']}"),
            Fact(label="Model digest", value=row["root_digest"], is_digest=True),
            Fact(label="Seed", value=row["seed"], is_digest=True),
            Fact(label="Request", value=request_text(row, records) or "erased, or never recorded"),
            Fact(label="Request commitment", value=row["condition_commitment"], is_digest=True),
            Fact(label="Made", value=row["created"]),
            Fact(label="Run", value=row["run_id"], is_digest=True),
        ]
    artifact = records.artifacts.get(subject)
    if artifact is None:
        return facts
    facts += [Fact(label="Recorded", value=artifact["created"]), Fact(label="Location", value=artifact["location"] or UNKNOWN)]
    recorded = [(name, value) for name, value in sorted(artifact["facts"].items()) if name not in _TOLD_ELSEWHERE]
    return facts + [Fact(label=name.replace("_", " "), value=as_text(value)) for name, value in recorded]


def request_text(asset: Mapping[str, Any], records: Records) -> str | None:
    """Returns what was asked for when a picture was made, None where it was erased."""
    value = records.conditions.get(asset["condition_commitment"])
    if value is None:
        return None
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    if not isinstance(parsed, dict):
        return value
    return (
        ", ".join(f"{key} “{item}”" for key, item in sorted(parsed.items()) if item not in (None, "")) or "nothing in particular"
    )


def error_text(stored: str | None) -> str:
    """Returns the diagnosis of a stored error."""
    if not stored:
        return ""
    try:
        parsed = json.loads(stored)
    except ValueError:
        return stored
    return str(parsed.get("diagnosis", stored)) if isinstance(parsed, dict) else stored


def as_text(value: Any) -> str:
    """Renders a recorded value for a person: long lists of values stay whole, what is named in it has a line each."""
    if isinstance(value, Mapping):
        return "\n".join(f"{str(key).replace('_', ' ')}: {_in_line(item)}" for key, item in sorted(value.items()))
    return _in_line(value)


def _in_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {_in_line(item)}" for key, item in sorted(value.items()))
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, int, float)) for item in value):
        return ", ".join(_in_line(item) for item in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
