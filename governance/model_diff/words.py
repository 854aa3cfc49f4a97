"""Says in sentences what differs between two models, for a reader who is no engineer."""

from collections.abc import Mapping, Sequence

from governance.lineage_diff import ItemChanges
from governance.model_diff.model import MetricPair, ModelDiff, Verdict
from governance.withdrawal import items_text

_BETTER = {
    "kid": "come closer to real ones",
    "category_accuracy": "show what was asked for more often",
    "memorised_share": "repeat training pictures less often",
}
_WORSE = {
    "kid": "are further from real ones",
    "category_accuracy": "show what was asked for less often",
    "memorised_share": "repeat training pictures more often",
}
_UNDECIDED = {
    "kid": "how close they come to real ones",
    "category_accuracy": "how often they show what was asked for",
    "memorised_share": "how often they repeat training pictures",
}
_MADE = {
    "data": ("fact about the data", "facts about the data"),
    "source": ("digest of the source code", "digests of the source code"),
    "environment": ("fact about the environment", "facts about the environment"),
    "seeds": ("seed", "seeds"),
    "parameters": ("setting", "settings"),
}


def headline(diff: ModelDiff) -> str:
    """Returns the heading: which of the two does better, as far as the evaluations can tell."""
    first, second = (side.name for side in diff.sides)
    if diff.same_package:
        return f"{first} and {second} are the same model"
    verdicts = {pair.difference.verdict for pair in diff.metrics if pair.difference}
    if {"better", "worse"} <= verdicts:
        return f"{second} is better than {first} in some respects, and worse in others"
    if "better" in verdicts:
        return f"{second} draws better than {first}"
    if "worse" in verdicts:
        return f"{second} draws worse than {first}"
    if verdicts:
        return f"No difference between {first} and {second} is to be seen in the tests"
    return f"{first} and {second} were not tested alike, so neither can be called better"


def sentences(diff: ModelDiff) -> tuple[str, ...]:
    """Returns what the evaluations say, then what the two were made from."""
    return tuple(filter(None, (_tested(diff), _made(diff), *map(_items, diff.lineage.items))))


def _tested(diff: ModelDiff) -> str:
    first, second = (side.name for side in diff.sides)
    if diff.same_package:
        return "Both are one package, byte for byte."
    judged = [pair for pair in diff.metrics if pair.difference]
    if not judged:
        reasons = list(dict.fromkeys(pair.why_not for pair in diff.metrics if pair.why_not))
        return f"Their figures stand side by side below, but cannot be held against each other: {reasons[0]}." if reasons else ""
    found = [*_said(judged, "better", _BETTER), *_said(judged, "worse", _WORSE), *_said(judged, "different", {})]
    lead = "Tested on the same descriptions, the pictures of"
    parts = [f"{lead} {second} {_listed(found)}, as against those of {first}."] if found else []
    undecided = _said(judged, "undecided", _UNDECIDED)
    if undecided:
        parts.append(f"No difference can be told from chance in {_listed(undecided)}.")
    return " ".join(parts)


def _said(pairs: Sequence[MetricPair], verdict: Verdict, words: Mapping[str, str]) -> list[str]:
    ends = {"better": "have the better {}", "worse": "have the worse {}", "different": "differ in {}", "undecided": "{}"}
    return [
        words.get(pair.name, ends[verdict].format(pair.name.replace("_", " ")))
        for pair in pairs
        if pair.difference and pair.difference.verdict == verdict
    ]


def _made(diff: ModelDiff) -> str:
    differing = {
        title: sum(pair.differs for pair in pairs)
        for title, pairs in diff.lineage.sections.items()
        if title in _MADE and any(pair.differs for pair in pairs)
    }
    if not any(pair for title, pairs in diff.lineage.sections.items() if title in _MADE for pair in pairs):
        return "How they were made was not recorded."
    if not differing:
        return "Everything that is known of how they were made is the same."
    same = "They were trained on the same data. " if "data" not in differing and diff.lineage.sections.get("data") else ""
    counts = [f"{count:,} {_MADE[title][count > 1]}" for title, count in differing.items()]
    return f"{same}How they were made differs in {_listed(counts)}."


def _items(changes: ItemChanges) -> str:
    if changes.left_out is None or changes.added is None:
        return f"Which items of {changes.name} differ is unknown: one of the datasets is gone or was changed."
    if not changes.left_out and not changes.added:
        return f"The items of {changes.name} are the same, recorded differently."
    withdrawn = sum(item.withdrawn is not None for item in changes.left_out)
    left_out = f"{items_text(len(changes.left_out))} left out" + (f" ({withdrawn:,} of them withdrawn)" if withdrawn else "")
    return f"Of {changes.name}, the second has {left_out} and {items_text(len(changes.added))} added."


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
