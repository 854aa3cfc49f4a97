"""Withdrawing items on the command line, and how other commands mark what that reaches."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from governance.identity import Role
from governance.lineage import ArtifactRef, StepIdentity, run_event
from infra.home import Home
from infra.identities import create_identity, first_identity
from infra.lineage import record_event
from infra.run_records import begin_run, end_run
from infra.tables import commitments
from model_core.data.dataset import Dataset
from tests.groundswell.conftest import Called, Cli
from tests.groundswell.test_models import FIRST, SECOND, register
from tests.model_core.data.toy import SIZE, lines, picture_folder

REASON = "the licence ended"
RUN = "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "pictures", lines(8))


@pytest.fixture
def dataset(cli: Cli, home: Home, source: Path, tmp_path: Path) -> Path:
    """A dataset on record."""
    called = cli("--home", home.path, "data", "import", source, "--out", tmp_path / "dataset", "--size", SIZE)
    assert called.exit_code == 0, called.stderr
    return tmp_path / "dataset"


@pytest.fixture
def items(dataset: Path) -> list[str]:
    return list(Dataset.open(dataset).columns["sha256"])


@pytest.fixture
def models(home: Home, dataset: Path, tmp_path: Path) -> tuple[str, str]:
    """Two models, of which the first was trained on the dataset."""
    package = register(home, tmp_path / "first", 1, weight=0.5, kid=0.5)
    register(home, tmp_path / "second", 2, weight=0.75, kid=0.25)
    from components.store import artifact_digest

    begin_run(home, run_id=RUN, pipeline="training", runner="subprocess", params={}, actor=first_identity(home.database))
    with home.database.unit_of_work() as uow:
        event = run_event(
            "COMPLETE",
            StepIdentity(run_id=RUN, pipeline="training", step="register_model"),
            time=uow.time,
            inputs=[ArtifactRef(kind="dataset", digest=artifact_digest("dataset", dataset))],
            outputs=[ArtifactRef(kind="package", digest=artifact_digest("package", package))],
        )
        record_event(uow, event)
    end_run(home, run_id=RUN, status="completed")
    return FIRST, SECOND


def withdraw(
    cli: Cli, home: Home, dataset: Path | str, *items: str, reason: str = REASON, more: tuple[object, ...] = ()
) -> Called:
    named = [word for item in items for word in ("--item", item)]
    return cli("--home", home.path, "--json", *more, "data", "withdraw", dataset, *named, "--reason", reason)


def test_a_withdrawal_lists_the_items_with_their_splits_and_all_that_is_reached(
    cli: Cli, home: Home, dataset: Path, items: list[str], models: tuple[str, str]
) -> None:
    called = withdraw(cli, home, dataset, items[0], items[-1])
    assert called.exit_code == 0, called.stderr
    document = called.document
    assert {item["sha256"]: item["split"] for item in document["items"]} == {items[0]: "train", items[-1]: "holdout"}
    assert [model["model"] for model in document["reached"]["models"]] == [FIRST]
    assert [run["run_id"] for run in document["reached"]["runs"]] == [RUN]
    (entry,) = cli("--home", home.path, "--json", "audit", "log", "--action", "dataset.withdrawn").document["entries"]
    assert entry["index"] == document["entries"][0]
    assert REASON not in json.dumps(entry)


def test_a_person_reads_what_was_withdrawn_and_reached(
    cli: Cli, home: Home, dataset: Path, items: list[str], models: tuple[str, str]
) -> None:
    arguments = ("--home", home.path, "data", "withdraw", dataset, "--item", items[0], "--reason", REASON)
    shown = cli(*arguments).stdout
    assert "1 item withdrawn" in shown
    for text in (items[0], "train", FIRST, RUN[:8], "Models reached: 1"):
        assert text in shown
    again = cli(*arguments)
    assert again.exit_code == 0
    assert f"UTC: {items[0]}" in again.stdout
    assert "nothing new to withdraw" in again.stdout
    assert FIRST in again.stdout


def test_the_dataset_may_be_named_by_its_digest_and_the_items_by_a_file(
    cli: Cli, home: Home, dataset: Path, items: list[str], tmp_path: Path
) -> None:
    digest = cli("--json", "data", "show", dataset).document["digest"]
    (tmp_path / "items.txt").write_text("\n".join([items[0], "", items[1]]) + "\n", encoding="utf-8")
    more = ("--items-from", tmp_path / "items.txt", "--item", items[2], "--reason", REASON)
    called = cli("--home", home.path, "--json", "data", "withdraw", digest[:12], *more)
    assert {item["sha256"] for item in called.document["items"]} == set(items[:3])


@pytest.mark.parametrize(
    ("named", "reason", "error"),
    [
        (["f" * 64], REASON, "holds no item " + "f" * 64),
        (["f00"], REASON, "'f00' is no item"),
        ([], REASON, "no item is named"),
        (None, " ", "'' is no reason"),
    ],
)
def test_what_cannot_be_withdrawn_is_bad_input(
    cli: Cli, home: Home, dataset: Path, items: list[str], named: list[str] | None, reason: str, error: str
) -> None:
    called = withdraw(cli, home, dataset, *(items[:1] if named is None else named), reason=reason)
    assert called.exit_code == 3
    assert error in called.document["error"]
    assert cli("--home", home.path, "--json", "audit", "log", "--action", "dataset.withdrawn").document["entries"] == []


def test_a_folder_that_was_never_recorded_is_bad_input(cli: Cli, home: Home, source: Path) -> None:
    assert withdraw(cli, home, source, "f" * 64).exit_code == 3


@pytest.mark.parametrize("content", [b"\xff\xfe", b"no digest\n"])
def test_a_file_of_something_else_is_bad_input(cli: Cli, home: Home, dataset: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "items.txt").write_bytes(content)
    arguments = ("--items-from", tmp_path / "items.txt", "--reason", REASON)
    assert cli("--home", home.path, "data", "withdraw", dataset, *arguments).exit_code == 3


def test_an_auditor_withdraws_nothing(cli: Cli, home: Home, dataset: Path, items: list[str]) -> None:
    actor = first_identity(home.database)
    create_identity(home.database, home.keys, name="Grace", role=Role.AUDITOR, actor=actor)
    called = withdraw(cli, home, dataset, items[0], more=("--as", "Grace"))
    assert called.exit_code == 5
    assert "data-scientist" in called.document["error"]


def test_models_say_what_of_their_data_was_withdrawn(
    cli: Cli, home: Home, dataset: Path, items: list[str], models: tuple[str, str]
) -> None:
    assert "withdrawn" not in cli("--home", home.path, "models", "list").stdout.lower()
    withdraw(cli, home, dataset, *items[:2])
    listed = cli("--home", home.path, "--json", "models", "list").document["models"]
    assert {model["model"]: model["withdrawn_items"] for model in listed} == {FIRST: 2, SECOND: 0}
    first, second = cli("--home", home.path, "models", "list").stdout.splitlines()[1:]
    assert "2 items" in first
    assert "items" not in second
    shown = cli("--home", home.path, "--json", "models", "show", FIRST).document
    assert shown["withdrawn_items"] == 2
    assert [(one["num_items"], one["reason"]) for one in shown["withdrawals"]] == [(2, REASON)]
    text = cli("--home", home.path, "models", "show", FIRST).stdout
    assert "2 items of its data" in text
    assert REASON in text
    assert REASON not in cli("--home", home.path, "models", "show", SECOND).stdout


def test_using_such_a_model_warns_in_one_line_and_goes_on(
    cli: Cli,
    home: Home,
    dataset: Path,
    items: list[str],
    models: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    class AskedError(Exception):
        """The pictures would be made now."""

    def ask(*_: Any, **__: Any) -> None:
        raise AskedError

    monkeypatch.setattr("pipelines.generation.generate", ask)
    withdraw(cli, home, dataset, items[0])
    for model, warnings in ((FIRST, 1), (SECOND, 0)):
        called = cli("--home", home.path, "generate", model, "--label", "cat", "--out", tmp_path / "out")
        assert "AskedError" in called.stderr
        told = [line for line in called.stderr.splitlines() if line.startswith("warning: ")]
        assert len(told) == warnings
        assert all("1 item of the data behind emoji-dit/1 was withdrawn" in line for line in told)


def test_a_dataset_shows_which_of_its_items_are_withdrawn(cli: Cli, home: Home, dataset: Path, items: list[str]) -> None:
    assert cli("--home", home.path, "--json", "data", "show", dataset).document["withdrawn"] == []
    withdraw(cli, home, dataset, items[1])
    (row,) = cli("--home", home.path, "--json", "data", "show", dataset).document["withdrawn"]
    assert (row["sha256"], row["split"], row["reason"]) == (items[1], "train", REASON)
    assert items[1] in cli("--home", home.path, "data", "show", dataset).stdout
    with home.database.unit_of_work() as uow:
        uow.connection.execute(delete(commitments))
    assert "(erased)" in cli("--home", home.path, "data", "show", dataset).stdout


def test_without_a_home_a_dataset_says_that_nobody_was_asked(cli: Cli, dataset: Path) -> None:
    shown = cli("data", "show", dataset)
    assert shown.exit_code == 0
    assert "not looked up" in shown.stdout
    assert cli("--json", "data", "show", dataset).document["withdrawn"] is None


def test_the_next_import_leaves_withdrawn_items_out_and_records_how_many(
    cli: Cli, home: Home, dataset: Path, items: list[str], source: Path, tmp_path: Path
) -> None:
    withdraw(cli, home, dataset, *items[:2])
    arguments = ("data", "import", source, "--out", tmp_path / "next", "--size", SIZE)
    document = cli("--home", home.path, "--json", *arguments).document
    assert (document["num_items"], document["num_withdrawn_left_out"], document["withdrawn"]) == (6, 2, [])
    entries = cli("--home", home.path, "--json", "audit", "log", "--action", "dataset.imported").document["entries"]
    assert [entry["details"]["num_withdrawn_left_out"] for entry in entries] == [0, 2]
    assert "2 withdrawn" in cli("--home", home.path, "data", "show", tmp_path / "next").stdout
    assert cli("--home", home.path, "audit", "verify").exit_code == 0


def test_checking_a_dataset_with_withdrawn_items_is_refused(cli: Cli, home: Home, dataset: Path, items: list[str]) -> None:
    withdraw(cli, home, dataset, items[0])
    called = cli("--home", home.path, "--json", "data", "validate", dataset)
    assert called.exit_code == 5
    assert f"holds 1 withdrawn item: {items[0]}" in called.document["error"]
    assert "data import" in called.document["hint"]
