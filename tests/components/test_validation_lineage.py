"""What lineage and reports tell of data that were checked, with the real step in a home."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from components.runtime import RunContext, run_step
from governance.lineage_report.html import render_html
from governance.lineage_report.model import FactTable
from infra.home import Home
from infra.identities import first_identity
from infra.ledger_verification import verify_ledger
from infra.lineage import load_events
from infra.lineage_report import build_report
from infra.run_records import begin_run, end_run
from model_core.data.importing import import_dataset
from model_core.errors import BadDataError
from tests.model_core.data.toy import SIZE, change_manifest, lines, picture_folder
from tests.openlineage_schemas import Schemas

# Great Expectations formats its own annotations when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PendingDeprecationWarning")


def validate(home: Home, dataset: Path, *, fails: bool) -> tuple[str, dict[str, Any]]:
    """Runs the step; returns the run, and what its last event says of the dataset."""
    actor, run_id = first_identity(home.database), str(uuid.uuid4())
    begin_run(home, run_id=run_id, pipeline="training", runner="in-process", params={}, actor=actor)
    run = RunContext(home=home, run_id=run_id, pipeline="training", actor=actor)
    if fails:
        with pytest.raises(BadDataError, match=r"^validation failed"):
            run_step(run, "validate_data", {}, {"dataset": dataset})
    else:
        run_step(run, "validate_data", {}, {"dataset": dataset})
    end_run(home, run_id=run_id, status="failed" if fails else "completed")
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()
    with home.database.read() as connection:
        started, event = load_events(connection, run_ids=[run_id])
    assert (started["eventType"], event["eventType"]) == ("START", "FAIL" if fails else "COMPLETE")
    (used,) = event["inputs"]
    return run_id, used


def checked(home: Home, run_id: str) -> FactTable:
    """Returns what the run's report says of the checks, after making sure that the page says it."""
    report = build_report(home.database, f"run:{run_id}", home=home.path)
    page = render_html(report)
    (table,) = report.checks
    assert "Checks of the data" in page
    assert all(fact.label in page and fact.value in page for fact in table.facts)
    return table


def test_data_that_are_refused_tell_which_expectations_they_do_not_meet(home: Home, tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", lines(12, text="", licence="NOASSERTION"))
    import_dataset(str(folder), tmp_path / "dataset", size=SIZE, workers=1)
    _, passed = validate(home, tmp_path / "dataset", fails=False)
    change_manifest(tmp_path / "dataset", "size_bytes", 2, 60)
    run_id, refused = validate(home, tmp_path / "dataset", fails=True)

    def unmet(used: dict[str, Any]) -> dict[str, str]:
        assertions = used["inputFacets"]["dataQualityAssertions"]["assertions"]
        return {one["description"]: one["severity"] for one in assertions if not one["success"]}

    warnings = unmet(passed)
    assert len(warnings) == 2
    assert set(warnings.values()) == {"warn"}
    assert unmet(refused) == {
        **warnings,
        "Every item can be read and decoded": "error",
        "The bytes are those that the manifest describes": "error",
    }
    assert refused["facets"]["groundswell_licences"] == passed["facets"]["groundswell_licences"]
    (title, *facts), num = (checked(home, run_id).facts, len(passed["inputFacets"]["dataQualityAssertions"]["assertions"]))
    assert (title.label, title.value) == ("Checks that hold", f"{num - 4} of {num}")
    assert {fact.label: fact.value for fact in facts} == {
        **dict.fromkeys(warnings, "does not hold (a warning)"),
        "Every item can be read and decoded": "does not hold: the data are refused",
        "The bytes are those that the manifest describes": "does not hold: the data are refused",
    }


def test_a_failed_validation_holds_to_the_published_schemas(home: Home, tmp_path: Path) -> None:
    schemas = Schemas()
    folder = picture_folder(tmp_path / "pictures", lines(12))
    import_dataset(str(folder), tmp_path / "dataset", size=SIZE, workers=1)
    change_manifest(tmp_path / "dataset", "size_bytes", 2, 60)
    validate(home, tmp_path / "dataset", fails=True)
    with home.database.read() as connection:
        for event in load_events(connection):
            schemas.check_event(event)


def test_a_dataset_that_cannot_be_opened_was_not_checked(home: Home, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    actor, run_id = first_identity(home.database), str(uuid.uuid4())
    begin_run(home, run_id=run_id, pipeline="training", runner="in-process", params={}, actor=actor)
    with pytest.raises(BadDataError):
        run_step(
            RunContext(home=home, run_id=run_id, pipeline="training", actor=actor),
            "validate_data",
            {},
            {"dataset": tmp_path / "dataset"},
        )
    assert build_report(home.database, f"run:{run_id}", home=home.path).checks == ()
