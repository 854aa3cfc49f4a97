"""What drives clicks, against scikit-learn, against known truth, and against clicks that say nothing."""

import csv
import statistics
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from groundswell.uses.click_model import PRIOR_STD, Variant, fit_clicks, held_out_auc, is_held_out, ranking_auc
from groundswell.uses.command import write_table
from groundswell.uses.insight import caption_of
from tests.groundswell.uses.conftest import GUIDES, Use
from tests.groundswell.uses.interactions import EFFECTS, LEVELS, shuffled, simulate


@pytest.fixture(scope="module")
def variants() -> list[Variant]:
    return simulate(144, seed=20)


def test_the_committed_interactions_are_the_invented_ones(variants: list[Variant]) -> None:
    with (GUIDES / "insight" / "interactions.csv").open(newline="") as file:
        rows = [{**row, "shown": int(row["shown"]), "clicked": int(row["clicked"])} for row in csv.DictReader(file)]
    assert rows == [{**one.levels, "shown": one.shown, "clicked": one.clicked} for one in variants]


def test_coefficients_are_those_of_scikit_learn(variants: list[Variant]) -> None:
    fitted = fit_clicks(variants)
    design = fitted.design([one.levels for one in variants])[:, 1:]
    weight = np.array([[one.clicked, one.shown - one.clicked] for one in variants], dtype=float)
    other = LogisticRegression(C=PRIOR_STD**2, tol=1e-10, max_iter=5000)
    other.fit(np.repeat(design, 2, axis=0), np.tile([1, 0], len(variants)), sample_weight=weight.ravel())
    assert fitted.coefficients[1:] == pytest.approx(other.coef_[0], abs=1e-3)
    assert fitted.coefficients[0] == pytest.approx(other.intercept_[0], abs=1e-2)


def test_the_ranking_is_that_of_scikit_learn_with_ties_too(variants: list[Variant]) -> None:
    dice = np.random.default_rng(0)
    predicted = dice.integers(0, 9, size=len(variants)) / 10
    shown, clicked = (np.array([getattr(one, name) for one in variants], dtype=float) for name in ("shown", "clicked"))
    weight = np.stack([clicked, shown - clicked], axis=1).ravel()
    other = roc_auc_score(np.tile([1, 0], len(variants)), np.repeat(predicted, 2), sample_weight=weight)
    assert ranking_auc(predicted, shown, clicked) == pytest.approx(other)


def test_intervals_hold_the_truth_and_what_is_credible_is_true() -> None:
    held, credible = [], []
    for seed in range(40):
        for effect in fit_clicks(simulate(144, seed=seed)).effects():
            levels = LEVELS[effect.attribute]
            truth = EFFECTS.get(effect.level, 0.0) - statistics.mean(EFFECTS.get(level, 0.0) for level in levels)
            held.append(effect.interval.low <= truth <= effect.interval.high)
            if effect.is_credible:
                credible.append(effect.interval.value * truth > 0)
    assert 0.9 <= statistics.mean(held) <= 0.98
    assert statistics.mean(credible) > 0.99


def test_a_level_that_was_never_clicked_stays_finite() -> None:
    found = fit_clicks([Variant(levels={"a": name}, shown=50, clicked=clicks) for name, clicks in (("x", 0), ("y", 25))])
    assert all(abs(effect.interval.value) < 10 for effect in found.effects())


def test_which_variants_are_held_out_does_not_hang_on_clicks_or_order(variants: list[Variant]) -> None:
    assert 0.2 < statistics.mean(is_held_out(one.levels) for one in variants) < 0.45
    assert is_held_out({"a": "1", "b": "2"}) == is_held_out({"b": "2", "a": "1"})


def test_clicks_that_say_nothing_rank_nothing(variants: list[Variant]) -> None:
    assert held_out_auc(variants, seed=0).low > 0.55
    passed = [held_out_auc(shuffled(variants, seed=seed), seed=0).low >= 0.52 for seed in range(20)]
    assert sum(passed) <= 1


def test_shuffled_clicks_miss_the_figure_and_nothing_is_made(use: Use, variants: list[Variant], tmp_path: Path) -> None:
    table = tmp_path / "interactions.csv"
    write_table(table, [{**one.levels, "shown": one.shown, "clicked": one.clicked} for one in shuffled(variants, seed=1)])
    called = use("insight", "--json", "no-model/1", table, "--out", tmp_path / "out")
    assert called.exit_code == 5, called.stderr
    assert not called.document["figures"][0]["reached"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["effects.csv", "next.csv"]


@pytest.mark.parametrize("cells", ["cat,bouncing,red,slowly,5,6", "cat,bouncing,red,slowly,x,1", "cat,,red,slowly,5,1"])
def test_a_row_that_cannot_be_is_named(use: Use, tmp_path: Path, cells: str) -> None:
    table = tmp_path / "interactions.csv"
    table.write_text(f"graphic,motion,background,pace,shown,clicked\n{cells}\n")
    called = use("insight", "no-model/1", table, "--out", tmp_path / "out")
    assert (called.exit_code, "row 1" in called.stderr) == (3, True)


def test_a_variant_in_words() -> None:
    levels = {"graphic": "owl", "motion": "moving left", "pace": "slowly", "background": "red"}
    assert caption_of(levels) == "an owl moving left slowly on a red background"
