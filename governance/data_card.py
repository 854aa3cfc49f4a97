"""The data card: what a subject's data are, whose they are, and on which terms; every word of it from a record."""

from collections.abc import Iterable, Sequence

from governance.lineage_report.model import UNKNOWN, DataSource, Fact, ReportContent
from governance.model_records import plain_markdown, show_number


def data_card(content: ReportContent) -> str:
    """Returns the card as Markdown: one section for each dataset behind the subject; what was not recorded is ``unknown``.

    Args:
        content: The subject's lineage report.
    """
    intro = f"What {plain_markdown(content.title)} (`{plain_markdown(content.subject)}`) is, or was made from."
    if not content.data:
        intro += " No dataset is on record for it."
    lines = ["# Data card", "", intro, ""]
    for source in content.data:
        lines += _section(source, _checks(source, content))
    return "\n".join(lines)


def _section(source: DataSource, checks: Sequence[Fact]) -> list[str]:
    rows = [
        ("digest (SHA-256)", f"`{source.digest}`"),
        ("items", _count(source.num_items)),
        ("of these to train on", _count(source.num_train)),
        ("held out, for evaluation only", _count(source.num_holdout)),
        ("licences", _listed(source.licences)),
        ("attribution", plain_markdown(source.attribution) if source.attribution else UNKNOWN),
        ("taken from", _listed(source.sources)),
        ("brought in by", plain_markdown(source.importer) if source.importer else UNKNOWN),
        ("categories", _listed(source.labels)),
        *((("known only from lineage imported from", plain_markdown(source.imported_from)),) if source.imported_from else ()),
        *((f"check: {plain_markdown(fact.label)}", plain_markdown(fact.value)) for fact in checks),
    ]
    table = ["| what | on record |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return [f"## {plain_markdown(source.name or UNKNOWN)}", "", *table, ""]


def _checks(source: DataSource, content: ReportContent) -> list[Fact]:
    """Returns the figures of the steps that checked a dataset."""
    checkers = {edge.target for edge in content.edges if edge.source == source.subject}
    made = {edge.source for edge in content.edges if edge.target.startswith("validation:")}
    return [fact for table in content.metrics if table.subject in checkers & made for fact in table.facts]


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else show_number(number)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(plain_markdown(value) for value in values) or UNKNOWN
