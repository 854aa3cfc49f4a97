"""The sentences at the head of a lineage report, for a reader who is no engineer."""

from collections.abc import Mapping, Sequence
from typing import Any

from governance.lineage import LineageGraph
from governance.lineage_report.model import Phrase
from governance.promotion.state import Promotion, State
from governance.withdrawal import items_text
from infra.lineage_media import items_noun, medium_of
from infra.lineage_nodes import artifact_title, request_text
from infra.lineage_records import Records
from infra.lineage_sections import data_sources
from infra.lineage_subjects import digest_of, run_of_step, version_of

Sentence = tuple[Phrase, ...]
_TRAINING = ("/train_dit", "/finetune_dit")


def title_of(subject: str, records: Records) -> str:
    """Returns the title of a report."""
    if (key := version_of(subject)) is not None:
        return f"{key[0]} version {key[1]}"
    if subject.startswith("run:"):
        row = records.runs.get(subject.removeprefix("run:"))
        return f"{row['pipeline'].capitalize()} run {run_of_step(subject)[:8]}" if row else subject
    return artifact_title(subject, records)[0]


def summarise(
    subject: str,
    node: str,
    graph: LineageGraph,
    records: Records,
    *,
    more: Sequence[str] = (),
    producers: Sequence[str] = (),
) -> tuple[Sentence, ...]:
    """Returns the summary: what it is, what it was made from, by whom, and when.

    Args:
        subject: The subject string.
        node: Its node in the graph; empty for a run.
        graph: The report's graph, as far as it was recorded here.
        records: What the database holds.
        more: What the subject was made from, also by the word of other producers.
        producers: Those whose events add to the graph.
    """
    before = graph.upstream(node) if node else graph.nodes
    is_known = not node or node in graph.nodes
    told = _told(subject, node, graph, records, before) if is_known else ()
    return (*told, *_by_others(producers, is_known=is_known), *_withdrawn(sorted({node, *before, *more}), records))


def _by_others(producers: Sequence[str], *, is_known: bool) -> tuple[Sentence, ...]:
    if not producers:
        return ()
    names = Phrase(text=", ".join(producers), strong=True)
    if is_known:
        return ((Phrase(text="More of what is drawn below, with dashed lines, was imported from "), names, Phrase(text=".")),)
    return ((Phrase(text="It is known only from events that were imported from "), names, Phrase(text=".")),)


def _told(subject: str, node: str, graph: LineageGraph, records: Records, before: frozenset[str]) -> tuple[Sentence, ...]:
    if made := records.assets.get(subject):
        asset = made[-1]
        model = f"package:{asset['root_digest']}"
        actor = records.runs.get(asset["run_id"], {}).get("actor")
        first = [
            Phrase(text=f"This {medium_of(asset['file_name'])} was made by "),
            Phrase(text=f"{asset['model_name']} version {asset['model_version']}", anchor=model, strong=True),
            Phrase(text=f" on {_day(asset['created'])}, "),
            *_by(records.who(actor) if actor else None),
        ]
        if wanted := request_text(asset, records):
            first.append(Phrase(text=f" The request was: {wanted}."))
        return (tuple(first), *_made_from(asset, records), *_trained(model, graph, records, "That model"))
    if node.startswith("media:"):
        return _not_made_here(node, graph, records)
    if node.startswith("package:"):
        return _trained(node, graph, records, "This model")
    if node.startswith("dataset:"):
        return _dataset(node, graph, records)
    if not node:
        return _run(subject, sorted(before), records)
    makers = [source for source in graph.sources(node) if source in records.steps]
    who = records.step_actor(makers[0]) if makers else None
    when = f" on {_day(records.steps[makers[0]]['ended'])}, " if makers else ", "
    return (
        (Phrase(text=f"{artifact_title(node, records)[0]} was made{when}"), *_by(who)),
        *_data_sentence("It goes back to ", sorted(before), records),
    )


def _made_from(asset: Mapping[str, Any], records: Records) -> tuple[Sentence, ...]:
    """Returns what a picture was made from; nothing where a model made it from nothing."""
    sha256 = asset["source_sha256"]
    if not sha256:
        return ()
    source = f"media:{sha256}"
    title = Phrase(text=artifact_title(source, records)[0], anchor=source, strong=True)
    if not (made := records.assets.get(source)):
        return ((Phrase(text="It was made from "), title, Phrase(text=f" (SHA-256 {sha256[:12]}).")),)
    by = f", which {made[-1]['model_name']} version {made[-1]['model_version']} made on {_day(made[-1]['created'])}."
    return ((Phrase(text="It was made from "), title, Phrase(text=by)),)


def _not_made_here(node: str, graph: LineageGraph, records: Records) -> tuple[Sentence, ...]:
    made = sum(one in records.assets for one in graph.downstream(node))
    return (
        (Phrase(text="This file was not made here, and where it came from is unknown."),),
        (Phrase(text=f"Recorded files that were made from it: {made:,}."),),
    )


def _trained(package: str, graph: LineageGraph, records: Records, lead: str, again: str = "It") -> tuple[Sentence, ...]:
    before = sorted(_own_past(package, graph))
    step = next((name for name in before if name.endswith(_TRAINING) and name in records.steps), None)
    bases = [name for name in before if name.startswith("package:")]
    words = [Phrase(text=f"{lead} was {'fine-tuned' if bases else 'trained'}"), *_from_bases(bases, records)]
    words += [Phrase(text=" on "), *_data_phrases(before, records)]
    if step is None:
        words.append(Phrase(text=". When and by whom is unknown."))
    else:
        row = records.steps[step]
        words += [Phrase(text=f", on {_day(row['ended'])}, "), *_by(records.step_actor(step), anchor=step)]
    behind_codec = [] if bases else sorted(graph.upstream(package) - set(before))  # a base's codec is told of with the base
    if data_sources(behind_codec, records):
        words += [Phrase(text=" Its codec was trained on "), *_data_phrases(behind_codec, records), Phrase(text=".")]
    behind = tuple(one for base in bases for one in _trained(base, graph, records, "Its base", again="The base"))
    versions = records.versions.get(digest_of(package), ())
    if not versions:
        return (tuple(words), *behind)
    promoted = tuple(_promoted(one, records, again) for one in records.promotions.get(digest_of(package), ()))
    version = versions[-1]
    registered = (
        Phrase(text=f"{again} was registered as {version['name']} version {version['version']} on {_day(version['created'])}."),
    )
    return (tuple(words), registered, *promoted, *behind)


def _from_bases(bases: Sequence[str], records: Records) -> list[Phrase]:
    """Returns " from emoji-dit version 3" for a model that was fine-tuned."""
    words: list[Phrase] = []
    for base in bases:
        versions = records.versions.get(digest_of(base), ())
        name = f"{versions[-1]['name']} version {versions[-1]['version']}" if versions else "a model that is not registered"
        words += [Phrase(text=" and " if words else " from "), Phrase(text=name, anchor=base, strong=True)]
    return words


def _promoted(promotion: Promotion, records: Records, it: str) -> Sentence:
    """Returns such as: It is in production: Ada asked on 2026-11-26, Olga and Omar approved."""
    if promotion.state is State.APPLIED:
        words = [Phrase(text=f"{it} is in "), Phrase(text=promotion.environment, strong=True)]
    else:
        words = [
            Phrase(text=f"{it} was in {promotion.environment}, and is no longer ({promotion.state.value.replace('-', ' ')})")
        ]
    people = " and ".join(records.who(one) for one in promotion.approvers)
    asked = f": {records.who(promotion.requester)} asked on {_day(promotion.requested)}, "
    return (*words, Phrase(text=asked), Phrase(text=people or "nobody on record", strong=True), Phrase(text=" approved."))


def _own_past(node: str, graph: LineageGraph) -> set[str]:
    """Returns what a node was made from, with the models that it was fine-tuned from, but without their past or a codec's."""
    reached: set[str] = set()
    waiting = [node]
    while waiting:
        for source in graph.sources(waiting.pop()):
            if source not in reached and not source.startswith("codec:"):
                reached.add(source)
                waiting += [] if source.startswith("package:") else [source]
    return reached


def _dataset(node: str, graph: LineageGraph, records: Records) -> tuple[Sentence, ...]:
    first = (Phrase(text="This dataset holds "), *_data_phrases([node], records, total=True), Phrase(text="."))
    after = graph.downstream(node)
    models = [
        f"{row['name']} version {row['version']}"
        for name in sorted(after)
        if name.startswith("package:")
        for row in records.versions.get(digest_of(name), ())
    ]
    if not models:
        return (first, (Phrase(text="No registered model was made from it."),))
    shown = ", ".join(models[:5]) + (f" and {len(models) - 5} more" if len(models) > 5 else "")
    return (first, (Phrase(text="Registered models made from it: "), Phrase(text=shown, strong=True), Phrase(text=".")))


def _withdrawn(nodes: Sequence[str], records: Records) -> tuple[Sentence, ...]:
    """Returns what was withdrawn from the data since, one sentence a dataset and a withdrawal."""
    return tuple(
        (
            Phrase(text=f"{items_text(one.num_items)} of ", strong=True),
            Phrase(text=source.name or "a dataset without a recorded name", anchor=source.subject, strong=True),
            Phrase(text=f" {'was' if one.num_items == 1 else 'were'} withdrawn", strong=True),
            Phrase(text=f" on {_day(one.time)}: {one.reason or 'the reason was erased'}."),
        )
        for source in data_sources(nodes, records)
        for one in source.withdrawn
    )


def _run(subject: str, nodes: Sequence[str], records: Records) -> tuple[Sentence, ...]:
    row = records.runs.get(subject.removeprefix("run:"))
    if row is None:
        return ((Phrase(text="This run is named by lineage, but its record is missing."),),)
    own = [step for key, step in records.steps.items() if f"run:{run_of_step(key)}" == subject]
    reused = sum(step["status"] == "reused" for step in own)
    words = [
        Phrase(text=f"This run of the {row['pipeline']} pipeline "),
        Phrase(text={"running": "is under way", "completed": "completed"}.get(row["status"], row["status"]), strong=True),
        Phrase(text=f". It was started on {_day(row['started'])}, "),
        *_by(records.who(row["actor"])),
    ]
    words.append(
        Phrase(
            text=f" It has {len(own)} steps, {reused} of them reused from earlier work." if own else " No step of it is recorded."
        )
    )
    return (tuple(words), *_data_sentence("Its data: ", nodes, records))


def _data_sentence(lead: str, nodes: Sequence[str], records: Records) -> tuple[Sentence, ...]:
    return ((Phrase(text=lead), *_data_phrases(nodes, records, total=True), Phrase(text=".")),)


def _data_phrases(nodes: Sequence[str], records: Records, *, total: bool = False) -> list[Phrase]:
    """Returns "642 pictures from OpenMoji (CC-BY-SA-4.0)", or clips, for each dataset among some subjects."""
    words: list[Phrase] = []
    for source in data_sources(nodes, records):
        count = source.num_items if total else source.num_train
        words += [Phrase(text=" and ")] if words else []
        noun = items_noun(records.artifacts.get(source.subject, {}).get("facts", {}))
        words += [
            Phrase(text=f"{count:,} {noun}" if count is not None else f"an unknown number of {noun}", strong=True),
            Phrase(text=" from "),
            Phrase(text=source.name or "a dataset without a recorded name", anchor=source.subject, strong=True),
            Phrase(text=f" ({', '.join(source.licences) or 'licence unknown'})"),
        ]
    return words or [Phrase(text="data that is not recorded", strong=True)]


def _by(who: str | None, *, anchor: str | None = None) -> list[Phrase]:
    return [Phrase(text="by "), Phrase(text=who or "somebody unknown", strong=True, anchor=anchor), Phrase(text=".")]


def _day(time: str | None) -> str:
    return time[:10] if time else "an unknown day"
