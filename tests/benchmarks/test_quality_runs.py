from dataclasses import replace

import pytest
import torch

from benchmarks import quality_runs
from benchmarks.fashion import read_pictures
from benchmarks.quality_evaluation import Drawing, draw, recipe_drawing
from benchmarks.quality_runs import Budget, Workplace, load_snapshot, open_run, reopen_run, train_run
from model_core.errors import BadDataError, BadModelError
from tests.benchmarks.toy_recipes import TOY_EPSILON, TOY_FLOW

BUDGET = Budget(steps=8, num_snapshots=3)


@pytest.fixture
def workplace(data, tmp_path):
    return Workplace(out=tmp_path / "out", train=read_pictures(data, "train"))


def trained(workplace, **changes):
    run = open_run(TOY_FLOW, 0, BUDGET, workplace)
    train_run(run, workplace, **changes)
    return run


def test_snapshots_are_kept_at_the_end_at_half_of_it_at_a_quarter(workplace):
    run = trained(workplace)
    assert run.snapshot_steps == [2, 4, 8]
    assert run.is_finished()
    assert list(run.times()) == [2, 4, 8]
    assert sorted(run.times().values()) == list(run.times().values())
    weights = [load_snapshot(run, step) for step in run.snapshot_steps]
    assert all(set(one) == set(weights[0]) for one in weights)
    assert not torch.equal(weights[0]["x_embedder.weight"], weights[2]["x_embedder.weight"])


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5])
def test_an_interrupted_training_ends_with_the_same_weights(workplace, tmp_path, stop_at):
    whole = trained(workplace)
    again = Workplace(out=tmp_path / "again", train=workplace.train)

    def interrupt(progress):
        if progress.step == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(again, on_step=interrupt)
    before = dict(open_run(TOY_FLOW, 0, BUDGET, again).times())
    run = trained(again)
    for step in run.snapshot_steps:
        ours, theirs = load_snapshot(run, step), load_snapshot(whole, step)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert set(before.items()) <= set(run.times().items())  # what was measured is not measured again
    assert run.times()[8] > max(before.values(), default=0)


def test_a_snapshot_that_a_kill_prevented_is_made_up_for(workplace, tmp_path, monkeypatch):
    whole = trained(Workplace(out=tmp_path / "whole", train=workplace.train))
    keep = quality_runs._keep_snapshot

    def killed(run):
        if (run.folder / "scratch" / "checkpoint.safetensors").is_file():
            raise SystemExit  # after the checkpoint, before its copy

    monkeypatch.setattr(quality_runs, "_keep_snapshot", killed)
    with pytest.raises(SystemExit):
        trained(workplace)
    monkeypatch.setattr(quality_runs, "_keep_snapshot", keep)
    run = trained(workplace)
    assert run.is_finished()
    assert all(torch.equal(tensor, load_snapshot(run, 2)[name]) for name, tensor in load_snapshot(whole, 2).items())


def test_nothing_but_what_is_needed_is_kept_of_a_finished_run(workplace):
    run = trained(workplace)
    assert sorted(path.name for path in run.folder.iterdir()) == ["plan.json", "snapshots", "times.json"]


def test_a_changed_recipe_is_another_run_and_changed_sampling_is_not(workplace):
    run = open_run(TOY_FLOW, 0, BUDGET, workplace)
    assert open_run(TOY_FLOW.changed("other", guidance_scale=3.0), 0, BUDGET, workplace).folder == run.folder
    others = [
        open_run(TOY_FLOW.changed("rate", training={"learning_rate": 2e-3}), 0, BUDGET, workplace),
        open_run(TOY_FLOW.changed("norm", architecture={"norm": "rms"}), 0, BUDGET, workplace),
        open_run(TOY_FLOW, 1, BUDGET, workplace),
        open_run(TOY_FLOW, 0, replace(BUDGET, steps=16), workplace),
    ]
    assert len({run.folder, *(other.folder for other in others)}) == 5


def test_a_run_is_reopened_by_its_folder(workplace):
    run = trained(workplace)
    again = reopen_run(run.folder, workplace)
    assert (again.training, again.architecture, again.snapshot_steps) == (run.training, run.architecture, run.snapshot_steps)
    assert again.recipe.guidance_scale == TOY_FLOW.guidance_scale


def test_reopening_says_what_is_missing(workplace, data, tmp_path):
    with pytest.raises(BadDataError, match="holds no run"):
        reopen_run(tmp_path / "nothing", workplace)
    run = open_run(TOY_FLOW, 0, BUDGET, workplace)
    with pytest.raises(BadDataError, match="not trained to its end"):
        reopen_run(run.folder, workplace)
    train_run(run, workplace)
    other = Workplace(out=workplace.out, train=workplace.train.rows(slice(50)))
    with pytest.raises(BadDataError, match="other pictures"):
        reopen_run(run.folder, other)
    (run.folder / "plan.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BadDataError, match=r"plan\.json"):
        reopen_run(run.folder, workplace)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"training": {"learning_speed": 1.0}}, BadDataError),
        ({"architecture": {"width": 1}}, BadDataError),
        ({"training": {"learning_rate": -1.0}}, BadModelError),
        ({"architecture": {"patch_size": (1, 3, 3)}}, BadModelError),
        ({"space": "codec"}, BadDataError),
    ],
)
def test_refuses_recipes_that_cannot_be_trained(workplace, change, error):
    with pytest.raises(error) as caught:
        open_run(TOY_FLOW.changed("broken", **change), 0, BUDGET, workplace)
    assert "\n" not in caught.value.diagnosis


def test_seconds_of_an_attempt_that_was_killed_are_told_in_proportion(workplace):
    run = open_run(TOY_FLOW, 0, BUDGET, workplace)
    quality_runs.write_json(run.folder / "times.json", {"2": 4.0})
    assert quality_runs._Clock(run)._before(0) == 0.0
    assert quality_runs._Clock(run)._before(2) == 4.0
    assert quality_runs._Clock(run)._before(5) == 10.0


def test_pictures_depend_on_the_seed_alone_and_not_on_how_many_there_are(workplace):
    run = trained(workplace)
    drawing = recipe_drawing(TOY_FLOW, num_pictures=12)
    pictures = draw(run, 8, drawing, workplace)
    assert pictures.images.shape == (12, 8, 8, 1)
    assert pictures.labels.tolist() == [*range(10), 0, 1]
    assert (draw(run, 8, drawing, workplace).images == pictures.images).all()
    fewer = draw(run, 8, replace(drawing, num_pictures=4), workplace)
    assert abs(fewer.images.astype(int) - pictures.images[:4]).max() <= 1
    assert (draw(run, 8, replace(drawing, seed=100), workplace).images != pictures.images).any()


def test_a_sampler_that_draws_noise_and_a_learned_variance(workplace):
    run = open_run(TOY_EPSILON, 0, Budget(steps=2, num_snapshots=1), workplace)
    train_run(run, workplace)
    drawing = recipe_drawing(TOY_EPSILON, num_pictures=10)
    assert (drawing.sampler, drawing.num_calls) == ("ddpm", 3)
    assert draw(run, 2, drawing, workplace).images.std() > 0


@pytest.mark.parametrize("space", ["patch-pca"])
def test_a_recipe_may_work_on_latents(workplace, space):
    recipe = TOY_FLOW.changed("latents", space=space, architecture={"patch_size": (1, 1, 1)})
    run = open_run(recipe, 0, Budget(steps=2, num_snapshots=1), workplace)
    train_run(run, workplace)
    assert run.architecture.in_channels == 4
    assert draw(run, 2, recipe_drawing(recipe, num_pictures=3), workplace).images.shape == (3, 8, 8, 1)


@pytest.mark.parametrize(("sampler", "num_steps", "calls"), [("heun", 5, 9), ("heun", 1, 1), ("euler", 5, 5), ("unipc", 5, 5)])
def test_calls_that_a_drawing_counts_are_the_calls_that_are_made(workplace, monkeypatch, sampler, num_steps, calls):
    from model_core.transformer.dit import DiT

    made = []
    denoise = DiT.denoise
    monkeypatch.setattr(DiT, "denoise", lambda self, *args: made.append(1) or denoise(self, *args))
    run = trained(workplace)
    made.clear()
    drawing = Drawing(sampler=sampler, num_steps=num_steps, guidance_scale=2.0, num_pictures=2)
    draw(run, 8, drawing, workplace)
    assert len(made) == calls == drawing.num_calls
