import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.runtime import RunContext
from governance.digest import tree_digest
from infra.home import Home
from infra.tables import steps
from model_core.errors import BadDataError
from tests.groundswell.conftest import Cli


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of pictures with a metadata.jsonl."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    lines = []
    for number in range(8):
        Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"noise {number}", "label": "ab"[number % 2]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_a_dataset_is_imported_recorded_and_shown(cli: Cli, home: Home, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    imported = cli("--home", home.path, "--json", "data", "import", pictures, "--out", out, "--size", 16)
    assert imported.exit_code == 0, imported.stderr
    document = imported.document
    assert document["num_items"] == 8
    assert set(document["labels"]) == {"a", "b"}
    assert document["digest"] == tree_digest(out)
    entries = cli("--home", home.path, "--json", "audit", "log", "--action", "dataset.imported").document["entries"]
    assert [entry["subject"] for entry in entries] == [f"dataset:{document['digest']}"]

    shown = cli("data", "show", out, "-o", tmp_path / "sheet.png")
    assert shown.exit_code == 0
    assert document["digest"] in shown.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 16
    assert cli("--json", "data", "show", out).document["contact_sheet"] == f"{out}-contact-sheet.png"
    assert tree_digest(out) == document["digest"]


def test_the_contact_sheet_never_lands_in_the_dataset(cli: Cli, home: Home, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    cli("--home", home.path, "data", "import", pictures, "--out", out, "--size", 16)
    called = cli("data", "show", out, "-o", out / "sheet.png")
    assert called.exit_code == 3
    assert "whose digest it would change" in called.stderr
    assert not (out / "sheet.png").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["import", "nothing-here", "--out", "x"], "error: there is no source 'nothing-here'"),
        (["import", "openmoji", "--out", "x", "--size", "3"], "error: a size of 3 pixels is not possible"),
        (["import", "openmoji", "--out", "x", "--categories", "flgs"], "error: "),
        (["show", "nothing-here"], "error: nothing-here is not a folder"),
        (["validate", "nothing-here"], "error: "),
        (["validate", "nothing-here", "--suite", "none.yaml"], "error: there is no suite file none.yaml"),
    ],
)
def test_what_cannot_be_used_is_bad_input(cli: Cli, home: Home, arguments: list[str], error: str) -> None:
    called = cli("--home", home.path, "--json", "data", *arguments)
    assert called.exit_code == 3, called.stderr
    assert called.stderr.startswith(error)
    assert called.document["exit_code"] == 3


def test_a_revoked_identity_imports_nothing(cli: Cli, home: Home, pictures: Path, tmp_path: Path) -> None:
    called = cli("--home", home.path, "--as", "nobody", "data", "import", pictures, "--out", tmp_path / "dataset")
    assert called.exit_code == 5
    assert not (tmp_path / "dataset").exists()


def refusing_step(run: RunContext, step: str, config: Mapping[str, Any], inputs: Mapping[str, Path]) -> None:
    """Stands for a validation that finds a row at fault, without the seconds that Great Expectations takes."""
    fingerprint = "f" * 64
    with run.home.database.unit_of_work() as uow:
        uow.connection.execute(
            steps.insert().values(run_id=run.run_id, step=step, status="failed", fingerprint=fingerprint, started=uow.time)
        )
    kept = run.home.work / fingerprint / "scratch" / "validation"
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "failed_rows.csv").write_text(
        "expectation,severity,tolerated,row,shard,path,value,beside\n"
        "Captions are not empty,error,no,3,s.tar,3.png,,\n"
        "Few are alike,warning,yes,4,s.tar,4.png,,\n",
        encoding="utf-8",
    )
    raise BadDataError("validation failed: row 3 (3.png)", hint="see the list")


def test_a_dataset_that_fails_the_suite_names_its_rows(
    cli: Cli, home: Home, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundswell.cli.validating.run_step", refusing_step)
    monkeypatch.setattr(Home, "begin_mlflow_schema", lambda self: None)
    out = tmp_path / "dataset"
    cli("--home", home.path, "data", "import", pictures, "--out", out, "--size", 16)
    called = cli("--home", home.path, "--json", "data", "validate", out)
    assert called.exit_code == 3, called.stderr
    assert not called.document["success"]
    assert called.document["failed_rows"][0]["path"] == "3.png"
    again = cli("--home", home.path, "data", "validate", out)
    assert "3.png" in again.stdout
    assert "4.png" not in again.stdout
    assert again.stderr.splitlines()[-2:] == ["error: validation failed: row 3 (3.png)", "hint: see the list"]
    assert [run["status"] for run in cli("--home", home.path, "--json", "runs", "list").document["runs"]] == ["failed", "failed"]


def test_the_data_card_of_a_dataset_goes_to_a_file_or_to_standard_output(
    cli: Cli, home: Home, pictures: Path, tmp_path: Path
) -> None:
    out, card = tmp_path / "dataset", tmp_path / "deep" / "DATA_CARD.md"
    assert cli("--home", home.path, "data", "import", pictures, "--out", out, "--size", 16).exit_code == 0
    printed = cli("--home", home.path, "data", "card", out)
    assert printed.exit_code == 0, printed.stderr
    assert printed.stdout.startswith("# Data card\n")
    assert cli("--home", home.path, "data", "card", out, "-o", card).exit_code == 0
    assert card.read_text(encoding="utf-8") == printed.stdout
    document = cli("--home", home.path, "--json", "data", "card", out).document
    assert (document["card"], document["datasets"]) == (printed.stdout, [document["subject"]])
