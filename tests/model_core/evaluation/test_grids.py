import numpy as np
from PIL import Image

from model_core.evaluation.grids import Card, Section, draw_sections, save_png


def section(caption="a caption", count=3):
    image = np.full((8, 8, 3), 120, dtype=np.uint8)
    card = Card(images=(image, image), headings=("sample", "real"), caption=caption)
    return Section(title="faces", cards=(card,) * count)


def test_grid_has_the_same_bytes_each_time_and_no_metadata(tmp_path):
    for name in ("a.png", "b.png"):
        save_png(draw_sections([section()], columns=2), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert not image.info


def test_grid_grows_by_rows():
    heights = [draw_sections([section(count=count)], columns=2).height for count in (2, 3, 4)]
    assert heights[0] < heights[1] == heights[2]


def test_hostile_captions_are_drawn():
    for caption in ("", "x" * 100_000, "a\x00b\n\u202ec", "word " * 500, "\ud800"):
        draw_sections([section(caption)], columns=1)
