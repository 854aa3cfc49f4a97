import pytest
from scipy.stats import binomtest

from groundswell.uses.figure import EXIT_MISSED, Figure, exit_code_of, share
from model_core.evaluation.intervals import Interval, wilson_interval


@pytest.mark.parametrize(("true", "num"), [(0, 1), (1, 1), (3, 10), (10, 10), (64, 256)])
def test_the_interval_of_a_share_is_scipys(true: int, num: int) -> None:
    found, other = wilson_interval(true, num), binomtest(true, num).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((other.low, other.high))


def test_a_figure_is_held_to_the_worse_end_of_its_interval() -> None:
    interval = Interval(value=0.6, low=0.4, high=0.8)
    assert not Figure(name="f", value=0.6, interval=interval, threshold=0.5, num=9).reached
    assert Figure(name="f", value=0.6, interval=interval, threshold=0.4, num=9).reached
    assert not Figure(name="f", value=0.6, interval=interval, threshold=0.7, num=9, is_ceiling=True).reached
    assert Figure(name="f", value=0.6, interval=interval, threshold=0.8, num=9, is_ceiling=True).reached


def test_nothing_measured_is_nothing_reached() -> None:
    assert not share("verified", []).reached
    assert not Figure(name="leaks", value=0, threshold=0, num=0, is_ceiling=True).reached


def test_a_missed_figure_is_an_exit_code_and_worse_ones_go_first() -> None:
    reached, missed = share("verified", [True] * 3), share("verified", [True, False])
    assert exit_code_of([reached]) == 0
    assert exit_code_of([reached, missed]) == EXIT_MISSED
    assert exit_code_of([reached, missed], results=3) == 3


def test_a_share_that_guessing_gets_is_not_enough() -> None:
    assert not share("found", [True] * 2 + [False] * 6, threshold=0.125, chance=0.125).reached
    assert share("found", [True] * 6 + [False] * 2, threshold=0.125, chance=0.125).reached
