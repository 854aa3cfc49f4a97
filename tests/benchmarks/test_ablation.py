import json
from statistics import mean

import pytest

from benchmarks import ablation, quality_runs
from benchmarks.ablation import ARMS, BASE, DEFAULT_ARMS, RESULTS, main
from benchmarks.command import read_json
from benchmarks.quality_runs import TransformerConfig
from model_core.transformer.presets import MODERN
from tests.benchmarks.toy_recipes import TOY_FLOW

TOY_ARMS = {
    "base": TOY_FLOW.changed("base"),
    "uniform-times": TOY_FLOW.changed("uniform-times", training={"time_sampling": "uniform"}),
    "guidance-3": TOY_FLOW.changed("guidance-3", guidance_scale=3.0),
    "latents-patch-pca": TOY_FLOW.changed("latents-patch-pca", space="patch-pca", architecture={"patch_size": (1, 1, 1)}),
    "latents-codec": TOY_FLOW.changed("latents-codec", space="codec"),
}


@pytest.fixture
def arguments(data, classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "ARMS", TOY_ARMS)
    options = {
        "--data": data,
        "--out": tmp_path / "out",
        "--classifier": classifier,
        "--results": tmp_path / "results.json",
        "--samples": 10,
        "--threads": 1,
    }
    return [word for name, value in options.items() for word in (name, str(value))]


def test_prints_a_row_an_arm_against_the_base(arguments, tmp_path, capsys):
    assert main([*arguments, "--steps", "2", "--arms", "guidance-3,latents-patch-pca", "--seeds", "0,1"]) == 0
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in document["entries"]] == [
        name for name in ("base", "guidance-3", "latents-patch-pca") for _ in range(2)
    ]
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[1].strip() for row in rows] == ["arm", "---", "base", "guidance-3", "latents-patch-pca"]
    assert rows[2][6].strip() == "+0.00"
    assert "±" in rows[2][5]


def test_arms_that_differ_in_sampling_alone_are_trained_once(arguments, tmp_path):
    assert main([*arguments, "--steps", "2", "--arms", "guidance-3"]) == 0
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1


def test_an_interrupted_ablation_goes_on(arguments, monkeypatch, capsys):
    chosen = [*arguments, "--steps", "2", "--arms", "uniform-times"]
    real, trained = quality_runs.train, []

    def interrupted(config, *args, **options):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(config)
        return real(config, *args, **options)

    monkeypatch.setattr(quality_runs, "train", interrupted)
    assert main(chosen) == 130
    assert "goes on where it stopped" in capsys.readouterr().err
    trained.clear()
    monkeypatch.setattr(
        quality_runs, "train", lambda config, *args, **options: trained.append(config) or real(config, *args, **options)
    )
    assert main(chosen) == 0
    assert [config.time_sampling for config in trained] == ["uniform"]


@pytest.mark.parametrize(
    ("extra", "said"),
    [(["--arms", "nothing"], "no arm 'nothing'"), (["--arms", "latents-codec"], "needs a trained codec")],
)
def test_bad_input_is_one_line_and_a_hint(arguments, extra, said, capsys):
    assert main([*arguments, "--steps", "2", *extra]) == 3
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert said in error
    assert hint.startswith("hint: ")


def test_missing_data_end_the_command(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "missing"), "--out", str(tmp_path / "out"), "--steps", "1"]) == 3
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(ARMS))
def test_every_arm_makes_a_valid_configuration_and_differs_from_the_base(name):
    arm, base = ARMS[name], ARMS["base"]
    quality_runs._training_config(arm, 0, num_steps=1, every=1)
    TransformerConfig(in_channels=1, num_labels=10, **arm.architecture)
    assert arm.name == name
    assert name == "base" or arm.changed("base") != base


def test_the_default_arms_need_no_codec():
    assert all(ARMS[name].space != "codec" for name in DEFAULT_ARMS)


@pytest.fixture
def measured():
    distances = {}
    for path in (RESULTS, RESULTS.with_name("ablation-seeds.json")):  # where an arm has several seeds, they count
        by_name = {}
        for entry in read_json(path)["entries"]:
            by_name.setdefault(entry["name"], []).append(entry["points"][-1]["distance"])
        distances |= {name: mean(found) for name, found in by_name.items()}

    def measured(parts):
        (name,) = [name for name, arm in ARMS.items() if arm == BASE.changed(name, architecture=parts)]
        return distances[name]

    return measured


@pytest.mark.parametrize("part", MODERN)
def test_the_preset_modern_was_measured_to_be_better_with_each_of_its_parts_than_without(part, measured):
    without = {name: value for name, value in MODERN.items() if name != part}
    assert measured(MODERN) < measured(without) < measured({})


@pytest.mark.parametrize("path", [RESULTS, RESULTS.with_name("ablation-seeds.json")], ids=lambda path: path.stem)
def test_every_committed_figure_is_of_the_arm_of_its_name(path):
    for entry in read_json(path)["entries"]:
        architecture = {**entry["recipe"]["architecture"], "patch_size": tuple(entry["recipe"]["architecture"]["patch_size"])}
        assert architecture == ARMS[entry["name"]].architecture, entry["name"]
