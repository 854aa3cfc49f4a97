import json

import pytest

from benchmarks import quality_evaluation, quality_time, samplers
from benchmarks.quality_evaluation import Drawing
from benchmarks.samplers import main, steps_for_calls
from model_core.diffusion.guidance import Guidance
from tests.benchmarks.toy_recipes import TOY_RECIPES


@pytest.fixture
def common(data, classifier, tmp_path):
    options = {"--data": data, "--out": tmp_path / "out", "--classifier": classifier, "--samples": 10, "--threads": 1}
    return [word for name, value in options.items() for word in (name, str(value))]


@pytest.fixture
def run(common, tmp_path, monkeypatch):
    """The name of a trained run."""
    monkeypatch.setattr(quality_time, "RECIPES", TOY_RECIPES)
    chosen = ["--recipes", "toy-flow", "--steps", "2", "--snapshots", "1", "--only", "train"]
    assert quality_time.main([*common, *chosen]) == 0
    return next((tmp_path / "out" / "runs").iterdir()).name


def test_judges_each_sampler_at_each_number_of_calls(common, run, tmp_path, capsys):
    results = tmp_path / "samplers.json"
    assert main([*common, "--run", run, "--calls", "3,5", "--results", str(results)]) == 0
    points = json.loads(results.read_text(encoding="utf-8"))["entries"][0]["points"]
    assert {(point["sampler"], point["wanted_calls"]) for point in points} == {
        (name, calls) for name in ("euler", "heun", "dpm_solver_pp", "unipc") for calls in (3, 5)
    }
    assert all(point["num_calls"] == point["wanted_calls"] for point in points)
    assert "| euler |" in capsys.readouterr().out


def test_judges_feature_caches_and_intervals_of_guidance_beside_the_plain_sampler(common, run, tmp_path, capsys, monkeypatch):
    asked, sample = [], quality_evaluation.sample_latents
    monkeypatch.setattr(
        quality_evaluation, "sample_latents", lambda *given, **options: asked.append(options) or sample(*given, **options)
    )
    results = tmp_path / "samplers.json"
    arms = ["--cache-intervals", "2", "--guidance-intervals", "0.3-0.7"]
    assert main([*common, "--run", run, "--samplers", "euler", "--calls", "4", *arms, "--results", str(results)]) == 0
    plain, cached, guided = json.loads(results.read_text(encoding="utf-8"))["entries"][0]["points"]
    assert "cache_interval" not in plain
    assert "guidance_interval" not in plain
    assert (cached["cache_interval"], guided["guidance_interval"]) == (2, [0.3, 0.7])
    assert [options["cache_interval"] for options in asked] == [1, 2, 1]
    assert [options["guidance"] for options in asked] == [
        Guidance(scale=1.5),
        Guidance(scale=1.5),
        Guidance(scale=1.5, interval=(0.3, 0.7)),
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in capsys.readouterr().out.splitlines()[2:5]]
    assert rows == [["euler", "every call", "always"], ["euler", "1 call in 2", "always"], ["euler", "every call", "0.3 to 0.7"]]


def test_judgements_of_an_earlier_call_stand_beside_the_new_ones(common, run, tmp_path, capsys):
    results = ["--results", str(tmp_path / "samplers.json")]
    assert main([*common, "--run", run, "--samplers", "euler", "--calls", "2", *results]) == 0
    capsys.readouterr()
    assert main([*common, "--run", run, "--samplers", "heun", "--calls", "3", *results]) == 0
    points = json.loads((tmp_path / "samplers.json").read_text(encoding="utf-8"))["entries"][0]["points"]
    assert [(point["sampler"], point["wanted_calls"]) for point in points] == [("euler", 2), ("heun", 3)]
    rows = [[cell.strip() for cell in line.split("|")[4:6]] for line in capsys.readouterr().out.splitlines()[2:4]]
    assert [[cell != "" for cell in row] for row in rows] == [[True, False], [False, True]]
    assert main([*common, "--run", run, "--samplers", "heun", "--calls", "3", "--guidance", "2", *results]) == 0
    points = json.loads((tmp_path / "samplers.json").read_text(encoding="utf-8"))["entries"][0]["points"]
    assert [point["sampler"] for point in points] == ["heun"]


def test_a_plain_drawing_is_named_as_before_there_were_caches_and_intervals():
    drawing = Drawing(sampler="euler", num_steps=2, guidance_scale=1.5, num_pictures=4)
    assert set(drawing.to_dict()) == {"sampler", "num_steps", "num_calls", "guidance_scale", "num_pictures", "seed"}


def test_a_judgement_is_not_made_again(common, run, tmp_path, monkeypatch):
    chosen = [*common, "--run", str(tmp_path / "out" / "runs" / run), "--samplers", "euler", "--calls", "2"]
    assert main([*chosen, "--results", str(tmp_path / "first.json")]) == 0

    def fail(*_args, **_options):
        raise AssertionError("drawn again")

    monkeypatch.setattr("benchmarks.quality_evaluation.draw", fail)
    assert main([*chosen, "--results", str(tmp_path / "second.json")]) == 0
    first, second = (json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("first.json", "second.json"))
    assert first == second


@pytest.mark.parametrize(("sampler", "calls", "steps"), [("euler", 5, 5), ("heun", 5, 3), ("heun", 20, 10), ("heun", 1, 1)])
def test_heun_takes_half_the_steps(sampler, calls, steps):
    assert steps_for_calls(sampler, calls) == steps


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--samplers", "ddpm"], "no sampler"),
        (["--calls", "0"], "--calls is '0'"),
        (["--calls", "many"], "--calls is 'many'"),
        (["--run", "nothing"], "holds no run"),
        (["--cache-intervals", "2,1"], "--cache-intervals has '1'"),
        (["--cache-intervals", "many"], "--cache-intervals has 'many'"),
        (["--guidance-intervals", "0.7-0.3"], "--guidance-intervals has '0.7-0.3'"),
        (["--guidance-intervals", "0.5"], "--guidance-intervals has '0.5'"),
        (["--guidance-intervals", "0.2-0.8", "--guidance", "1"], "its scale is 1"),
    ],
)
def test_bad_input_is_one_line_and_a_hint(common, run, extra, said, capsys, tmp_path):
    assert main([*common, "--run", run, "--calls", "2", "--results", str(tmp_path / "r.json"), *extra]) == 3
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert said in error
    assert hint.startswith("hint: ")


def test_missing_data_end_the_command(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "missing"), "--out", str(tmp_path), "--run", "x"]) == 3
    assert "is no folder" in capsys.readouterr().err


def test_results_go_to_the_benchmarks_own_folder_by_default():
    assert samplers.RESULTS.parent.name == "results"
