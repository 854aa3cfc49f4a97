"""Clips of graphics in motion: what the caption says is what moves, and combinations are held out."""

from collections import defaultdict

import numpy as np
import pytest

from model_core.data.dataset import Dataset
from model_core.data.importers.moving_openmoji import BACKGROUNDS, MOTIONS, Scene, plan_moving_openmoji
from model_core.data.importing import import_dataset
from model_core.errors import BadDataError
from model_core.evaluation.motion import asked_directions, directions, displacements


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moving") / "data"
    import_dataset("moving-openmoji", folder, categories=["food"], limit=60, frames=8, fps=4, workers=1)
    return Dataset.open(folder)


def test_every_row_says_how_long_and_how_fast_it_is(dataset):
    assert dataset.clips([0, 1]).shape == (2, 8, 32, 32, 3)
    assert set(dataset.columns["frames"]) == {8}
    assert set(dataset.columns["fps"]) == {4.0}
    assert (dataset.info.num_frames, dataset.info.fps) == (8, 4.0)
    assert np.array_equal(dataset.read_image(0), dataset.clips([0])[0, 4])
    assert np.array_equal(dataset.images([0]), dataset.clips([0])[:, 4])


def test_the_same_options_give_the_same_bytes(dataset, tmp_path):
    import_dataset("moving-openmoji", tmp_path / "again", categories=["food"], limit=60, frames=8, fps=4, workers=1)
    for name in ("manifest.parquet", "dataset.json", "shards/train-00000.tar"):
        assert (tmp_path / "again" / name).read_bytes() == (dataset.folder / name).read_bytes()


def test_what_moves_goes_where_its_caption_says(dataset):
    rows = [row for row, words in enumerate(asked_directions(dataset.columns["caption"])) if words]
    rows = [row for row in rows if ", then " not in dataset.columns["caption"][row]]
    asked = asked_directions([dataset.columns["caption"][row] for row in rows])
    assert set(asked) == {"left", "right", "up", "down"}
    assert directions(displacements(dataset.clips(rows))) == asked


def test_the_background_is_the_one_that_is_named(dataset):
    for row, caption in enumerate(dataset.columns["caption"]):
        colour = next(name for name in BACKGROUNDS if f"on a {name} background" in caption)
        corners = dataset.clips([row])[0][:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(-1, 3)
        assert (corners == BACKGROUNDS[colour]).all(axis=1).mean() > 0.5


def test_combinations_are_held_out_and_neither_their_graphics_nor_their_motions():
    seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for item in plan_moving_openmoji(categories=["food", "animals"]).items:
        seen[item.split] |= {(act.file, act.motion) for act in Scene.from_text(item.locator).acts}
    primary = {
        (Scene.from_text(item.locator).acts[0].file, Scene.from_text(item.locator).acts[0].motion)
        for item in plan_moving_openmoji(categories=["food", "animals"]).items
        if item.split == "holdout" and len(Scene.from_text(item.locator).acts) == 1
    }
    assert primary
    assert primary.isdisjoint(seen["train"])
    assert {file for file, _ in primary} <= {file for file, _ in seen["train"]}
    assert {motion for _, motion in seen["train"]} == set(MOTIONS)


def test_takes_are_clips_of_one_combination_that_differ_and_stay_on_one_side():
    plan = plan_moving_openmoji(categories=["food", "animals"], graphics=["cat", "red apple"], takes=6)
    assert len(plan.items) == 2 * len(MOTIONS) * 6
    assert len({item.locator for item in plan.items}) == len({item.key for item in plan.items}) == len(plan.items)
    assert {act.name for item in plan.items for act in Scene.from_text(item.locator).acts} == {"cat", "red apple"}
    sides = defaultdict(set)
    for item in plan.items:
        acts = Scene.from_text(item.locator).acts
        if len(acts) == 1:
            sides[acts[0].name, acts[0].motion].add(item.split)
    assert all(len(splits) == 1 for splits in sides.values())


def test_a_further_take_changes_nothing_about_the_first():
    once = plan_moving_openmoji(categories=["food"], graphics=["pizza"])
    assert set(once.items) <= set(plan_moving_openmoji(categories=["food"], graphics=["pizza"], takes=2).items)


def test_a_graphic_that_is_not_there_is_named_with_what_comes_near():
    with pytest.raises(BadDataError, match="no graphic 'red appel'") as caught:
        plan_moving_openmoji(categories=["food"], graphics=["red appel"])
    assert "apple" in caught.value.hint


@pytest.mark.parametrize("given", [{"graphics": ["cat"]}, {"takes": 2}])
def test_only_moving_openmoji_has_graphics_and_takes(tmp_path, given):
    with pytest.raises(BadDataError, match="no graphics to choose"):
        import_dataset("openmoji", tmp_path / "x", **given)


@pytest.mark.parametrize(
    "options",
    [
        {"frames": 1},
        {"frames": 100_000},
        {"fps": 0},
        {"fps": float("nan")},
        {"categories": ["x"]},
        {"takes": 0},
        {"takes": 10**6},
    ],
)
def test_what_cannot_be_made_is_refused(options):
    with pytest.raises(BadDataError):
        plan_moving_openmoji(**options)


def test_pictures_have_no_frames(tmp_path):
    with pytest.raises(BadDataError, match="pictures, which have no frames"):
        import_dataset("openmoji", tmp_path / "x", frames=4)
