import json
import shutil

import pytest
import torch

from governance.digest import file_digests
from governance.promotion.non_inferiority import NotComparableError, compare
from model_core.data.dataset import Dataset
from model_core.errors import BadModelError
from model_core.evaluation.features import FeatureExtractor
from model_core.evaluation.training_index import Items, TrainingIndex
from tests.components.evaluated_world import CONFIG, evaluated_world, evaluation_weights, picture

weights = pytest.fixture(scope="module")(evaluation_weights)
world = pytest.fixture(evaluated_world)


def test_evaluation_reports_figures_with_their_bounds(world):
    report = world.run()
    metrics = report.metrics
    assert metrics["kid_low"] <= metrics["kid"] <= metrics["kid_high"]
    assert metrics["kid"] < metrics["kid_noise"]
    assert metrics["category_accuracy"] == 1.0
    assert 0.5 <= metrics["category_accuracy_chance"] < 1.0
    assert {"category_accuracy_real", "kid_real", "memorised_share", "memorisation_ratio_median"} <= set(metrics)
    assert "fd_effnet_lite0" not in metrics
    assert world.recorder.metrics == metrics
    assert set(world.recorder.gauges) == {f"evaluation_{name}" for name in metrics}
    written = json.loads((world.root / "evaluation" / "report.json").read_text())
    assert written["metrics"] == metrics
    assert written["sampling"] == {"num_steps": 3, "guidance_scale": 2.0, "sampler": None, "seed": 0}
    assert {"drawing samples", "looking at samples", "computing figures"} <= set(world.recorder.descriptions)
    for paths in report.artifacts.values():
        assert all((world.root / "evaluation" / path).is_file() for path in paths)
    assert "&lt;b&gt;" in (world.root / "evaluation" / "report.html").read_text()


def evaluation(world, name="evaluation"):
    return json.loads((world.root / name / "report.json").read_text())


def test_two_models_judged_on_one_holdout_are_compared_in_pairs_and_on_another_not_at_all(world):
    world.run()
    world.forget_samples()
    world.stand_in.draw = lambda label, seed: picture("hot", 3000 + seed)
    world.run(output="other")
    better, worse = evaluation(world), evaluation(world, "other")
    found = compare(worse, better, "category_accuracy", better="higher", margin=0.1, confidence=0.9)
    assert not found.non_inferior
    assert found.difference == pytest.approx(-0.5)
    assert compare(better, worse, "category_accuracy", better="higher", margin=0.0, confidence=0.9).non_inferior
    assert compare(better, better, "kid", better="lower", margin=0.0, confidence=0.9).difference == 0
    world.forget_samples()
    world.run(CONFIG.model_copy(update={"feature_size": 64}), output="other eye")
    with pytest.raises(NotComparableError, match="different holdouts"):
        compare(evaluation(world, "other eye"), better, "kid", better="lower", margin=0.0, confidence=0.9)


def test_the_holdout_is_known_again_among_other_training_pictures_but_not_when_it_changed(world):
    world.run()
    holdout = evaluation(world)["resamples"]["holdout"]
    for output, options, is_same in (
        ("less training", {"num_train": 15, "first": 1}, True),
        ("less holdout", {"num_holdout": 5}, False),
    ):
        world.forget_samples()
        world.redo_dataset(**options)
        world.run(output=output)
        assert (evaluation(world, output)["resamples"]["holdout"] == holdout) is is_same


def test_lists_of_numbers_take_one_line_each(world):
    world.run()
    text = (world.root / "evaluation" / "report.json").read_text()
    assert len(text.splitlines()) < 400
    assert len(evaluation(world)["resamples"]["metrics"]["kid"]) == 100


def test_options_of_sampling_are_the_configurations_or_else_the_models_and_stand_in_the_report(world):
    path = world.root / "model" / "config.json"
    model = json.loads(path.read_text())
    model["sampling"] |= {"cache_interval": 2, "guidance_rescale": 0.7, "ddpm_variance": "large"}
    path.write_text(json.dumps(model))
    world.run(CONFIG.model_copy(update={"cache_interval": 3, "guidance_interval": (0.2, 0.8)}))
    chosen = {"cache_interval": 3, "guidance_rescale": 0.7, "guidance_interval": (0.2, 0.8)}
    assert world.stand_in.options == chosen
    written = json.loads((world.root / "evaluation" / "report.json").read_text())["sampling"]
    assert written.items() >= {**chosen, "guidance_interval": [0.2, 0.8]}.items()


def test_evaluation_is_the_same_each_time_and_draws_once(world):
    world.run()
    assert [call[0] for call in world.stand_in.calls] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    world.run(output="again")
    assert len(world.stand_in.calls) == 2
    assert file_digests(world.root / "evaluation") == file_digests(world.root / "again")


def test_samples_are_drawn_where_it_is_asked_for_and_not_again_elsewhere(world, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    world.run()
    assert world.stand_in.devices == ["auto", "auto"]
    world.run(CONFIG.model_copy(update={"device": "cpu"}), output="cpu")
    assert len(world.stand_in.calls) == 2
    assert file_digests(world.root / "evaluation") == file_digests(world.root / "cpu")
    with pytest.raises(BadModelError, match="no CUDA GPU"):
        world.run(CONFIG.model_copy(update={"device": "cuda"}), output="cuda")


def test_killed_evaluation_resumes_after_the_last_batch(world):
    draw = world.stand_in.draw

    def die(label, seed):
        if seed >= 4:
            raise KeyboardInterrupt
        return draw(label, seed)

    world.stand_in.draw = die
    with pytest.raises(KeyboardInterrupt):
        world.run()
    world.stand_in.draw = draw
    world.run(output="resumed")
    assert [call[0][0] for call in world.stand_in.calls] == [0, 4, 4]


def test_damaged_checkpoints_and_caches_are_made_anew(world):
    world.run()
    sound = [path.read_bytes() for path in world.references()]
    for path in (*world.scratch.glob("samples-*/*.npy"), *world.references()):
        path.write_bytes(path.read_bytes()[:50])
    world.run(output="again")
    assert file_digests(world.root / "evaluation") == file_digests(world.root / "again")
    assert [path.read_bytes() for path in world.references()] == sound


@pytest.fixture
def measured(monkeypatch):
    """Counts the pictures that the feature extractor looks at."""
    counts, extract = [], FeatureExtractor.extract

    def counting(self, images, **options):
        counts.append(len(images))
        return extract(self, images, **options)

    monkeypatch.setattr(FeatureExtractor, "extract", counting)
    return counts


def test_another_model_does_not_measure_the_real_pictures_again(world, measured):
    world.run()
    first = sum(measured)
    assert first == 16 + 6 + 8 + 8  # training, holdout, samples, noise
    measured.clear()
    world.forget_samples()
    world.stand_in.draw = lambda label, seed: picture("cold" if label == 0 else "hot", 3000 + seed)
    world.run(output="other")
    assert sum(measured) == 8 + 6 + 8 + 8  # one batch of each split, to be sure of what was kept
    assert len(world.references()) == 2


def test_the_report_does_not_depend_on_the_cache(world, weights):
    world.run()
    world.forget_samples()
    world.run(output="cached")
    world.forget_samples()
    (world.scratch / "weights").mkdir(parents=True)
    shutil.copy(weights, world.scratch / "weights" / weights.name)
    world.run(output="uncached", cached=False)
    assert file_digests(world.root / "evaluation") == file_digests(world.root / "cached") == file_digests(world.root / "uncached")


@pytest.mark.parametrize("update", [{"feature_size": 64}, {"max_real": 12}])
def test_other_features_are_measured_anew(world, measured, update):
    world.run()
    measured.clear()
    world.run(CONFIG.model_copy(update=update), output="other")
    assert sum(measured) >= 12 + 6 + 8 + 8
    assert len(world.references()) in {3, 4}


def test_a_changed_dataset_is_measured_anew(world, measured):
    world.run()
    world.forget_samples()
    measured.clear()
    world.redo_dataset(num_train=18)
    world.run(output="other")
    assert sum(measured) == 18 + 6 + 8 + 8


def test_fidelity_and_diversity_stand_beside_their_bounds(world):
    metrics = world.run().metrics
    for name in ("precision", "recall", "density", "coverage"):
        assert metrics[name] >= 0
        assert {f"{name}_real", f"{name}_noise"} <= set(metrics)
    written = json.loads((world.root / "evaluation" / "report.json").read_text())
    frechet = written["fd_effnet_lite0"]
    assert frechet["biased"] is True
    assert frechet["num"] == {"samples": 8, "real": 8, "noise": 8}
    assert frechet["samples"] < frechet["noise"]
    assert written["manifold"]["samples"]["recall"] == metrics["recall"]
    html = (world.root / "evaluation" / "report.html").read_text()
    assert "are they varied?" in html
    assert "FD-EffNetLite0" in html


def test_noise_is_measured_on_as_many_pictures_as_there_are_samples(world):
    world.run(CONFIG.model_copy(update={"num_samples": 136, "batch_size": 68}))
    written = json.loads((world.root / "evaluation" / "report.json").read_text())
    assert written["fd_effnet_lite0"]["num"] == {"samples": 136, "real": 16, "noise": 136}


def test_the_samples_ratio_of_distances_stands_beside_that_of_real_pictures(world):
    metrics = world.run().metrics
    written = json.loads((world.root / "evaluation" / "report.json").read_text())
    assert written["memorisation"]["ratio_median_real"] == metrics["memorisation_ratio_median_real"] > 0
    html = (world.root / "evaluation" / "report.html").read_text()
    assert f"real pictures it is {metrics['memorisation_ratio_median_real']:.3g}" in html


def test_a_holdout_too_small_for_radii_has_no_precision(world):
    world.redo_dataset(num_holdout=5)
    metrics = world.run().metrics
    assert "kid" in metrics
    assert "precision" not in metrics
    assert json.loads((world.root / "evaluation" / "report.json").read_text())["manifold"] is None


def test_a_model_that_copies_training_pictures_is_shown_with_them(world):
    world.redo_dataset(num_train=40, num_holdout=20)
    hot = [number for number in range(40) if number % 2]
    cold = [number for number in range(40) if not number % 2]
    world.stand_in.draw = lambda label, seed: picture("cold" if label == 0 else "hot", (cold if label == 0 else hot)[seed])
    world.run()
    memorisation = json.loads((world.root / "evaluation" / "report.json").read_text())["memorisation"]
    assert memorisation["memorised_share"] > memorisation["memorised_share_real"]
    pair = memorisation["worst"][0]
    assert pair["memorised"]
    assert pair["train_distance"] == pytest.approx(0, abs=1e-3)
    assert pair["train_sha256"] in set(Dataset.open(world.root / "dataset").columns["sha256"])


def test_other_settings_draw_other_samples(world):
    world.run()
    world.run(CONFIG.model_copy(update={"num_steps": 5, "guidance_scale": 0.0}), output="other")
    assert world.stand_in.calls[-1][1:] == (5, 0.0)


def test_a_model_that_ignores_its_condition_scores_chance(world):
    world.stand_in.draw = lambda label, seed: picture("hot", 2000 + seed)
    metrics = world.run().metrics
    assert metrics["category_accuracy"] <= metrics["category_accuracy_chance"]


def test_a_model_without_captions_is_asked_by_label(world):
    world.stand_in.text_dim = 0
    assert world.run().metrics["category_accuracy"] == 1.0


def test_what_samples_teach_is_measured_beside_what_real_pictures_teach(world):
    config = CONFIG.model_copy(update={"num_samples": 24})
    report = world.run(config)
    assert report.metrics["utility_tstr"] == report.metrics["utility_trtr"] == report.metrics["utility_ratio"] == 1.0
    assert "worth 100% of one taught by real data" in report.summary
    assert "Can the samples stand in for real data?" in (world.root / "evaluation" / "report.html").read_text()
    world.forget_samples()
    world.stand_in.draw = lambda label, seed: picture("hot" if label == 0 else "cold", 1000 + seed)
    confused = world.run(config, output="confused").metrics
    assert confused["utility_tstr"] == confused["utility_trts"] == 0.0
    assert confused["utility_trtr"] == 1.0


def test_utility_is_left_out_where_it_is_not_wanted_or_there_are_no_labels(world):
    world.run(CONFIG.model_copy(update={"utility": False}))
    assert evaluation(world)["utility"] is None
    assert not any(name.startswith("utility") for name in evaluation(world)["metrics"])


def test_the_index_of_training_items_knows_them_again_and_lets_held_out_ones_pass(world):
    world.run()
    index = TrainingIndex.load(world.root / "evaluation" / "training_index.safetensors")
    dataset = Dataset.open(world.root / "dataset")
    extractor = FeatureExtractor(next((world.cache / "weights").iterdir()), input_size=32)
    for split, are_copies in (("train", True), ("holdout", False)):
        frames = dataset.clips(dataset.rows(split))
        found = index.compare(Items.of(frames, extractor.extract(frames[:, 0])))
        assert {one.is_near_copy for one in found} == {are_copies}
    assert index.sha256 == tuple(dataset.columns["sha256"][row] for row in dataset.rows("train"))
