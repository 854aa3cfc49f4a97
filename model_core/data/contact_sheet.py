"""A contact sheet: a picture of a dataset's pictures, a row of blocks a label, for people to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model_core.data.dataset import Dataset
from model_core.data.media import encode_png, overview
from model_core.data.split import SPLITS, subset_rank
from model_core.errors import BadDataError

_GAP = 4
_HEADING_HEIGHT = 22
_MARGIN = 12
_UNLABELLED = "(no label)"
_MIN_TILE = 64


def write_contact_sheet(dataset: Dataset, out: Path, *, split: str | None = None, per_label: int = 32, columns: int = 16) -> None:
    """Writes a PNG with some pictures of each label, chosen evenly, the same ones each time.

    Args:
        dataset: What to show.
        out: The PNG file to write.
        split: Show this split only.
        per_label: How many pictures of each label at most.
        columns: How many pictures stand side by side.

    Raises:
        BadDataError: There is no such split, nothing to show, or a picture cannot be read.
    """
    if per_label < 1 or columns < 1:
        raise ValueError(f"per_label and columns are at least 1, not {per_label} and {columns}")
    groups = _groups(dataset, split, per_label)
    tile = max(dataset.info.image_size * (1 if dataset.info.num_frames == 1 else 2), _MIN_TILE)
    width = 2 * _MARGIN + columns * (tile + _GAP) - _GAP
    height = 2 * _MARGIN + sum(_HEADING_HEIGHT + _num_lines(len(rows), columns) * (tile + _GAP) for _, _, rows in groups)
    sheet = Image.new("RGB", (width, height), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    top = _MARGIN
    for label, num_items, rows in groups:
        draw.text((_MARGIN, top), f"{label}  {num_items:,} items", fill=(30, 30, 30), font=font)
        top += _HEADING_HEIGHT
        for place, row in enumerate(rows):
            line, column = divmod(place, columns)
            picture = Image.fromarray(overview(dataset.read_clip(row)))
            resample = Image.Resampling.NEAREST if picture.width < tile else Image.Resampling.LANCZOS
            sheet.paste(picture.resize((tile, tile), resample), (_MARGIN + column * (tile + _GAP), top + line * (tile + _GAP)))
        top += _num_lines(len(rows), columns) * (tile + _GAP)
    out.write_bytes(encode_png(np.asarray(sheet)))


def _num_lines(num_items: int, columns: int) -> int:
    return -(-num_items // columns)


def _groups(dataset: Dataset, split: str | None, per_label: int) -> Sequence[tuple[str, int, list[int]]]:
    """Returns label, number of items and chosen rows, sorted by label."""
    rows = dataset.rows(split) if split is not None else [row for name in SPLITS for row in dataset.rows(name)]
    by_label: dict[str, list[int]] = {}
    for row in rows:
        by_label.setdefault(dataset.columns["label"][row] or _UNLABELLED, []).append(row)
    if not by_label:
        raise BadDataError(f"dataset {dataset.info.name!r} has nothing to show in split {split!r}")
    paths = dataset.columns["path"]
    return [
        (label, len(found), sorted(sorted(found, key=lambda row: subset_rank(paths[row]))[:per_label]))
        for label, found in sorted(by_label.items())
    ]
