"""Paired decisions: against a t-test, against worlds with a known difference, and against none."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from groundswell.uses.paired import decide, sign_flip_p
from model_core.evaluation.motion import asked_directions
from tests.groundswell.uses.conftest import GUIDES, Use


def texts(num: int, a_text: int = 1) -> list[str]:
    return [f"text {place}" for place in range(num) for _ in range(a_text)]


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    dice = np.random.default_rng(0)
    hard = 5 * dice.normal(size=300)  # what makes a pair hard falls out
    a, b = hard + dice.normal(size=300), hard + 0.4 + dice.normal(size=300)
    found = decide(a, b, texts(300), margin=0.2, seed=0)
    other = ttest_rel(b, a).confidence_interval()
    assert (found.difference.low, found.difference.high) == pytest.approx((other.low, other.high), abs=0.03)
    assert (found.choice, found.more_pairs) == ("b", 0)
    assert decide(b, a, texts(300), margin=0.2, seed=0).choice == "a"


def test_no_difference_decides_nothing_in_nineteen_of_twenty_worlds() -> None:
    dice = np.random.default_rng(1)
    decided = [
        decide(*dice.normal(size=(2, 60)), texts(60), margin=0.1, seed=seed).choice in {"a", "b"}  # type: ignore[misc]
        for seed in range(200)
    ]
    assert np.mean(decided) < 0.1


def test_so_many_more_pairs_show_the_margin_in_four_of_five_worlds() -> None:
    dice = np.random.default_rng(2)
    spread, margin = 1.0, 0.5
    few = decide(np.zeros(10), np.concatenate([np.full(5, 1.0), np.full(5, -1.0)]), texts(10), margin=margin, seed=0)
    assert few.choice == "open"
    num = 10 + few.more_pairs
    assert num == pytest.approx((1.96 + 0.84) ** 2 * (10 / 9) / margin**2, abs=1.5)
    shown = [
        decide(np.zeros(num), margin + spread * np.sqrt(10 / 9) * dice.normal(size=num), texts(num), margin=margin, seed=0).choice
        for _ in range(200)
    ]
    assert 0.7 < np.mean([choice == "b" for choice in shown]) < 0.92


def test_pairs_of_one_text_are_one_piece_of_evidence() -> None:
    difference = np.random.default_rng(3).normal(size=12)
    alone = decide(np.zeros(12), difference, texts(12), margin=0.1, seed=0).difference
    tenfold = decide(np.zeros(120), np.repeat(difference, 10), texts(12, 10), margin=0.1, seed=0).difference
    assert (alone.low, alone.high) == pytest.approx((tenfold.low, tenfold.high))


def test_a_difference_that_is_surely_small_is_none_that_matters() -> None:
    difference = 0.01 * np.random.default_rng(4).normal(size=50)
    difference -= difference.mean()
    assert decide(np.zeros(50), difference, texts(50), margin=0.1, seed=0).choice == "same"


@pytest.mark.parametrize(("differ", "choice"), [(4, "open"), (5, "open"), (6, "b")])
def test_a_few_pairs_that_differ_one_way_decide_only_where_a_sign_test_does(differ: int, choice: str) -> None:
    b = np.array([1.0] * differ + [0.0] * (16 - differ))
    found = decide(np.zeros(16), b, texts(16), margin=0.2, seed=0)
    assert found.difference.low > 0  # the bootstrap alone would decide
    assert found.choice == choice
    assert sign_flip_p(b, seed=0) == pytest.approx(binomtest(differ, differ).pvalue)


def test_having_seen_no_difference_in_few_pairs_excludes_none() -> None:
    few, enough = (decide(np.zeros(num), np.zeros(num), texts(num), margin=0.2, seed=0) for num in (14, 15))
    assert (few.choice, few.more_pairs, enough.choice) == ("open", 1, "same")


def test_sides_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        decide(np.zeros(3), np.zeros(2), texts(3), margin=0.1, seed=0)


def test_the_scenarios_of_the_guide_each_name_a_direction() -> None:
    lines = (GUIDES / "decision" / "scenarios.csv").read_text().splitlines()[1:]
    assert len(lines) == len(set(lines)) == 16
    assert all(asked_directions(lines))


def test_a_text_without_a_direction_is_named(use: Use, tmp_path: Path) -> None:
    (tmp_path / "scenarios.csv").write_text("prompt\na cat moving left\na cat\n")
    called = use("decision", "m/1", "m/1", tmp_path / "scenarios.csv", "--out", tmp_path / "out")
    assert (called.exit_code, "'a cat' names no direction" in called.stderr) == (3, True)
