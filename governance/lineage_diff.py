"""What two model versions were made from, set side by side: what differs, what is the same, what nobody recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from governance.lineage_report.model import UNKNOWN

ABSENT = "none"
"""What stands for a fact that is known not to be there, such as a parameter that a step did not have."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is known of how one model version came to be.

    Attributes:
        name: ``name/version``.
        package: Root digest of its package.
        sections: Facts by section and name; None for what should be known and is not.
        whole: Sections and beginnings of names of which everything was recorded, so that what is not named is known not to be
            there; of others it is unknown.
        producers: Other producers who state more about it, which is left out.
    """

    name: str
    package: str
    sections: Mapping[str, Mapping[str, Any]]
    whole: frozenset[tuple[str, str]] = frozenset()
    producers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One fact of both versions.

    Attributes:
        name: Which.
        first: Of the first version; `UNKNOWN` where it was not recorded, `ABSENT` where there is none.
        second: Of the second.
    """

    name: str
    first: Any
    second: Any

    @property
    def is_unknown(self) -> bool:
        """Whether neither was recorded."""
        return bool(self.first == self.second == UNKNOWN)

    @property
    def differs(self) -> bool:
        """Whether both may be different: what is unknown of one version only may be."""
        return bool(self.first != self.second)


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item that is in one dataset and not in the other.

    Attributes:
        sha256: Its digest.
        split: The split that it is in.
        withdrawn: When it was withdrawn; None where it was not.
        reason: Why; None where it was not, or the text was erased.
    """

    sha256: str
    split: str
    withdrawn: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class ItemChanges:
    """How the items of two datasets differ.

    Attributes:
        name: What the datasets are called.
        datasets: Their digests.
        left_out: Items of the first that the second has not; None where one of them cannot be looked into.
        added: Items of the second that the first has not; None likewise.
    """

    name: str
    datasets: tuple[str, str]
    left_out: tuple[Item, ...] | None
    added: tuple[Item, ...] | None


@dataclass(frozen=True, kw_only=True)
class LineageDiff:
    """What differs between the lineages of two model versions.

    Attributes:
        origins: Both.
        sections: Facts of both by section, in order.
        items: How the items of datasets differ that have the same name and another digest.
    """

    origins: tuple[Origin, Origin]
    sections: Mapping[str, tuple[Pair, ...]]
    items: tuple[ItemChanges, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether everything that is known of both is the same."""
        return not any(pair.differs for pairs in self.sections.values() for pair in pairs)


def compare_origins(first: Origin, second: Origin, items: Sequence[ItemChanges] = ()) -> LineageDiff:
    """Sets two origins side by side; nothing is concluded from what was not recorded."""
    sections = {}
    for title in dict.fromkeys((*first.sections, *second.sections)):
        names = dict.fromkeys(name for origin in (first, second) for name in origin.sections.get(title, ()))
        sections[title] = tuple(
            Pair(name=name, first=_fact(first, title, name), second=_fact(second, title, name)) for name in names
        )
    return LineageDiff(origins=(first, second), sections=sections, items=tuple(items))


def compare_items(
    name: str,
    datasets: tuple[str, str],
    splits: tuple[Mapping[str, str] | None, Mapping[str, str] | None],
    withdrawn: Mapping[str, tuple[str, str | None]],
) -> ItemChanges:
    """Compares the items of two datasets.

    Args:
        name: What the datasets are called.
        datasets: Their digests.
        splits: The split of each item by SHA-256; None for a dataset that cannot be looked into.
        withdrawn: When and why each withdrawn item was, by SHA-256.
    """
    first, second = splits
    if first is None or second is None:
        return ItemChanges(name=name, datasets=datasets, left_out=None, added=None)

    def only(some: Mapping[str, str], others: Mapping[str, str]) -> tuple[Item, ...]:
        gone = sorted(some.keys() - others.keys())
        marks = [withdrawn.get(sha256, (None, None)) for sha256 in gone]
        return tuple(
            Item(sha256=sha256, split=some[sha256], withdrawn=time, reason=reason)
            for sha256, (time, reason) in zip(gone, marks, strict=True)
        )

    return ItemChanges(name=name, datasets=datasets, left_out=only(first, second), added=only(second, first))


def diff_document(diff: LineageDiff) -> dict[str, Any]:
    """Returns the comparison as JSON-serialisable values."""
    first, second = diff.origins
    return {
        "models": [first.name, second.name],
        "packages": [first.package, second.package],
        "same_package": first.package == second.package,
        "same": diff.is_same,
        "sections": {
            title: [{"name": pair.name, "first": pair.first, "second": pair.second, "differs": pair.differs} for pair in pairs]
            for title, pairs in diff.sections.items()
        },
        "items": [
            {
                "name": one.name,
                "datasets": list(one.datasets),
                "left_out": _items(one.left_out),
                "added": _items(one.added),
            }
            for one in diff.items
        ],
        "left_out_imports": {origin.name: list(origin.producers) for origin in diff.origins},
    }


def _items(items: tuple[Item, ...] | None) -> Any:
    if items is None:
        return UNKNOWN
    return [{"sha256": i.sha256, "split": i.split, "withdrawn": i.withdrawn, "reason": i.reason} for i in items]


def _fact(origin: Origin, title: str, name: str) -> Any:
    is_whole = any(title == section and name.startswith(start) for section, start in origin.whole)
    missing = ABSENT if is_whole else UNKNOWN
    value = origin.sections.get(title, {}).get(name, missing)
    return UNKNOWN if value is None else value
