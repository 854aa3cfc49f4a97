import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.lineage_diff import Item, ItemChanges, Origin, compare_origins
from governance.lineage_report.model import Picture
from governance.model_diff.difference_svg import difference_words, draw_difference
from governance.model_diff.html import render_html
from governance.model_diff.metrics import compare_metrics, judged_alike
from governance.model_diff.model import Difference, MetricPair, ModelDiff, PicturePair, Setting, Side, to_json
from governance.model_diff.words import headline, sentences
from governance.model_records import Figure

HOLDOUT = "ab" * 32
HOSTILE = "<script>alert(1)</script>\u202e\"'&"
figures = st.floats(-1e9, 1e9, allow_subnormal=False)


def report(*, holdout: str = HOLDOUT, **metrics: float) -> dict[str, Any]:
    """An evaluation whose replicates vary by 0.1, alike for all, and by 0.01 on their own."""
    shared = np.random.default_rng(0).normal(0, 0.1, 400)
    own = {name: np.random.default_rng(round(1e6 * value)).normal(value, 0.01, 400) for name, value in metrics.items()}
    resampled = {name: (shared + values).tolist() for name, values in own.items()}
    return {"metrics": metrics, "resamples": {"seed": 0, "num": 400, "holdout": holdout, "metrics": resampled}}


def pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, MetricPair]:
    found = compare_metrics((first["metrics"], second["metrics"]), (first, second))
    return {pair.name: pair for pair in found}


def model_diff(first: Mapping[str, Any], second: Mapping[str, Any], **options: Any) -> ModelDiff:
    name = options.pop("name", "m/2")
    origins = [
        Origin(name=side, package=side, sections={"data": {"pictures": "d"}, "parameters": {"steps": number, "rate": 1}})
        for number, side in enumerate(("m/1", name))
    ]
    values: dict[str, Any] = {
        "sides": (Side(name="m/1", package="1" * 64, created=""), Side(name=name, package="2" * 64, created="")),
        "metrics": tuple(pairs(first, second).values()),
        "config": (),
        "inputs": (),
        "lineage": compare_origins(*origins),
        "pictures": (),
        "same_holdout": judged_alike(first, second),
    }
    return ModelDiff(**values | options)


@pytest.mark.parametrize(
    ("name", "first", "second", "verdict"),
    [
        ("kid", 0.4, 0.2, "better"),
        ("kid", 0.2, 0.4, "worse"),
        ("kid", 0.2, 0.201, "undecided"),
        ("category_accuracy", 0.4, 0.6, "better"),
        ("category_accuracy", 0.6, 0.4, "worse"),
        ("memorised_share", 0.1, 0.3, "worse"),
        ("something_new", 0.1, 0.3, "different"),
    ],
)
def test_a_difference_is_the_second_as_against_the_first(name: str, first: float, second: float, verdict: str) -> None:
    pair = pairs(report(**{name: first}), report(**{name: second}))[name]
    assert pair.difference is not None
    assert pair.difference.verdict == verdict
    assert pair.difference.value == pair.change == pytest.approx(second - first)
    assert pair.difference.low < second - first < pair.difference.high
    assert pair.difference.high - pair.difference.low < 0.1  # what varies alike has fallen out


def test_without_a_common_holdout_there_is_a_change_and_the_reason_why_it_has_no_interval() -> None:
    first = report(kid=0.4)
    for second, words in (
        (report(kid=0.2, holdout="cd" * 32), "different holdouts"),
        ({"metrics": {"kid": 0.2}}, "the second model was evaluated before resamples were kept"),
        ({"metrics": {"kid": 0.2}, "resamples": {"metrics": {"kid": 5}}}, "no SHA-256"),
    ):
        pair = pairs(first, second)["kid"]
        assert pair.difference is None
        assert pair.change == pytest.approx(-0.2)
        assert words in pair.why_not
        assert not judged_alike(first, second)
        diff = model_diff(first, second)
        assert headline(diff) == "m/1 and m/2 were not tested alike, so neither can be called better"
        assert words in sentences(diff)[0]
    assert judged_alike(first, first)


def test_a_figure_on_record_that_is_not_the_packages_has_no_interval() -> None:
    first, second = report(kid=0.4), report(kid=0.2)
    (pair,) = compare_metrics(({"kid": 0.4}, {"kid": 0.1}), (first, second))
    assert pair.difference is None
    assert pair.why_not == "the figure on record is not the one in the package"


def test_figures_of_one_model_only_stand_beside_nothing() -> None:
    found = pairs(report(kid=0.4, precision=0.1), {"metrics": {"kid": 0.2}})
    assert found["precision"].second is None
    assert found["precision"].change is None
    assert compare_metrics(({}, {}), ({}, {})) == ()


def test_the_heading_says_which_is_better_and_the_sentences_in_what() -> None:
    base = report(kid=0.4, category_accuracy=0.5, memorised_share=0.1)
    better = model_diff(base, report(kid=0.2, category_accuracy=0.5001, memorised_share=0.0))
    assert headline(better) == "m/2 draws better than m/1"
    tested, made = sentences(better)
    assert "the pictures of m/2 come closer to real ones and repeat training pictures less often, as against" in tested
    assert "No difference can be told from chance in how often they show what was asked for." in tested
    assert made == "They were trained on the same data. How they were made differs in 1 setting."
    mixed = model_diff(base, report(kid=0.2, category_accuracy=0.3, memorised_share=0.1))
    assert headline(mixed) == "m/2 is better than m/1 in some respects, and worse in others"
    assert headline(model_diff(base, report(kid=0.6))) == "m/2 draws worse than m/1"
    assert headline(model_diff(base, base)) == "No difference between m/1 and m/2 is to be seen in the tests"
    same = replace(better, sides=(better.sides[0], better.sides[0]))
    assert headline(same) == "m/1 and m/1 are the same model"


def test_changed_data_are_told_in_words() -> None:
    item = Item(sha256="e" * 64, split="train", withdrawn="2026-01-01T00:00:00.000000Z", reason="the licence ended")
    changes = ItemChanges(name="emoji", datasets=("1", "2"), left_out=(item,), added=())
    diff = model_diff(report(kid=0.4), report(kid=0.2))
    diff = replace(diff, lineage=replace(diff.lineage, items=(changes,)))
    assert sentences(diff)[-1] == "Of emoji, the second has 1 item left out (1 of them withdrawn) and 0 items added."
    page = render_html(diff)
    assert "withdrawn on 2026-01-01 00:00:00 UTC: the licence ended" in page
    unknown = replace(changes, left_out=None, added=None)
    assert "is unknown" in sentences(replace(diff, lineage=replace(diff.lineage, items=(unknown,))))[-1]


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and what they load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]
        assert not [name for name, _ in attrs if name.startswith("on")]


def test_a_page_holds_all_it_needs_and_escapes_what_comes_from_records() -> None:
    picture = Picture(caption=HOSTILE, data_uri="data:image/png;base64,AAAA", sha256="f" * 64)
    first, second = report(kid=0.4, **{HOSTILE: 0.2}), report(kid=0.2, **{HOSTILE: 0.6})
    diff = model_diff(
        first,
        second,
        name=HOSTILE,
        config=(Setting(name=HOSTILE, first=HOSTILE, second={HOSTILE: [HOSTILE, None, True, 3]}),),
        inputs=(Setting(name=HOSTILE, first="a" * 64, second=None),),
        pictures=(PicturePair(name=HOSTILE, first=picture, second=None), PicturePair(name="x", first=picture, second=picture)),
    )
    page = render_html(diff)
    assert "<script" not in page
    assert "\u202e" not in page
    assert page.count("&lt;script&gt;") > 10
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert {load[:22] for load in parsed.loads} == {"data:image/png;base64,"}
    assert parsed.tags.count("svg") == 2
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page)
    assert "the same for both" in page
    assert to_json(diff)["pictures"]["x"] == {"m/1": "f" * 64, HOSTILE: "f" * 64}


def test_whether_pictures_were_drawn_for_the_same_descriptions_is_said() -> None:
    picture = Picture(caption="samples", data_uri="data:image/png;base64,AAAA", sha256="f" * 64)
    shown = (PicturePair(name="x", first=picture, second=picture),)
    alike, apart = (report(kid=0.2, holdout=holdout) for holdout in (HOLDOUT, "cd" * 32))
    assert "the same place shows the same task" in render_html(model_diff(alike, alike, pictures=shown))
    assert "do not compare place by place" in render_html(model_diff(alike, apart, pictures=shown))


@given(figures, st.tuples(figures, figures), st.sampled_from(["lower", "higher", None]))
def test_any_difference_is_drawn_within_its_frame_with_what_is_better_to_the_right(
    value: float, ends: tuple[float, float], better: Any
) -> None:
    low, high = min(*ends, value), max(*ends, value)
    difference = Difference(value=value, low=low, high=high, verdict="different")
    pair = MetricPair(name="x<y", first=None, second=None, better=better, difference=difference)
    drawing = ET.fromstring(draw_difference(pair))
    dot = drawing.find("{http://www.w3.org/2000/svg}circle")
    assert dot is not None
    across, width = float(dot.attrib["cx"]), float(drawing.attrib["viewBox"].split()[2])
    assert 0 <= across <= width
    assert (across - width / 2) * value * (-1 if better == "lower" else 1) >= 0
    assert drawing.attrib["aria-label"] == f"x<y: {difference_words(pair)}"


def test_what_cannot_be_compared_is_not_drawn() -> None:
    pair = MetricPair(name="kid", first=Figure(name="kid", value=1.0), second=None, why_not="other holdouts")
    assert draw_difference(pair) == ""
    assert difference_words(pair) == "other holdouts"
