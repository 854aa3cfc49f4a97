"""Two or more of a kind side by side: names down, items across, differences marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from governance.model_diff.model import flatten
from groundswell.cli.output import format_number

__all__ = ["Comparison", "compare", "flatten", "show_value"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Values by name for each of several items.

    Attributes:
        items: What is compared.
        values: One value an item, by name; None where an item has none.
    """

    items: tuple[str, ...]
    values: Mapping[str, tuple[Any, ...]]

    @property
    def differing(self) -> dict[str, tuple[Any, ...]]:
        """The values that are not the same for all items."""
        return {name: row for name, row in self.values.items() if any(value != row[0] for value in row[1:])}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Returns ``{name: {item: value}}``."""
        return {name: dict(zip(self.items, row, strict=True)) for name, row in self.values.items()}

    def rows(self, *, only_differing: bool = False) -> list[tuple[str, ...]]:
        """Returns the rows of a table; for two items of numbers the last cell is the change."""
        chosen = self.differing if only_differing else self.values
        return [(name, *map(show_value, row), *_change(row)) for name, row in chosen.items()]


def compare(items: Sequence[str], mappings: Sequence[Mapping[str, Any]]) -> Comparison:
    """Sets flat mappings side by side; names in the order in which they first appear."""
    names = dict.fromkeys(name for mapping in mappings for name in mapping)
    return Comparison(items=tuple(items), values={name: tuple(mapping.get(name) for mapping in mappings) for name in names})


def show_value(value: Any) -> str:
    """Returns a value as a cell."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return format_number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(show_value, value))
    return str(value)


def _change(row: tuple[Any, ...]) -> tuple[str, ...]:
    if len(row) != 2:
        return ()
    first, second = row
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in row) or first == second:
        return ("",)
    return (f"{second - first:+.3g}",)
