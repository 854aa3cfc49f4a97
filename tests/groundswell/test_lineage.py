import json
from pathlib import Path

import pytest

from infra.home import Home
from infra.tables import artifacts
from tests.groundswell.conftest import Cli

DIGEST = "d" * 64
SUBJECT = f"dataset:{DIGEST}"


@pytest.fixture
def traced(home: Home) -> Home:
    """A home with one dataset on record."""
    facts = {
        "name": "pictures",
        "importer": "folder",
        "num_items": 3,
        "num_train": 2,
        "num_holdout": 1,
        "labels": [],
        "licences": ["CC0-1.0"],
    }
    with home.database.unit_of_work() as uow:
        uow.connection.execute(
            artifacts.insert().values(digest=DIGEST, kind="dataset", location="gone", facts=json.dumps(facts), created=uow.time)
        )
        uow.append("dataset.imported", SUBJECT, {"num_items": 3})
    return home


def test_a_page_is_written_to_the_home_and_summed_up(cli: Cli, traced: Home) -> None:
    called = cli("--home", traced.path, "lineage", SUBJECT)
    assert called.exit_code == 0, called.stderr
    (page,) = traced.reports.iterdir()
    assert DIGEST in page.read_text(encoding="utf-8")
    assert DIGEST in called.stdout
    assert "verified" in called.stdout
    document = cli("--home", traced.path, "--json", "lineage", DIGEST[:10]).document
    assert (document["subject"], document["file"], document["ledger"]["state"]) == (SUBJECT, str(page), "verified")


@pytest.mark.parametrize("form", ["html", "json", "openlineage"])
def test_every_format_goes_to_a_file_or_to_standard_output(cli: Cli, traced: Home, tmp_path: Path, form: str) -> None:
    printed = cli("--home", traced.path, "lineage", SUBJECT, "--format", form, "-o", "-")
    written = cli("--home", traced.path, "lineage", SUBJECT, "--format", form, "-o", tmp_path / "deep" / "report")
    assert (printed.exit_code, written.exit_code) == (0, 0)
    assert (tmp_path / "deep" / "report").read_text(encoding="utf-8") == printed.stdout
    assert cli("--home", traced.path, "--json", "lineage", SUBJECT, "--format", form).exit_code == 0


def test_under_json_a_json_report_is_the_document(cli: Cli, traced: Home) -> None:
    assert cli("--home", traced.path, "--json", "lineage", SUBJECT, "--format", "json").document["subject"] == SUBJECT
    assert cli("--home", traced.path, "--json", "lineage", SUBJECT, "--format", "openlineage").document["events"] == []


@pytest.mark.parametrize("subject", ["nobody/1", "run:x", "emoji@production", "eeeeee", "\x1b[31m"])
def test_an_unknown_subject_is_bad_input(cli: Cli, traced: Home, subject: str) -> None:
    called = cli("--home", traced.path, "lineage", subject)
    assert called.exit_code == 3
    assert called.stderr.startswith("error: ")
    assert "\x1b" not in called.stderr


def test_a_file_that_was_not_made_here_is_told_as_such(cli: Cli, traced: Home) -> None:
    Path("picture.png").write_bytes(b"?")
    called = cli("--home", traced.path, "lineage", "picture.png")
    assert called.exit_code == 3
    assert "was not made here" in called.stderr
