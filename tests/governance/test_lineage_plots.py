import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.lineage_report.plots import Estimate, estimate_words, estimates_of, loss_curve
from governance.lineage_report.plots_svg import draw_curve, draw_estimate, nice_ticks

figures = st.floats(-1e9, 1e9, allow_subnormal=False)


def test_a_curve_keeps_its_ends_and_says_in_words_what_it_shows() -> None:
    curve = loss_curve([2.0 - step / 1000 for step in range(1000)], title="Loss", subject="model:x")
    assert curve is not None
    assert (curve.x[0], curve.x[-1], len(curve.x) < 260) == (1, 1000, True)
    assert (curve.y[0], curve.y[-1]) == (2.0, 1.001)
    assert curve.words.startswith("1,000 steps. The loss was 2 at first and 1.01 at the end")


def test_steps_without_a_finite_loss_are_left_out() -> None:
    curve = loss_curve([2.0, math.nan, math.inf, 1.0], title="Loss", subject="model:x")
    assert curve is not None
    assert (curve.x, curve.y) == ((1, 4), (2.0, 1.0))
    assert loss_curve([1.0], title="Loss", subject="model:x") is None
    assert loss_curve([math.nan] * 5, title="Loss", subject="model:x") is None


def test_figures_are_drawn_with_what_they_are_to_be_compared_with() -> None:
    metrics = {"kid": 0.3, "kid_low": 0.2, "kid_high": 0.4, "kid_real": 0.0, "kid_noise": 0.8, "steps": 5, "precision": math.nan}
    found = estimates_of(metrics, title="Evaluation", subject="step:x")
    assert found is not None
    references = (("real pictures", 0.0), ("noise", 0.8))
    assert found.estimates == (Estimate(name="kid", value=0.3, low=0.2, high=0.4, references=references),)
    assert estimate_words(found.estimates[0]) == "0.3, 95 % interval 0.2 to 0.4; real pictures 0, noise 0.8"
    assert estimates_of({"steps": 5, "kid_low": 0.2}, title="Evaluation", subject="step:x") is None


@given(st.lists(figures, min_size=2, max_size=40))
def test_any_curve_is_drawn_within_its_frame(losses: list[float]) -> None:
    curve = loss_curve(losses, title='<"&>', subject="model:x")
    assert curve is not None
    drawing = ET.fromstring(draw_curve(curve))
    assert drawing.attrib["aria-label"].startswith('<"&>: ')
    _, _, width, height = map(float, drawing.attrib["viewBox"].split())
    lines = [path.attrib["d"] for path in drawing.iter("{http://www.w3.org/2000/svg}path") if path.attrib["class"] != "grid"]
    points = [tuple(map(float, point.strip("ML ").split())) for line in lines for point in line.split(" L")]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


@given(figures, st.none() | st.tuples(figures, figures), st.lists(figures, max_size=3))
def test_any_estimate_is_drawn_within_its_frame(value: float, bounds: tuple[float, float] | None, others: list[float]) -> None:
    low, high = sorted(bounds) if bounds else (None, None)
    names = ("real pictures", "noise", "chance")
    estimate = Estimate(name="x<y", value=value, low=low, high=high, references=tuple(zip(names, others, strict=False)))
    drawing = ET.fromstring(draw_estimate(estimate))
    dot = drawing.find("{http://www.w3.org/2000/svg}circle")
    assert dot is not None
    assert 0 <= float(dot.attrib["cx"]) <= float(drawing.attrib["viewBox"].split()[2])


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (1.3, 1.9, [1.2, 1.4, 1.6, 1.8, 2])]
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)
