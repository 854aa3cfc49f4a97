"""What the facets of another producer's event say of the dataset or job that it describes, for people."""

from collections.abc import Callable, Mapping
from typing import Any

from governance.lineage import Event
from governance.lineage_report.model import Fact

_MAX_CHARACTERS = 400


def described(event: Event) -> list[Fact]:
    """Returns what an event of static lineage says of its dataset or job; facets of other kinds are in the event itself.

    Args:
        event: An event that was checked; its facets hold anything.
    """
    about = event["job"] if "job" in event else event["dataset"]
    facets: Mapping[str, Any] = about.get("facets", {})
    found = ((label, _text(read, facets.get(name))) for name, label, read in _FACETS)
    return [Fact(label=label, value=value) for label, value in found if value]


def _text(read: Callable[[Any], Any], facet: Any) -> str:
    try:
        value = read(facet)
        text = ", ".join(value) if isinstance(value, list) else value
    except (KeyError, TypeError, AttributeError):
        return ""
    if not isinstance(text, str):
        return ""
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]} …"


_FACETS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("documentation", "Description", lambda facet: facet["description"]),
    ("version", "Version", lambda facet: facet["datasetVersion"]),
    ("ownership", "Owners", lambda facet: [owner["name"] for owner in facet["owners"]]),
    ("dataSource", "Data source", lambda facet: facet["uri"]),
    ("schema", "Fields", lambda facet: [field["name"] for field in facet["fields"]]),
    ("lifecycleStateChange", "Last change", lambda facet: facet["lifecycleStateChange"].lower()),
    ("sourceCodeLocation", "Source code", lambda facet: facet["url"]),
)
