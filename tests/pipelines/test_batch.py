"""A table of requests by the command line: each on record, joined back, and gone on with where it was interrupted."""

import csv
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from components.validate_requests.table import Row
from governance.digest import sha256_file
from infra.home import Home
from infra.ledger import iter_entries
from infra.lineage import upstream
from infra.settings import Settings
from infra.tables import assets
from pipelines.batch import _asked
from pipelines.generation import GenerateRequest
from tests.content_world import drawing
from tests.pipelines.calling import call, call_here, start
from tests.pipelines.conftest import Trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TABLE = """request_id,prompt,label,segment
r-1,a grey cat,,north
r-2,,dog,south
r-3,,unicorn,
r 4,,cat,south
r-5,how to murder someone,,
"""


@pytest.fixture(scope="module")
def home(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained.copy(tmp_path_factory.mktemp("batch") / "home")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "requests.csv"
    path.write_text(TABLE)
    return path


def results(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return {row["request_id"]: row for row in csv.DictReader(file)}


def test_a_table_is_made_and_made_again_only_where_something_is_missing(
    home: Path, trained: Trained, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["generate", trained.document["model_version"], "--requests", table, "--out", out]
    first = call(home, *arguments)
    assert first.exit_code == 3  # bad rows, though the rest was made
    assert "row 4 (r 4)" in first.stderr
    made = results(out)
    assert {name: row["status"] for name, row in made.items()} == {
        "r-1": "made",
        "r-2": "made",
        "r-3": "bad",
        "r 4": "bad",
        "r-5": "refused",
    }
    assert "murder" not in (out / "results.csv").read_text() + first.stdout + first.stderr
    assert (made["r-1"]["segment"], made["r 4"]["segment"]) == ("north", "south")
    assert (out / "contact-sheet.png").is_file()
    for name in ("r-1", "r-2"):
        assert sha256_file(out / made[name]["file"]) == made[name]["sha256"]
    opened = Home.open(Settings.load(home))
    recorded = {entry.subject for entry in iter_entries(opened.database) if entry.action == "asset.generated"}
    opened.database.close()
    assert {f"media:{made[name]['sha256']}" for name in ("r-1", "r-2")} <= recorded

    (out / made["r-2"]["file"]).write_bytes(b"changed")
    again = call(home, *arguments)
    assert again.exit_code == 3
    after = results(out)
    assert after["r-1"] == made["r-1"]
    assert after["r-2"]["run_id"] != made["r-2"]["run_id"]
    assert sha256_file(out / after["r-2"]["file"]) == after["r-2"]["sha256"]


def test_a_row_is_made_from_its_file_again_only_where_the_file_is_another(home: Path, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    photo = tmp_path / "photos" / "a.png"
    drawing(3, size=40).save(photo)
    (tmp_path / "photos" / "cut.png").write_bytes(photo.read_bytes()[:60])
    table, out = tmp_path / "edits.csv", tmp_path / "out"
    table.write_text("request_id,label,from,strength\nedit,cat,photos/a.png,0.5\nkeep,,photos/a.png,0\ncut,,photos/cut.png,0.5\n")
    arguments = ["generate", trained.document["model_version"], "--requests", table, "--out", out]
    assert call_here(home, *arguments).exit_code == 3
    made = results(out)
    assert (made["cut"]["status"], made["cut"]["source_sha256"]) == ("bad", "")
    assert made["edit"]["source_sha256"] == made["keep"]["source_sha256"] == sha256_file(photo)
    opened = Home.open(Settings.load(home))
    with opened.database.read() as connection:
        rows = connection.execute(select(assets).where(assets.c.source_sha256 == sha256_file(photo))).all()
        graph = upstream(connection, f"media:{made['edit']['sha256']}")
    opened.database.close()
    assert {row.sha256 for row in rows} == {made["edit"]["sha256"], made["keep"]["sha256"]}
    assert f"media:{sha256_file(photo)}" in graph.nodes

    drawing(4, size=40).save(photo)
    call_here(home, *arguments)
    again = results(out)
    assert again["edit"]["source_sha256"] == sha256_file(photo)
    assert again["edit"]["run_id"] != made["edit"]["run_id"]


def test_what_is_asked_hangs_on_the_seed_and_not_on_the_line_of_a_row_with_its_own(tmp_path: Path) -> None:
    template = GenerateRequest(model="m/1", out=tmp_path)
    own, none = (
        Row(line=1, request_id="r", prompt="a cat", label=None, segment="", seed=seed, frames=None) for seed in (7, None)
    )
    assert _asked(template, own) == _asked(template, replace(own, line=2)) == _asked(replace(template, seed=5), own)
    assert _asked(template, none) != _asked(template, replace(none, line=2))
    assert _asked(template, none) != _asked(replace(template, seed=5), none)
    assert _asked(template, own, "a" * 64) != _asked(template, own, "b" * 64)


def test_an_interrupted_table_goes_on_where_it_was(home: Path, trained: Trained, tmp_path: Path) -> None:
    path, out = tmp_path / "long.csv", tmp_path / "out"
    path.write_text("request_id,label\n" + "".join(f"r-{number},cat\n" for number in range(40)))
    arguments = ["generate", trained.document["model_version"], "--requests", path, "--out", out]
    process = start(home, *arguments)
    journal = out / ".results.jsonl"
    while process.poll() is None and not (journal.is_file() and journal.read_text().count("\n") >= 2):
        pass
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    done = journal.read_text().splitlines()
    assert 2 <= len(done) < 40
    assert not (out / "results.csv").exists()
    path.write_text("request_id,label\n" + "".join(f"r-{number},cat\n" for number in range(len(done) + 1)))
    assert call(home, *arguments).exit_code == 0
    runs = [row["run_id"] for row in results(out).values()]
    assert all(any(run in line for line in done) for run in runs[: len(done)])
    assert len(set(runs)) == len(done) + 1


def test_what_to_make_is_said_once(home: Path, trained: Trained, table: Path, tmp_path: Path) -> None:
    refused = call(
        home, "generate", trained.document["model_version"], "--requests", table, "--label", "cat", "--out", tmp_path / "out"
    )
    assert refused.exit_code == 2
    assert "one of --prompt TEXT, --label NAME and --requests FILE" in refused.stderr
