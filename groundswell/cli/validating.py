"""The check of one dataset, as a run of its own that is recorded like every other."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.runtime import describe_error, run_step
from components.specs import STEPS
from components.store import WorkFolder, artifact_digest
from infra.errors import BadSettingError
from infra.runs import StepError, get_steps
from model_core.data.dataset import Dataset
from pipelines.datasets import record_dataset
from pipelines.recorded import recorded_run, shown
from pipelines.views import RunView

if TYPE_CHECKING:
    from infra.home import Home

PIPELINE = "validation"
STEP = "validate_data"
FAILED_ROWS = "failed_rows.csv"


@dataclass(frozen=True, kw_only=True)
class ValidationOutcome:
    """What a validation has come to.

    Attributes:
        run_id: The run that it was.
        error: Why the dataset was refused; None where it was not.
        reused: Whether the same dataset had been checked by the same suite before.
        summary: One line.
        report: The folder of the report.
        data_docs: The pages of Great Expectations.
        failed_rows: The rows that do not meet an expectation, tolerated ones too, as text by column.
    """

    run_id: str
    error: StepError | None
    reused: bool
    summary: str
    report: Path
    data_docs: Path | None
    failed_rows: tuple[dict[str, str], ...]


def validate_dataset(
    home: "Home", folder: Path, *, suite: Path | None = None, actor: str, on_view: Callable[[RunView], None]
) -> ValidationOutcome:
    """Checks a dataset through the runtime, so that its outcome is reused, recorded and found in MLflow like any step's.

    Args:
        home: The home.
        folder: The dataset.
        suite: A suite of expectations in place of the project's.
        actor: The identity that asks.
        on_view: Called about five times a second with how far it has come.

    Raises:
        BadDataError: The folder is no dataset.
        BadSettingError: There is no such suite file.
        Exception: Whatever kept the step from checking at all.
    """
    if suite is not None and not suite.is_file():
        raise BadSettingError(f"there is no suite file {suite}", hint="components/validate_data/suite.yaml is one to start from")
    Dataset.open(folder)
    given = {"suite": str(suite)} if suite else {}
    config: dict[str, Any] = STEPS[STEP].config_class().model_validate(given).model_dump(mode="json")
    record_dataset(home, folder, actor=actor)
    home.begin_mlflow_schema()
    inputs = [f"dataset:{artifact_digest('dataset', folder)}"]
    problem: StepError | None = None
    try:
        with recorded_run(home, pipeline=PIPELINE, runner="in-process", params={STEP: config}, actor=actor, inputs=inputs) as run:
            run_id = run.run_id
            with shown(run, steps=(STEP,), on_view=on_view):
                run_step(run, STEP, config, {"dataset": folder})
    except Exception as error:
        if _kept(home, run_id) is None:
            raise
        problem = describe_error(error)
    return _outcome(home, run_id, problem)


def _find_work(home: "Home", run_id: str) -> WorkFolder | None:
    with home.database.read() as connection:
        rows = get_steps(connection, run_id)
    return WorkFolder(home.work / rows[0].fingerprint) if rows else None


def _kept(home: "Home", run_id: str) -> Path | None:
    """Returns where a step that refused the dataset kept its report; None where it did not come that far."""
    work = _find_work(home, run_id)
    kept = work.scratch / "validation" if work else None
    return kept if kept is not None and (kept / FAILED_ROWS).is_file() else None


def _outcome(home: "Home", run_id: str, problem: StepError | None) -> ValidationOutcome:
    with home.database.read() as connection:
        row = get_steps(connection, run_id)[0]
    work = WorkFolder(home.work / row.fingerprint)
    report = work.scratch / "validation" if problem else work.output("validation")
    data_docs = (report / "data_docs" if problem else work.output("data_docs")) / "index.html"
    return ValidationOutcome(
        run_id=run_id,
        error=problem,
        reused=row.status == "reused",
        summary=str(row.record.get("summary", "")),
        report=report,
        data_docs=data_docs if data_docs.is_file() else None,
        failed_rows=_read_rows(report / FAILED_ROWS),
    )


def _read_rows(path: Path) -> tuple[dict[str, str], ...]:
    with path.open(encoding="utf-8", newline="") as file:
        return tuple({str(key): str(value) for key, value in row.items()} for row in csv.DictReader(file))
