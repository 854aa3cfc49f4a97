"""`groundswell lineage diff`: what two model versions were made from, side by side."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from governance.withdrawal import items_text
from groundswell.cli.comparing import show_value
from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.metrics import interval_of, without_bounds
from groundswell.cli.output import echo_json, echo_table, format_time, heading, printable, shorten

if TYPE_CHECKING:
    from governance.lineage_diff import Item, ItemChanges, LineageDiff, Pair

_MAX_ITEMS = 10
_DIGEST_CHARACTERS = 16
_DIGEST = re.compile(r"[0-9a-f]{64}")


@click.command(
    cls=Command,
    name="diff",
    examples=(
        "groundswell lineage diff groundswell-dit/1 groundswell-dit/2",
        "groundswell --json lineage diff groundswell-dit@production groundswell-dit/7",
    ),
)
@click.argument("first", metavar="MODEL")
@click.argument("second", metavar="MODEL")
@pass_invocation
def diff(invocation: Invocation, first: str, second: str) -> None:
    """Compare what two models were made from: data and their items, source, environment, seeds, parameters, evaluation.

    MODEL is name/version or name@alias. Only what was recorded is compared: what was not is unknown, and never guessed from the
    other model. `models diff` compares what they do, too.
    """
    from governance.lineage_diff import diff_document
    from infra.lineage_diff import diff_lineage
    from infra.model_versions import find_version

    home = invocation.open_home()
    versions = [find_version(home.database, model) for model in (first, second)]
    found = diff_lineage(home.database, *versions, datasets=home.datasets)
    if invocation.as_json:
        echo_json(diff_document(found))
    else:
        one, other = found.origins
        if one.package == other.package:
            click.echo("both are the same package, byte for byte")
        print_lineage(found)


def print_lineage(found: "LineageDiff", *, without: Sequence[str] = ()) -> None:
    """Prints what differs between two lineages.

    Args:
        found: What was found.
        without: Sections to leave out.
    """
    one, other = found.origins
    sections = {title: pairs for title, pairs in found.sections.items() if title not in without}
    for title, pairs in sections.items():
        names = without_bounds({pair.name: 0.0 for pair in pairs})
        rows = [(pair.name, *_values(pair, pairs)) for pair in pairs if pair.differs and pair.name in names]
        if rows:
            heading(title.capitalize())
            echo_table(("", one.name, other.name), rows, indent="  ")
    for changes in found.items:
        _print_items(changes)
    if found.is_same:
        click.echo("everything that is known of how they were made is the same")
    same = [f"{title} ({count})" for title, count in _num_same(sections).items()]
    unknown = [f"{title}: {pair.name}" for title, pairs in sections.items() for pair in pairs if pair.is_unknown]
    click.echo()
    for label, values in (("the same for both", same), ("unknown for both", unknown)):
        if values:
            click.echo(click.wrap_text(f"{label}: {', '.join(values)}", width=100, subsequent_indent="  "))
    for origin in found.origins:
        if origin.producers:
            click.echo(f"left out: what was imported about {origin.name} from {printable(', '.join(origin.producers))}")


def _values(pair: "Pair", pairs: "Sequence[Pair]") -> tuple[str, str]:
    """Returns both values, each with the interval around it that stands among the pairs."""
    shown = []
    for side in ("first", "second"):
        value = getattr(pair, side)
        numbers = {one.name: getattr(one, side) for one in pairs if isinstance(getattr(one, side), float)}
        interval = interval_of(numbers, pair.name) if isinstance(value, float) else None
        shown.append(_shown(value) + (f" ({show_value(interval[0])} to {show_value(interval[1])})" if interval else ""))
    return shown[0], shown[1]


def _num_same(sections: "Mapping[str, Sequence[Pair]]") -> dict[str, int]:
    counts = {title: sum(not pair.differs and not pair.is_unknown for pair in pairs) for title, pairs in sections.items()}
    return {title: count for title, count in counts.items() if count}


def _print_items(changes: "ItemChanges") -> None:
    heading(f"Items of {printable(changes.name)}")
    if changes.left_out is None or changes.added is None:
        click.echo("  unknown: the folder of one of the datasets is gone or was changed")
        return
    if not changes.left_out and not changes.added:
        click.echo("  the same items, recorded differently")
    for items, words in ((changes.left_out, "left out"), (changes.added, "added")):
        if items:
            withdrawn = sum(item.withdrawn is not None for item in items)
            click.echo(f"  {items_text(len(items))} {words}" + (f", {withdrawn:,} of them withdrawn" if withdrawn else ""))
            ordered = sorted(items, key=lambda item: (item.withdrawn is None, item.sha256))
            echo_table(("sha256", "split", "withdrawn"), [_item_row(item) for item in ordered[:_MAX_ITEMS]], indent="    ")
            if len(items) > _MAX_ITEMS:
                click.echo(f"    ... and {len(items) - _MAX_ITEMS:,} more, in the document that --json prints")


def _item_row(item: "Item") -> tuple[str, str, str]:
    if item.withdrawn is None:
        return item.sha256, item.split, ""
    return item.sha256, item.split, f"{format_time(item.withdrawn)} UTC: {item.reason or 'the reason was erased'}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return shorten("; ".join(f"{name} {_shown(one)}" for name, one in value.items()))
    text = show_value(value)
    return f"{text[:_DIGEST_CHARACTERS]}…" if _DIGEST.fullmatch(text) else shorten(text)
