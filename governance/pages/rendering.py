"""Makes pages from templates: everything is escaped, and nothing that no page may hold gets through."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_FORBIDDEN = frozenset("\x7f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") | {chr(c) for c in range(0xD800, 0xE000)}


def page_environment(package: str) -> "Environment":
    """Returns an environment for the templates of a package and those that pages share.

    Args:
        package: The package that holds the templates.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("governance.pages", ".")]),
        autoescape=select_autoescape(default_for_string=True, default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = moment
    environment.filters["printable"] = printable
    return environment


def moment(time: str | None) -> str:
    """Shortens an RFC 3339 time in UTC to the second: ``2026-11-22 20:43:57 UTC``."""
    if not time:
        return "unknown"
    return f"{time[:10]} {time[11:19]} UTC" if time.endswith("Z") and len(time) >= 20 else time


def printable(text: str) -> str:
    """Replaces characters that no HTML page may hold, and those that make text read in another order than it is stored."""
    return "".join("\ufffd" if (char < " " and char not in "\t\n") or char in _FORBIDDEN else char for char in text)
