from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from model_core.evaluation.report_html import render_report, scale

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"


def interval(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def document(caption=HOSTILE, label=HOSTILE):
    pair = {
        "seed": "0",
        "caption": caption,
        "memorised": False,
        "ratio": 0.9,
        "train_sha256": "a" * 64,
        "train_distance": 0.5,
        "holdout_distance": 0.6,
    }
    return {
        "metrics": {},
        "num_samples": 8,
        "num_train": 20,
        "num_holdout": 5,
        "dataset": {"name": HOSTILE, "digest": "d" * 64, "attribution": HOSTILE},
        "model": {"digest": "e" * 64},
        "sampling": {"num_steps": 20, "guidance_scale": 3.0, "seed": 0},
        "features": {"name": "EfficientNet-Lite0", "input_size": 160, "weights_licence": "not stated"},
        "kid": {"samples": interval(0.2), "real": interval(0.0), "noise": interval(0.8)},
        "category_accuracy": {
            "samples": interval(0.7),
            "real": interval(0.9),
            "chance": 0.5,
            "by_label": {label: interval(0.7), "b": interval(0.5)},
            "labels": [label, "b"],
            "confusion": [[3, 1], [2, 2]],
        },
        "memorisation": {
            "memorised_share": 0.0,
            "memorised_share_real": 0.05,
            "ratio_median": 0.9,
            "ratio_median_real": 0.87,
            "worst": [pair],
        },
    }


UTILITY = {name: interval(value) for name, value in (("ratio", 0.75), ("tstr", 0.6), ("trts", 0.7), ("trtr", 0.8))} | {
    "chance": 0.4,
    "chance_samples": 0.35,
    "num_learnt_from": 192,
    "num_real": 78,
    "num_samples": 256,
    "num_folds": 4,
}


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in {"src", "href"}]
        assert not [name for name, _ in attrs if name.startswith("on")]


@pytest.fixture
def pictures(tmp_path):
    for name in ("samples", "memorisation"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / f"{name}.png")
    return {"samples_png": tmp_path / "samples.png", "memorisation_png": tmp_path / "memorisation.png"}


def test_hostile_text_stays_text(pictures):
    html = render_report(document(), **pictures)
    elements = Elements()
    elements.feed(html)
    assert "script" not in elements.tags
    assert len([tag for tag in elements.tags if tag == "img"]) == 2
    assert "{{ 7*7 }}" in html


def test_report_loads_nothing_from_anywhere(pictures):
    html = render_report(document(), **pictures)
    elements = Elements()
    elements.feed(html)
    assert elements.sources
    assert all(source.startswith("data:image/png;base64,") for source in elements.sources)
    assert "http" not in html.replace("http-equiv", "")


def test_report_is_the_same_each_time(pictures):
    assert render_report(document(), **pictures) == render_report(document(), **pictures)


def test_report_without_categories(pictures):
    html = render_report(document() | {"category_accuracy": None}, **pictures)
    assert "asked for?" not in html
    assert "KID" in html


def test_report_shows_fidelity_diversity_and_the_distance_with_its_bias(pictures):
    scores = {"precision": 0.61, "recall": 0.42, "density": 1.23, "coverage": 0.55}
    noise = dict.fromkeys(scores, 0.0)
    frechet = {
        "samples": 31.4,
        "real": 12.5,
        "noise": 900.0,
        "num": {"samples": 256, "real": 250, "noise": 128},
        "num_reference": 198,
    }
    found = {"manifold": {"samples": scores, "real": dict.fromkeys(scores, 0.77), "noise": noise}}
    biased = render_report(document() | found | {"fd_effnet_lite0": frechet | {"biased": True}}, **pictures)
    assert all(figure in biased for figure in ("0.61", "0.42", "1.23", "0.55", "0.77", "0.00", "31.4", "12.5", "biased"))
    assert "256 samples and 198 pictures" in " ".join(biased.split())
    sound = render_report(document() | found | {"fd_effnet_lite0": frechet | {"biased": False}}, **pictures)
    assert "31.4" in sound
    assert "biased upwards" not in " ".join(sound.split())


def test_reports_written_before_can_still_be_shown(pictures):
    html = render_report(document(), **pictures)
    assert "are they varied?" not in html
    assert "FD-EffNetLite0" not in html


def test_scale_runs_from_worst_to_best_whichever_way_figures_grow():
    rising = scale(interval(0.5), worst=0.2, best=0.9, left=0.0, right=1.0)
    falling = scale(interval(0.3), worst=0.8, best=0.0, left=0.8, right=0.0)
    for found in (rising, falling):
        assert found.worst < found.low < found.value < found.high < found.best


def test_scale_keeps_what_lies_beyond_on_the_line():
    beyond = scale(interval(5.0), worst=0.0, best=1.0, left=0.0, right=1.0)
    assert beyond.value == beyond.best == beyond.low == beyond.high


def test_report_of_clips_says_how_they_move(pictures):
    share = {"samples": interval(0.33), "real": 0.97, "chance": 0.25, "num_samples": 114}
    steadiness = {
        "temporal_consistency": 0.64,
        "temporal_consistency_real": 0.87,
        "pixel_flicker": 0.035,
        "pixel_flicker_real": 0.017,
    }
    html = render_report(document() | {"clips": {"motion_direction": share, **steadiness}}, **pictures)
    assert "How good are the clips?" in html
    assert all(words in html for words in ("33 % (23 % to 43 %)", "chance 25 %", "real clips 97 %", "0.64", "0.87", "0.035"))
    assert "find its own clip" not in html  # no such figure was given
    assert "How good are the pictures?" in render_report(document(), **pictures)


def test_report_says_how_far_samples_stand_in_for_real_data(pictures):
    html = render_report(document() | {"utility": UTILITY}, **pictures)
    assert "<b>75 %</b>" in html
    assert html.count(">real to real 80 %<") == 2
    assert "stand in" not in render_report(document() | {"utility": None}, **pictures)
