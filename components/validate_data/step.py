"""Checks a dataset before anything is learned from it: manifest, media, and how they are spread over labels and splits."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from components.ports import Ports, StepReport
from components.validate_data.config import Config
from components.validate_data.data_docs import make_readable_offline, write_index
from components.validate_data.expectations import Outcome, run_suite
from components.validate_data.suite import default_suite_text, parse_suite
from governance.digest import tree_digest
from governance.lineage import Assertion
from model_core.data.dataset import Dataset
from model_core.data.media_facts import MediaFacts, examine
from model_core.data.split import HOLDOUT, TRAIN
from model_core.errors import BadDataError

FORMAT = "groundswell-validation/1"
_NAMED_ROWS = 3
_FAILED_ROWS_COLUMNS = ("expectation", "severity", "tolerated", "row", "shard", "path", "value", "beside")
_BESIDE = {"nearest_distance": "nearest", "leak_distance": "leak_nearest"}
"""Which column of the media table names the other picture of a pair."""


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
    tables = _tables(dataset, facts)
    ports.progress.update(len(dataset), len(dataset), f"checking {len(suite.expectations)} expectations")
    values = {"labels": [*dataset.labels, ""], "image_size": dataset.info.image_size}
    outcomes = run_suite(suite, tables, values, outputs["data_docs"])

    report = {
        "format": FORMAT,
        "success": not _failed(outcomes, "error"),
        "dataset": dataset.info.name,
        "dataset_digest": tree_digest(folder),
        "num_rows": len(dataset),
        "statistics": _statistics(dataset, facts, compared=len(dataset) <= config.compare_at_most),
        "suite": suite.name,
        "expectations": [_describe(outcome) for outcome in outcomes],
    }
    _write_json(validation / "report.json", report)
    failed_rows = _failed_rows(outcomes, tables)
    _write_failed_rows(validation / "failed_rows.csv", failed_rows)
    (validation / "suite.yaml").write_text(suite_text, encoding="utf-8")
    write_index(outputs["data_docs"], report, failed_rows)
    make_readable_offline(outputs["data_docs"])
    if not report["success"]:
        raise _failure(outcomes, tables, _keep(outputs, ports.scratch), _facts(dataset, outcomes))
    return _step_report(dataset, outcomes, report)


def _tables(dataset: Dataset, facts: Sequence[MediaFacts]) -> dict[str, pd.DataFrame]:
    """Returns the tables that a suite is about, each with a column `row`."""
    manifest = pd.DataFrame(dataset.columns)
    manifest.insert(0, "row", range(len(dataset)))
    records = [asdict(item) for item in facts]
    media = pd.DataFrame({name: pd.Series([record[name] for record in records], dtype=object) for name in records[0]})
    for name in _BESIDE:
        media[name] = media[name].astype("float64")
    return {"manifest": manifest, "media": media, "labels": _label_table(dataset)}


def _label_table(dataset: Dataset) -> pd.DataFrame:
    counts = Counter(zip(dataset.columns["label"], dataset.columns["split"], strict=True))
    labels = dataset.labels or [""]
    totals = {label: counts[label, TRAIN] + counts[label, HOLDOUT] for label in labels}
    largest = max(totals.values()) or 1
    return pd.DataFrame(
        {
            "row": range(len(labels)),
            "label": labels,
            "num_items": [totals[label] for label in labels],
            "num_train": [counts[label, TRAIN] for label in labels],
            "num_holdout": [counts[label, HOLDOUT] for label in labels],
            "share_of_largest": [totals[label] / largest for label in labels],
        }
    )


def _statistics(dataset: Dataset, facts: Sequence[MediaFacts], *, compared: bool) -> dict[str, Any]:
    columns = dataset.columns
    lengths = [len(caption) for caption in columns["caption"]]
    return {
        "items_by_split": dict(sorted(Counter(columns["split"]).items())),
        "items_by_label": dict(sorted(Counter(columns["label"]).items())),
        "items_by_licence": dict(sorted(Counter(columns["licence"]).items())),
        "size_bytes": sum(columns["size_bytes"]),
        "caption_characters": {"shortest": min(lengths), "longest": max(lengths), "mean": round(sum(lengths) / len(lengths), 3)},
        "captions_empty": sum(not caption.strip() for caption in columns["caption"]),
        "captions_distinct": len(set(columns["caption"])),
        "undecodable": sum(item.problem is not None for item in facts),
        "equal_pixels": sum(item.duplicate_of is not None for item in facts),
        "equal_pixels_across_splits": sum(item.leaks is not None for item in facts),
        "similar_pictures_searched": compared,
        "with_similar_picture": sum(item.nearest is not None for item in facts),
        "with_similar_picture_across_splits": sum(item.leak_nearest is not None for item in facts),
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


def _named_rows(outcome: Outcome, tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Returns the rows that do not meet an expectation, each with where it is and what was found."""
    table = tables[outcome.entry.table]
    beside = _BESIDE.get(str(outcome.kwargs.get("column")))
    found = []
    for failed in outcome.failed_rows:
        record = table.iloc[failed.row]
        found.append(
            {
                "row": failed.row,
                "shard": record.get("shard", ""),
                "path": record.get("path", record.get("label", "")),
                "value": failed.value,
                "beside": record[beside] if beside else "",
            }
        )
    return found or ([] if outcome.success else [{"row": "", "shard": "", "path": "", "value": outcome.observed, "beside": ""}])


def _failed_rows(outcomes: Sequence[Outcome], tables: Mapping[str, pd.DataFrame]) -> list[dict[str, str]]:
    """Returns every row that does not meet an expectation, those too that the expectation tolerates."""
    found = []
    for outcome in outcomes:
        about = {
            "expectation": _cell(outcome.entry.meaning),
            "severity": outcome.entry.severity,
            "tolerated": "yes" if outcome.success else "no",
        }
        found += [{**about, **{key: _cell(value) for key, value in row.items()}} for row in _named_rows(outcome, tables)]
    return found


def _write_failed_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _FAILED_ROWS_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _cell(value: object) -> str:
    """Returns a value as a cell that no spreadsheet takes for a formula, of a length that people can read."""
    text = str(value).replace("\0", "\\0")[:500]
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} and not isinstance(value, int | float) else text


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
    rows = _named_rows(failed[0], tables)
    named = "; ".join(
        f"{row['path']}: {_cell(row['value'])[:160]}"
        if row["row"] == ""
        else f"row {row['row']} ({row['path']}): {_cell(row['value'])[:160]}"
        for row in rows[:_NAMED_ROWS]
    )
    more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
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
