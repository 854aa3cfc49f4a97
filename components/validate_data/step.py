"""Checks a dataset before anything is learned from it: manifest, media, and how they are spread over labels and splits."""

import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from components.ports import Ports, StepReport
from components.validate_data.config import Config
from components.validate_data.data_docs import make_readable_offline, write_index
from components.validate_data.expectations import Outcome, run_suite
from components.validate_data.failed_rows import cell, named_rows, write_failed_rows
from components.validate_data.suite import Suite, default_suite_text, parse_suite
from components.validate_data.tables import statistics_of, tables_of
from governance.digest import tree_digest
from governance.lineage import Assertion
from model_core.data.dataset import Dataset
from model_core.data.media_facts import examine
from model_core.errors import BadDataError

FORMAT = "groundswell-validation/1"
_NAMED_ROWS = 3


class ValidationFailedError(BadDataError):
    """Data do not meet an expectation of severity "error".

    Args:
        diagnosis: One line that names the first rows.
        hint: Where all of them are.
        facts: What lineage tells of the data, as `StepReport.facts`.
    """

    def __init__(self, diagnosis: str, *, hint: str, facts: Mapping[str, Any]) -> None:
        super().__init__(diagnosis, hint=hint)
        self.facts = facts


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Validates `inputs["dataset"]`.

    Writes to `outputs["validation"]`: `report.json`, `failed_rows.csv` and `suite.yaml` as it was used; to
    `outputs["data_docs"]`: HTML pages.

    Raises:
        BadDataError: The dataset cannot be opened, or the suite is wrong.
        ValidationFailedError: An expectation of severity "error" is not met; `ports.scratch / "validation"` keeps the report.
    """
    folder, validation = inputs["dataset"], outputs["validation"]
    suite_text = config.suite or default_suite_text()
    suite = parse_suite(suite_text)
    dataset = Dataset.open(folder)
    facts = examine(
        dataset,
        radius=config.similar_within,
        compare_at_most=config.compare_at_most,
        progress=lambda done, total: ports.progress.update(done, total, "reading media"),
    )
    tables = tables_of(dataset, facts)
    ports.progress.update(len(dataset), len(dataset), f"checking {len(suite.expectations)} expectations")
    values = {"labels": [*dataset.labels, ""], "image_size": dataset.info.image_size}
    outcomes = run_suite(suite, tables, values, outputs["data_docs"])

    statistics = statistics_of(dataset, facts, compared=len(dataset) <= config.compare_at_most)
    report = report_of(dataset, suite, outcomes, statistics, dataset_digest=tree_digest(folder))
    _write_json(validation / "report.json", report)
    shown = write_failed_rows(validation / "failed_rows.csv", outcomes, tables)
    (validation / "suite.yaml").write_text(suite_text, encoding="utf-8")
    write_index(outputs["data_docs"], report, shown)
    make_readable_offline(outputs["data_docs"])
    if not report["success"]:
        raise _failure(outcomes, tables, _keep(outputs, ports.scratch), _facts(dataset, outcomes))
    return _step_report(dataset, outcomes, report)


def report_of(
    dataset: Dataset, suite: Suite, outcomes: Sequence[Outcome], statistics: Mapping[str, Any], *, dataset_digest: str
) -> dict[str, Any]:
    """Returns what goes into `report.json`."""
    return {
        "format": FORMAT,
        "success": not _failed(outcomes, "error"),
        "dataset": dataset.info.name,
        "dataset_digest": dataset_digest,
        "num_rows": len(dataset),
        "statistics": dict(statistics),
        "suite": suite.name,
        "expectations": [_describe(outcome) for outcome in outcomes],
    }


def _failed(outcomes: Sequence[Outcome], severity: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if not outcome.success and outcome.entry.severity == severity]


def _describe(outcome: Outcome) -> dict[str, Any]:
    return {
        "table": outcome.entry.table,
        "meaning": outcome.entry.meaning,
        "type": outcome.entry.type,
        "kwargs": dict(outcome.kwargs),
        "severity": outcome.entry.severity,
        "success": outcome.success,
        "num_failed": outcome.num_failed,
        "observed": outcome.observed,
    }


def _assertion(outcome: Outcome) -> Assertion:
    """Returns an outcome as lineage tells it to others."""
    entry = outcome.entry
    return Assertion(
        assertion=entry.type,
        success=outcome.success,
        column=f"{entry.table}.{outcome.kwargs['column']}" if "column" in outcome.kwargs else None,
        severity="warn" if entry.severity == "warning" else "error",
        description=entry.meaning,
    )


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)
    path.write_text(f"{text}\n", encoding="utf-8")


def _keep(outputs: Mapping[str, Path], scratch: Path) -> Path:
    """Copies the report to where it survives the step's failure."""
    kept = scratch / "validation"
    partial = scratch / "validation.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(outputs["validation"], partial)
    shutil.copytree(outputs["data_docs"], partial / "data_docs")
    shutil.rmtree(kept, ignore_errors=True)
    partial.replace(kept)
    return kept


def _failure(
    outcomes: Sequence[Outcome], tables: Mapping[str, pd.DataFrame], kept: Path, facts: Mapping[str, Any]
) -> ValidationFailedError:
    """Returns an error that names the first rows of the first expectation that is not met."""
    failed = _failed(outcomes, "error")
    rows = islice(named_rows(failed[0], tables), _NAMED_ROWS)
    named = "; ".join(
        f"{row['path']}: {cell(row['value'])[:160]}"
        if row["row"] == ""
        else f"row {row['row']} ({row['path']}): {cell(row['value'])[:160]}"
        for row in rows
    )
    left = len(failed[0].failed) - _NAMED_ROWS
    more = f" and {left} more" if left > 0 else ""
    others = f"; {len(failed) - 1} other expectations fail too" if len(failed) > 1 else ""
    return ValidationFailedError(
        f"validation failed: {failed[0].entry.meaning!r}: {failed[0].num_failed} failed: {named}{more}{others}",
        hint=f"all failed rows are listed in {kept / 'failed_rows.csv'}; pages: {kept / 'data_docs' / 'index.html'}",
        facts=facts,
    )


def _facts(dataset: Dataset, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns what lineage tells of the data, whether they passed or not."""
    return {
        "assertions": [_assertion(outcome).to_dict() for outcome in outcomes],
        "licences": list(dataset.info.licences),
        "attribution": dataset.info.attribution,
    }


def _step_report(dataset: Dataset, outcomes: Sequence[Outcome], report: Mapping[str, Any]) -> StepReport:
    warnings = _failed(outcomes, "warning")
    met = sum(outcome.success for outcome in outcomes)
    metrics = {
        "num_rows": len(dataset),
        "num_expectations": len(outcomes),
        "num_failed_expectations": len(outcomes) - met,
        "num_failed_rows": sum(outcome.num_failed for outcome in outcomes if not outcome.success),
    }
    text = f"{len(dataset):,} items meet {met} of {len(outcomes)} expectations"
    return StepReport(
        metrics={key: float(value) for key, value in metrics.items()},
        summary=f"{text}; {len(warnings)} {'warning' if len(warnings) == 1 else 'warnings'}" if warnings else text,
        facts={
            "dataset_digest": report["dataset_digest"],
            "statistics": report["statistics"],
            "warnings": [f"{outcome.entry.meaning}: {outcome.num_failed} rows do not" for outcome in warnings],
            **_facts(dataset, outcomes),
        },
        artifacts={"validation": ("report.json", "failed_rows.csv", "suite.yaml"), "data_docs": (".",)},
    )
