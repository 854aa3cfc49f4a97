"""Building datasets: the same bytes twice, going on after an interruption, and refusing what is not there."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from governance.digest import tree_digest
from model_core.data.dataset import Dataset
from model_core.data.importers.image_folder import plan_image_folder
from model_core.data.importers.plan import ImportPlan, Item
from model_core.data.importing import build, import_dataset
from model_core.errors import BadDataError
from tests.model_core.data.toy import SIZE, lines, picture_folder


def test_importing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    picture_folder(tmp_path / "pictures", lines())
    for name in ("a", "b"):
        import_dataset(str(tmp_path / "pictures"), tmp_path / name, size=SIZE, workers=1)
    assert tree_digest(tmp_path / "a") == tree_digest(tmp_path / "b")


def test_the_number_of_processes_does_not_matter(tmp_path: Path) -> None:
    picture_folder(tmp_path / "pictures", lines(220))
    for workers in (1, 2):
        import_dataset(str(tmp_path / "pictures"), tmp_path / str(workers), size=SIZE, workers=workers)
    assert tree_digest(tmp_path / "1") == tree_digest(tmp_path / "2")


class Interrupting:
    """Draws as `plan.render` does, until its strength is spent."""

    def __init__(self, plan: ImportPlan, strength: int) -> None:
        self.plan, self.strength, self.drawn = plan, strength, 0

    def __repr__(self) -> str:
        return repr(self.plan.render)

    def __call__(self, item: Item) -> bytes:
        if self.drawn >= self.strength:
            raise KeyboardInterrupt
        self.drawn += 1
        return self.plan.render(item)


def with_render(plan: ImportPlan, render: Interrupting) -> ImportPlan:
    return ImportPlan(**{**{name: getattr(plan, name) for name in plan.__dataclass_fields__}, "render": render})


def test_an_interrupted_import_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plan = plan_image_folder(picture_folder(tmp_path / "pictures", lines(100)), size=SIZE)
    build(plan, tmp_path / "straight", workers=1)

    out = tmp_path / "dataset"
    with pytest.raises(KeyboardInterrupt):
        build(with_render(plan, Interrupting(plan, 70)), out, workers=1)
    assert not out.exists()
    rest = Interrupting(plan, 1000)
    seen: list[tuple[int, int]] = []
    build(with_render(plan, rest), out, workers=1, progress=lambda done, total, _: seen.append((done, total)))
    assert rest.drawn == 100 - 64, "two chunks of 32 were finished before the interruption"
    assert seen[0] == (64, 100)
    assert tree_digest(out) == tree_digest(tmp_path / "straight")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "pictures", "straight"]


def test_a_damaged_chunk_is_drawn_again(tmp_path: Path) -> None:
    plan = plan_image_folder(picture_folder(tmp_path / "pictures", lines(100)), size=SIZE)
    build(plan, tmp_path / "straight", workers=1)
    with pytest.raises(KeyboardInterrupt):
        build(with_render(plan, Interrupting(plan, 70)), tmp_path / "dataset", workers=1)
    chunk = tmp_path / "dataset.partial/chunks/chunk-00000"
    chunk.write_bytes(chunk.read_bytes()[:-5])
    build(plan, tmp_path / "dataset", workers=1)
    assert tree_digest(tmp_path / "dataset") == tree_digest(tmp_path / "straight")


def test_other_work_does_not_go_on_from_an_earlier_attempt(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", lines(100))
    plan = plan_image_folder(folder, size=SIZE)
    with pytest.raises(KeyboardInterrupt):
        build(with_render(plan, Interrupting(plan, 70)), tmp_path / "dataset", workers=1)
    shutil.copy(folder / "1.png", folder / "0.png")
    os.utime(folder / "0.png", ns=(1, 1))
    changed = plan_image_folder(folder, size=SIZE)
    build(changed, tmp_path / "dataset", workers=1)
    build(changed, tmp_path / "straight", workers=1)
    assert tree_digest(tmp_path / "dataset") == tree_digest(tmp_path / "straight")


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").write_text("x")
    with pytest.raises(BadDataError, match="not empty"):
        import_dataset("openmoji", tmp_path / "out")
    assert (tmp_path / "out/precious").read_text() == "x"


@pytest.mark.parametrize("source", ["openmojis", "fashion-mnist:", "fashion-mnist:nowhere", "/nowhere", ""])
def test_an_unknown_source_is_named(tmp_path: Path, source: str) -> None:
    with pytest.raises(BadDataError):
        import_dataset(source or str(tmp_path), tmp_path / "out")


@pytest.mark.parametrize(("size", "limit"), [(0, None), (100_000, None), (32, 0), (32, -1)])
def test_impossible_numbers_are_refused(tmp_path: Path, size: int, limit: int | None) -> None:
    with pytest.raises(BadDataError):
        import_dataset("openmoji", tmp_path / "out", size=size, limit=limit)


def test_withheld_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    source = str(picture_folder(tmp_path / "pictures", lines()))
    import_dataset(source, tmp_path / "all", size=SIZE, workers=1)
    columns = Dataset.open(tmp_path / "all").columns
    withheld = set(columns["sha256"][:2])
    info = import_dataset(source, tmp_path / "rest", size=SIZE, withheld=withheld, workers=1)
    assert info.options["withdrawn_left_out"] == 2
    rest = Dataset.open(tmp_path / "rest")
    assert rest.columns["sha256"] == columns["sha256"][2:]
    assert rest.columns["split"] == columns["split"][2:]


def test_withholding_what_is_not_there_changes_no_byte(tmp_path: Path) -> None:
    source = str(picture_folder(tmp_path / "pictures", lines()))
    import_dataset(source, tmp_path / "all", size=SIZE, workers=1)
    import_dataset(source, tmp_path / "same", size=SIZE, withheld={"f" * 64}, workers=1)
    assert tree_digest(tmp_path / "all") == tree_digest(tmp_path / "same")


def test_equal_pictures_are_withheld_together(tmp_path: Path) -> None:
    source = picture_folder(tmp_path / "pictures", lines())
    shutil.copy(source / "0.png", source / "1.png")
    plan = replace(plan_image_folder(source, size=SIZE), drop_duplicates=True)
    build(plan, tmp_path / "all", workers=1)
    twin = next(iter({plan.render(plan.items[0]), plan.render(plan.items[1])}))
    info = build(plan, tmp_path / "rest", withheld={hashlib.sha256(twin).hexdigest()}, workers=1)
    assert (info.options["duplicates_left_out"], info.options["withdrawn_left_out"]) == (1, 1)
    assert len(Dataset.open(tmp_path / "rest")) == 10


def test_a_source_of_which_everything_is_withheld_is_refused(tmp_path: Path) -> None:
    source = str(picture_folder(tmp_path / "pictures", lines(4)))
    import_dataset(source, tmp_path / "all", size=SIZE, workers=1)
    withheld = set(Dataset.open(tmp_path / "all").columns["sha256"])
    with pytest.raises(BadDataError, match="every item"):
        import_dataset(source, tmp_path / "rest", size=SIZE, withheld=withheld, workers=1)
    assert not (tmp_path / "rest").exists()
