"""A table of requests by the pipeline: part by part what one process makes, and gone on with where it was killed."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from governance.digest import sha256_file
from infra.content_verification import verify_content
from infra.home import Home
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.lineage import upstream
from infra.runs import get_steps, list_runs
from infra.settings import Settings
from tests.content_world import drawing
from tests.pipelines.calling import Called, call, call_here, flags, kill_everything, start, wait_for
from tests.pipelines.conftest import Trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROMPT = "a marmalade walrus"
TABLE = f"""\ufeffrequest_id,prompt,label,segment,seed,from,strength
r-1,{PROMPT},,north,,,
r-2,,dog,south,7,,
twice,,cat,east,,,
twice,,dog,east,,,
calc,=cmd|calc,,west,,,
r-3,,unicorn,west,,,
r-4,,cat,,,photo.png,0.5
"""


def table_in(folder: Path, text: str) -> Path:
    path = folder / "requests.csv"
    path.write_text(text, encoding="utf-8")
    return path


def settings(trained: Trained, table: Path, out: Path, *more: str) -> list[str]:
    model = trained.document["model_version"]
    return flags([f"generation.model={model}", f"generation.requests={table}", f"generation.out={out}", *more])


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def by_id(folder: Path) -> dict[str, dict[str, str]]:
    return {row["request_id"]: row for row in results(folder)}


def generated(home: Path) -> Counter[str]:
    opened = Home.open(Settings.load(home))
    found = Counter(str(entry.run_id) for entry in iter_entries(opened.database) if entry.action == "asset.generated")
    opened.database.close()
    return found


@dataclass(frozen=True)
class Ran:
    """A table made by the pipeline, in parts of two rows, and by one process, in a copy of the home."""

    home: Path
    arguments: list[str]
    called: Called
    parts: Path
    whole: Path
    photo: Path

    @property
    def document(self) -> Any:
        return self.called.document


@pytest.fixture(scope="module")
def ran(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("ran")
    home = trained.copy(folder / "home")
    drawing(3, size=40).save(folder / "photo.png")
    table = table_in(folder, TABLE)
    one = ["generate", trained.document["model_version"], "--requests", table, "--out", folder / "whole"]
    assert call_here(home, *one).exit_code == 3
    arguments = ["--json", "run", "generation", *settings(trained, table, folder / "parts", "validate_requests.shard_size=2")]
    return Ran(home, arguments, call(home, *arguments), folder / "parts", folder / "whole", folder / "photo.png")


def test_parts_become_what_one_process_makes_of_the_whole(ran: Ran) -> None:
    assert ran.called.exit_code == 3, ran.called.stderr  # bad rows, though the rest was made
    told = [{**row, "file": "", "sha256": "", "run_id": ""} for row in results(ran.parts)]
    assert told == [{**row, "file": "", "sha256": "", "run_id": ""} for row in results(ran.whole)]
    assert [row["status"] for row in told] == ["made", "made", "bad", "bad", "bad", "bad", "made"]
    assert [row["segment"] for row in told] == ["north", "south", "east", "east", "west", "west", ""]
    for name, row in by_id(ran.parts).items():
        if row["file"]:
            other = ran.whole / by_id(ran.whole)[name]["file"]
            assert Image.open(ran.parts / row["file"]).tobytes() == Image.open(other).tobytes()
            assert sha256_file(ran.parts / row["file"]) == row["sha256"]
    assert (ran.parts / "contact-sheet.png").read_bytes() == (ran.whole / "contact-sheet.png").read_bytes()


def test_every_bad_row_is_named_and_the_outcome_says_where_all_is(ran: Ran) -> None:
    warnings = " ".join(ran.document["warnings"])
    for row in ("row 3 (twice)", "row 4 (twice)", "row 5 (calc)"):
        assert row in warnings
    assert "=cmd" not in ran.called.stdout + ran.called.stderr
    assert ran.document["pictures"]["results"] == str(ran.parts / "results.csv")
    assert [(step["name"], step["status"]) for step in ran.document["steps"]] == [
        ("validate_requests", "completed"),
        ("generate_batch", "completed"),
        ("collect_results", "completed"),
    ]


def test_each_file_is_on_record_as_any_other_and_verifies(ran: Ran) -> None:
    home = Home.open(Settings.load(ran.home))
    rows = by_id(ran.parts)
    for name in ("r-1", "r-2", "r-4"):
        assert verify_content(ran.parts / rows[name]["file"], home=home).verdict.ok
    with home.database.read() as connection:
        graph = upstream(connection, f"media:{rows['r-4']['sha256']}")
        steps = [step.step for step in get_steps(connection, ran.document["run_id"])]
    assert rows["r-4"]["source_sha256"] == sha256_file(ran.photo)
    assert f"media:{rows['r-4']['source_sha256']}" in graph.nodes
    assert steps[0] == "validate_requests"
    assert steps[-1] == "collect_results"
    assert set(steps[1:-1]) == {"generate_batch-0000", "generate_batch-0002", "generate_batch-0003"}
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()
    home.database.close()


def test_what_was_asked_for_is_nowhere_kept(ran: Ran) -> None:
    data = ran.photo.read_bytes()[60:120]
    for path in ran.home.rglob("*"):
        if path.is_file() and ran.home / "reports" not in path.parents and not path.name.startswith("groundswell.db"):
            content = path.read_bytes()
            assert b"marmalade" not in content, path
            assert data not in content, path


def test_the_same_again_makes_nothing_and_a_file_that_was_changed_is_put_back(ran: Ran) -> None:
    before, table = generated(ran.home), (ran.parts / "results.csv").read_bytes()
    changed = ran.parts / by_id(ran.parts)["r-2"]["file"]
    whole = changed.read_bytes()
    changed.write_bytes(b"changed")
    again = call(ran.home, *ran.arguments)
    assert again.exit_code == 3, again.stderr
    assert again.document["reused_all"]
    assert (changed.read_bytes(), (ran.parts / "results.csv").read_bytes()) == (whole, table)
    assert generated(ran.home) == before


def test_a_killed_run_goes_on_without_making_again_what_was_made(trained: Trained, tmp_path: Path) -> None:
    home, out = trained.copy(tmp_path / "home"), tmp_path / "out"
    table = table_in(tmp_path, "request_id,label\n" + "".join(f"r-{number},cat\n" for number in range(1, 8)))
    arguments = ["--json", "run", "generation", *settings(trained, table, out, "validate_requests.shard_size=3")]
    process = start(home, *arguments)
    opened = Home.open(Settings.load(home))

    def finished() -> bool:
        with opened.database.read() as connection:
            runs = [run for run in list_runs(connection) if (run.runner, run.pipeline) == ("subprocess", "generation")]
            states = {step.step: step.status for run in runs for step in get_steps(connection, run.run_id)}
        return states.get("generate_batch-0000") == "completed"

    wait_for(finished, "the end of the first part", process=process)
    kill_everything(process, home)
    before = generated(home)
    assert 3 <= sum(before.values()) < 7
    assert not (out / "results.csv").exists()
    again = call(home, *arguments)
    assert again.exit_code == 0, again.stderr
    with opened.database.read() as connection:
        steps = {step.step: step.status for step in get_steps(connection, again.document["run_id"])}
        leads = upstream(connection, f"media:{by_id(out)['r-7']['sha256']}").nodes
    opened.database.close()
    assert steps["generate_batch-0000"] == "reused"
    made = {row["run_id"] for row in results(out)}
    assert len(made) == 7
    assert set(before) <= made | set(list(before)[-2:])  # of each part that was cut short at most the last is made again
    assert sum(generated(home).values()) <= 9
    assert any(node.startswith("package:") for node in leads)
    assert not list(home.glob("runs/*/request"))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "generation.model is not set"),
        (["generation.model=groundswell-dit/1"], "generation.requests is not set"),
        (["generation.model=nobody/1", "generation.requests=TABLE"], "nobody"),
        (["generation.model=groundswell-dit/1", "generation.requests=TABLE"], "'colour' that is not known"),
        (["generation.colour=red"], "unknown parameter 'generation.colour'"),
    ],
)
def test_what_a_run_needs_and_was_not_given_is_one_line(trained: Trained, tmp_path: Path, asked: list[str], words: str) -> None:
    table = table_in(tmp_path, "request_id,label" if "nobody" in words else "request_id,colour\na,b\n")
    called = call_here(trained.home.path, "run", "generation", *flags([one.replace("TABLE", str(table)) for one in asked]))
    assert (called.exit_code, words in called.stderr) == (3, True), called.stderr
    assert "Traceback" not in called.stderr
