import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import quality_runs, quality_time
from benchmarks.quality_time import RECIPES, main
from tests.benchmarks.toy_recipes import TOY_RECIPES


@pytest.fixture
def arguments(data, classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(quality_time, "RECIPES", TOY_RECIPES)
    options = {
        "--data": data,
        "--out": tmp_path / "out",
        "--classifier": classifier,
        "--results": tmp_path / "results.json",
        "--samples": 20,
        "--threads": 1,
        "--snapshots": 2,
    }
    return [word for name, value in options.items() for word in (name, str(value))]


@pytest.fixture
def results(tmp_path):
    return lambda: json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))


def test_trains_judges_and_draws_every_recipe(arguments, results, tmp_path, capsys):
    assert main([*arguments, "--steps", "4"]) == 0
    document = results()
    assert [entry["name"] for entry in document["entries"]] == list(TOY_RECIPES)
    for entry in document["entries"]:
        assert [point["step"] for point in entry["points"]] == [2, 4]
        assert entry["points"][0]["training_s"] < entry["points"][1]["training_s"]
        for point in entry["points"]:
            assert point["distance"] > 0
            assert 0 <= point["accuracy"] <= 1
            assert point["num_pictures"] == 20
            assert Path(point["grid"]).name == point["grid"]  # no path of this machine
    assert set(document["bounds"]) == {"real", "train", "noise"}
    assert len(document["classifier_digest"]) == 64
    assert document["machine"]["torch"]
    assert Image.open(tmp_path / "out" / "quality-time.png").width > 500
    assert len(list((tmp_path / "out" / "samples").glob("*.png"))) == 2
    table = capsys.readouterr().out
    assert table.count("\n| ") == 1 + 2 * len(TOY_RECIPES)
    assert "As many real pictures" in table


def test_the_second_call_trains_and_judges_nothing_again(arguments, results, monkeypatch):
    assert main([*arguments, "--recipes", "toy-flow", "--steps", "4"]) == 0
    first = results()

    def fail(*_args, **_options):
        raise AssertionError("done again")

    monkeypatch.setattr(quality_runs, "train", fail)
    monkeypatch.setattr("benchmarks.quality_evaluation.sample_latents", fail)
    assert main([*arguments, "--recipes", "toy-flow", "--steps", "4"]) == 0
    assert results() == first


def test_training_and_judging_can_be_done_apart(arguments, results, tmp_path, capsys):
    chosen = [*arguments, "--recipes", "toy-flow", "--steps", "4"]
    assert main([*chosen, "--only", "evaluate"]) == 3
    assert "train the recipe first" in capsys.readouterr().err
    assert main([*chosen, "--only", "train"]) == 0
    assert not (tmp_path / "results.json").exists()
    assert main([*chosen, "--only", "evaluate"]) == 0
    assert len(results()["entries"]) == 1


def test_a_time_becomes_steps_once_and_is_kept(arguments, results, tmp_path, monkeypatch):
    chosen = [*arguments, "--recipes", "toy-flow", "--seconds", "0.2"]
    assert main(chosen) == 0
    first = results()["entries"][0]["points"][-1]["step"]
    assert first >= 2
    monkeypatch.setattr(quality_runs, "_seconds_per_step", lambda *_: 1.0)
    assert main(chosen) == 0
    assert results()["entries"][0]["points"][-1]["step"] == first


def test_seeds_are_runs_of_their_own(arguments, results):
    assert main([*arguments, "--recipes", "toy-flow", "--steps", "2", "--seeds", "0,1"]) == 0
    entries = results()["entries"]
    assert [entry["seed"] for entry in entries] == [0, 1]
    assert entries[0]["points"][-1]["distance"] != entries[1]["points"][-1]["distance"]


def test_sample_grids_have_a_column_a_label(arguments, tmp_path):
    assert main([*arguments, "--recipes", "toy-flow", "--steps", "2"]) == 0
    grid = np.asarray(Image.open(next((tmp_path / "out" / "runs").glob("*/judgements/*.png"))))
    assert grid.shape == (2 * 10, 10 * 10)  # 20 pictures of 8 x 8 with a frame: two rows


def test_results_of_other_recipes_are_kept_and_those_judged_otherwise_are_not(arguments, results):
    def names():
        return [entry["name"] for entry in results()["entries"]]

    for name in ("toy-flow", "toy-epsilon", "toy-flow"):
        assert main([*arguments, "--recipes", name, "--steps", "2"]) == 0
    assert names() == ["toy-epsilon", "toy-flow"]
    assert main([*arguments, "--recipes", "toy-flow", "--steps", "4"]) == 0
    assert names() == ["toy-epsilon", "toy-flow", "toy-flow"]
    assert main([*arguments, "--recipes", "toy-flow", "--steps", "4", "--samples", "30"]) == 0
    assert names() == ["toy-flow"]


def test_judging_can_be_made_cheaper_and_says_so(arguments, results):
    chosen = [*arguments, "--recipes", "toy-epsilon", "--steps", "2"]
    assert main([*chosen, "--max-sampling-steps", "2"]) == 0
    assert [point["num_calls"] for point in results()["entries"][0]["points"]] == [2, 2]
    assert main([*chosen, "--max-sampling-steps", "100"]) == 0
    assert [point["num_calls"] for point in results()["entries"][0]["points"]] == [3, 3]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--steps", "2", "--recipes", "nobody"], "no recipe 'nobody'"),
        ([], "either seconds or steps"),
        (["--steps", "2", "--seconds", "2"], "either seconds or steps"),
        (["--steps", "2", "--seeds", "a"], "--seeds is 'a'"),
        (["--steps", "2", "--classifier", "/nowhere"], "no classifier"),
        (["--steps", "2", "--samples", "1"], "too few"),
    ],
)
def test_bad_input_is_one_line_and_a_hint(arguments, extra, said, capsys):
    assert main([*arguments, *extra]) == 3
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert said in error
    assert hint.startswith("hint: ")


def test_missing_data_end_the_command_before_anything_is_made(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["--data", str(tmp_path / "missing"), "--out", str(out), "--steps", "2"]) == 3
    error, hint = capsys.readouterr().err.splitlines()
    assert error == f"error: {tmp_path / 'missing'} is no folder"
    assert "dataset-fashion-mnist" in hint
    assert not out.exists()


def test_recipes_make_valid_configurations():
    for recipe in RECIPES.values():
        quality_runs._training_config(recipe, 0, num_steps=1, every=1)
        quality_runs.TransformerConfig(in_channels=1, num_labels=10, **recipe.architecture).grid((1, 1, 28, 28))
