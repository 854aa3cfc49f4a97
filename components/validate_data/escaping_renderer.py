"""Data Docs in which what stands in the data stays text: Great Expectations puts values into its pages unescaped."""

import copy
from html import escape
from typing import Any

from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer


class EscapingPageRenderer(ValidationResultsPageRenderer):  # type: ignore[misc]
    """Renders a page of validation results, with markup in values and arguments escaped."""

    def render(self, validation_results: Any) -> Any:
        """Returns the rendered page of an escaped copy of the results."""
        escaped = copy.deepcopy(validation_results)
        for single in escaped.results:
            single.result = _escaped(single.result)
            single.expectation_config.kwargs = _escaped(single.expectation_config.kwargs)
        return super().render(escaped)


def _escaped(value: Any) -> Any:
    """Returns a copy of nested lists and dictionaries with all strings in them escaped."""
    if isinstance(value, str):
        return escape(value, quote=False)
    if isinstance(value, dict):
        return {key: item if key == "batch_id" else _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value
