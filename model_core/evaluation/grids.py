"""Pictures of pictures: the sample grid and the pairs of the memorisation check, as PNG without metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_INK, _MUTED, _PAPER, _LINE = (28, 32, 38), (104, 112, 122), (255, 255, 255), (222, 226, 230)
_MARGIN = 28
_TITLE_PT, _TEXT_PT = 17, 13


@dataclass(frozen=True, kw_only=True)
class Card:
    """A few pictures side by side over a caption.

    Attributes:
        images: Pictures, all of one size, each [height width 3].
        headings: A word above each picture.
        caption: Text below them; cut to two lines.
    """

    images: tuple[UInt8[np.ndarray, "height width 3"], ...]
    headings: tuple[str, ...]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """Cards under a title.

    Attributes:
        title: The title.
        cards: The cards, drawn in rows.
    """

    title: str
    cards: tuple[Card, ...]


def draw_sections(sections: Sequence[Section], *, columns: int, picture_px: int = 96) -> Image.Image:
    """Draws sections of cards below each other.

    Args:
        sections: What to draw; every card holds as many pictures as the first.
        columns: Cards a row.
        picture_px: Side to which every picture is enlarged.
    """
    first = next(card for section in sections for card in section.cards)
    card_width = len(first.images) * (picture_px + 6) - 6
    card_height = 18 + picture_px + 44
    gap = 26
    rows = [-(-len(section.cards) // columns) for section in sections]
    width = 2 * _MARGIN + columns * card_width + (columns - 1) * gap
    height = 2 * _MARGIN + sum(40 + count * card_height for count in rows)
    canvas = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    top = _MARGIN
    for section, count in zip(sections, rows, strict=True):
        draw.text((_MARGIN, top), _printable(section.title), font=_font(_TITLE_PT, bold=True), fill=_INK)
        draw.line((_MARGIN, top + 26, width - _MARGIN, top + 26), fill=_LINE)
        top += 36
        for position, card in enumerate(section.cards):
            left = _MARGIN + position % columns * (card_width + gap)
            _draw_card(canvas, card, left, top + position // columns * card_height, card_width, picture_px)
        top += count * card_height + 4
    return canvas


def save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG that holds nothing but pixels, so that equal pictures are equal files."""
    Image.fromarray(np.asarray(image)).save(path, format="PNG", optimize=False, compress_level=9)


def _draw_card(canvas: Image.Image, card: Card, left: int, top: int, width: int, picture_px: int) -> None:
    draw = ImageDraw.Draw(canvas)
    for position, (pixels, heading) in enumerate(zip(card.images, card.headings, strict=True)):
        x = left + position * (picture_px + 6)
        draw.text((x, top), _printable(heading), font=_font(_TEXT_PT - 2), fill=_MUTED)
        enlarged = Image.fromarray(np.asarray(pixels)).resize((picture_px, picture_px), Image.Resampling.BICUBIC)
        canvas.paste(enlarged, (x, top + 16))
        draw.rectangle((x - 1, top + 15, x + picture_px, top + 16 + picture_px), outline=_LINE)
    for line, text in enumerate(_wrap(draw, _printable(card.caption), width)):
        draw.text((left, top + 20 + picture_px + line * 17), text, font=_font(_TEXT_PT), fill=_INK)


def _wrap(draw: ImageDraw.ImageDraw, text: str, width: int, *, max_lines: int = 2) -> list[str]:
    """Breaks text into lines that fit, the last one cut with an ellipsis where more would follow."""
    font = _font(_TEXT_PT)
    lines, current = [], ""
    for word in text.split():
        candidate = f"{current} {word}".strip()
        if current and draw.textlength(candidate, font=font) > width:
            lines.append(current)
            current = word
        else:
            current = candidate
    lines.append(current)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], f"{lines[max_lines - 1]} …"]
    return [_cut(draw, line, width) for line in lines]


def _cut(draw: ImageDraw.ImageDraw, line: str, width: int) -> str:
    font = _font(_TEXT_PT)
    if draw.textlength(line, font=font) <= width:
        return line
    while line and draw.textlength(f"{line}…", font=font) > width:
        line = line[:-1].rstrip(" …")
    return f"{line}…"


def _printable(text: str) -> str:
    """Replaces what is no visible character and bounds the length: captions come from outside."""
    return "".join(character if character.isprintable() else " " for character in text[:400])


@cache
def _font(points: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib as mpl

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / name
    # The other layout engine is used where a system library happens to be at hand, and places letters otherwise.
    return ImageFont.truetype(str(path), points, layout_engine=ImageFont.Layout.BASIC)
