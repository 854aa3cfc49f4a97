"""Running a suite with Great Expectations: offline, without analytics, and with Data Docs as HTML."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by Great Expectations when it is imported; with it unset, it would post usage data.
os.environ["GX_ANALYTICS_ENABLED"] = "False"

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig

from components.validate_data.engine import ROW, Places, domain_columns
from components.validate_data.escaping_renderer import EscapingPageRenderer
from components.validate_data.suite import Suite, SuiteEntry, with_values
from model_core.errors import BadDataError

_DOCS_SITE = "data_docs"
_RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "unexpected_index_column_names": [ROW],
    "return_unexpected_index_query": False,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one expectation.

    Attributes:
        entry: The expectation.
        kwargs: Its arguments, with values for ``$names``.
        success: Whether it is met.
        num_failed: How many rows do not meet it; may be more than none where the expectation tolerates some.
        observed: What was found, for an expectation about a whole column.
        columns: The table's columns that it is about; none where it is about the table.
        failed: The places in the table of all rows that do not meet it, ascending.
    """

    entry: SuiteEntry
    kwargs: Mapping[str, Any]
    success: bool
    num_failed: int
    observed: Any
    columns: Sequence[str]
    failed: Places


def run_suite(suite: Suite, tables: Mapping[str, pd.DataFrame], values: Mapping[str, Any], docs: Path) -> list[Outcome]:
    """Checks tables against a suite and writes Data Docs.

    Args:
        suite: What to expect.
        tables: The tables by name; each has a column ``row`` and a default index.
        values: Values for ``$names`` in the suite.
        docs: The folder for the HTML pages; `docs/index.html` is the first.

    Returns:
        The outcomes, in the suite's order.

    Raises:
        BadDataError: An expectation does not exist, has wrong arguments, or cannot be run.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for site in list(context.get_site_names()):
        context.delete_data_docs_site(site)
    context.add_data_docs_site(site_name=_DOCS_SITE, site_config=_site(docs))
    source = context.data_sources.add_groundswell_tables("dataset")
    outcomes: dict[int, Outcome] = {}
    for name, table in tables.items():
        entries = {number: entry for number, entry in enumerate(suite.expectations) if entry.table == name}
        if not entries:
            continue
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        gx_suite = gx.ExpectationSuite(name=f"{suite.name}-{name}")
        all_kwargs = {number: with_values(entry.kwargs, values) for number, entry in entries.items()}
        for number, entry in entries.items():
            gx_suite.add_expectation(_expectation(number, entry, all_kwargs[number]))
        context.suites.add(gx_suite)
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=gx_suite))
        result = definition.run(batch_parameters={"dataframe": table}, result_format=dict(_RESULT_FORMAT))
        for single in result.results:
            number = single.expectation_config.meta["number"]
            _check_ran(entries[number], single)
            failed = source.get_execution_engine().failed_places(single.expectation_config.to_domain_obj(), _RESULT_FORMAT)
            outcomes[number] = _outcome(entries[number], all_kwargs[number], single, failed)
    context.build_data_docs(site_names=[_DOCS_SITE])
    return [outcomes[number] for number in sorted(outcomes)]


def _site(docs: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "site_section_builders": {
            "expectations": "None",
            "profiling": "None",
            "validations": {
                "class_name": "DefaultSiteSectionBuilder",
                "source_store_name": "validation_results_store",
                "renderer": {"module_name": EscapingPageRenderer.__module__, "class_name": EscapingPageRenderer.__name__},
            },
        },
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
    }


def _expectation(number: int, entry: SuiteEntry, kwargs: Mapping[str, Any]) -> Any:
    """Builds an expectation, with its meaning as a note in Data Docs."""
    kind = getattr(gxe, "".join(part.capitalize() for part in entry.type.split("_")), None)
    if kind is None:
        raise BadDataError(f"Great Expectations has no expectation {entry.type!r}", hint="correct `type` in the suite")
    try:
        return kind(
            **kwargs, meta={"number": number}, notes=entry.meaning, severity={"error": "critical"}.get(entry.severity, "warning")
        )
    except (TypeError, ValueError) as error:
        line = " ".join(str(error).split())
        raise BadDataError(
            f"the suite's {entry.type} ({entry.meaning}) has wrong kwargs: {line}", hint="correct `kwargs` in the suite"
        ) from error


def _check_ran(entry: SuiteEntry, single: Any) -> None:
    if message := _exception_message(single.exception_info):
        raise BadDataError(f"the suite's {entry.type} ({entry.meaning}) cannot be run: {message}", hint="correct it in the suite")


def _outcome(entry: SuiteEntry, kwargs: Mapping[str, Any], single: Any, failed: Places) -> Outcome:
    return Outcome(
        entry=entry,
        kwargs=kwargs,
        success=bool(single.success),
        num_failed=int(single.result.get("unexpected_count", 0 if single.success else 1)),
        observed=single.result.get("observed_value"),
        columns=domain_columns(kwargs),
        failed=failed,
    )


def _exception_message(info: Mapping[str, Any]) -> str:
    """Returns what Great Expectations says went wrong, whether it says it once or for each metric."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            return " ".join(str(entry.get("exception_message")).split())
    return ""
