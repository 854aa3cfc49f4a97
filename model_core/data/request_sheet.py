"""A contact sheet of what a table of requests became: a picture or filmstrip each, over what the table calls it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model_core.data.media import encode_png

MAX_SHOWN = 400
_GAP = 8
_CAPTION_HEIGHT = 16
_LEAST_SIDE = 96


def write_request_sheet(made: Sequence[tuple[str, Path]], out: Path) -> None:
    """Writes the sheet; of more than `MAX_SHOWN` requests it shows the first.

    Args:
        made: What each request is called, and a picture of what it became; one that is missing is left blank.
        out: The PNG file to write.
    """
    tiles = [(name, _tile(path)) for name, path in made[:MAX_SHOWN]]
    width, height = (max(side) for side in zip(*(tile.size for _, tile in tiles), strict=True))
    columns = min(len(tiles), max(1, round((len(tiles) * (height + _CAPTION_HEIGHT) / width) ** 0.5)))
    lines = -(-len(tiles) // columns)
    step_x, step_y = width + _GAP, height + _CAPTION_HEIGHT + _GAP
    sheet = Image.new("RGB", (_GAP + columns * step_x, _GAP + lines * step_y), (250, 250, 250))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for number, (name, tile) in enumerate(tiles):
        left, top = _GAP + number % columns * step_x, _GAP + number // columns * step_y
        sheet.paste(tile, (left, top))
        shown = name if draw.textlength(name, font=font) <= width else f"{name[: max(1, width // 7 - 1)]}…"
        draw.text((left, top + tile.height + 1), shown, fill=(30, 30, 30), font=font)
    out.write_bytes(encode_png(np.asarray(sheet)))


def _tile(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            tile = picture.convert("RGB")
    except OSError:
        return Image.new("RGB", (_LEAST_SIDE, _LEAST_SIDE), (230, 230, 230))
    scale = -(-_LEAST_SIDE // tile.height)
    return tile if scale <= 1 else tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)
