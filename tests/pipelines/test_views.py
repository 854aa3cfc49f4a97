"""What a person sees of a step that is done part by part: one line for all of them."""

from itertools import count
from pathlib import Path

from infra.progress import ProgressFile, tell_parts
from pipelines.views import StepView, view_run


def look(folder: Path) -> StepView:
    (view,) = view_run(folder, run_id="r", pipeline="generation", steps=("generate_batch",), started=0.0).steps
    return view


def part(folder: Path, number: int) -> ProgressFile:
    seconds = count(1.0)
    return ProgressFile(folder / "progress" / f"generate_batch-{number:04d}.json", clock=lambda: next(seconds))


def test_parts_are_one_line_that_ends_when_the_last_has_ended(tmp_path: Path) -> None:
    assert look(tmp_path).status == "waiting"
    tell_parts(tmp_path / "progress", "generate_batch", 3)
    first, second = part(tmp_path, 0), part(tmp_path, 1)
    first.update(5, 5)
    second.update(2, 5, "making r-7")
    view = look(tmp_path)
    assert (view.status, view.completed, view.total, view.fields) == ("running", 7, 10, {"parts": "0/3"})
    first.end("completed", "5 made")
    second.end("reused", "5 made")
    assert (look(tmp_path).status, look(tmp_path).fields) == ("running", {"parts": "2/3"})  # the third has not begun
    part(tmp_path, 2).end("completed", "1 made")
    assert (look(tmp_path).status, look(tmp_path).summary) == ("completed", "3 parts, 1 of them reused")


def test_a_step_whose_parts_are_planned_and_joined_is_one_line_that_ends_when_they_are_joined(tmp_path: Path) -> None:
    def seen() -> tuple[str, dict[str, float | str]]:
        (view,) = view_run(tmp_path, run_id="r", pipeline="training", steps=("encode_latents",), started=0.0).steps
        return view.status, dict(view.fields)

    def progress(name: str) -> ProgressFile:
        return ProgressFile(tmp_path / "progress" / f"{name}.json")

    assert seen() == ("waiting", {})
    plan = progress("plan_encoding")
    assert seen() == ("running", {})
    plan.end("reused", "two parts")
    tell_parts(tmp_path / "progress", "encode_latents", 2)
    assert seen() == ("running", {})
    first, second = progress("encode_part-0000"), progress("encode_part-0001")
    first.end("failed", "no space")
    second.end("completed", "done")
    assert seen() == ("failed", {"parts": "2/2"})
    first.end("completed", "done")
    assert seen() == ("running", {"parts": "2/2"})
    joining = progress("encode_latents")
    joining.update(1, 2, "joining parts")
    assert seen() == ("running", {"parts": "2/2"})
    joining.end("completed", "36 items")
    assert seen() == ("completed", {"parts": "2/2"})


def test_one_part_is_told_of_as_one(tmp_path: Path) -> None:
    tell_parts(tmp_path / "progress", "generate_batch", 1)
    part(tmp_path, 0).end("completed", "2 made")
    assert look(tmp_path).summary == "1 part, 0 of them reused"


def test_a_part_that_failed_says_why_and_all_that_were_reused_are(tmp_path: Path) -> None:
    for number in (0, 1):
        part(tmp_path, number).end("reused", "2 made")
    assert look(tmp_path).status == "reused"
    part(tmp_path, 1).end("failed", "the package is not what was registered")
    assert (look(tmp_path).status, look(tmp_path).summary) == ("failed", "the package is not what was registered")
