"""What an importer hands over: the list of items it found, and how to turn one of them into a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from model_core.data.split import Split, subset_rank
from model_core.errors import BadDataError

MAX_TEXT_CHARACTERS = 2_000
"""The longest caption, label or source that is accepted."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item of a source, before its picture is made.

    Attributes:
        key: What identifies it in its source; unique, and a valid name for a member of a tar file.
        locator: Where its renderer finds it.
        label: Its class; empty where it has none.
        caption: What it shows; empty where it has none.
        split: Which split it belongs to.
        licence: An SPDX identifier.
        source: Where it came from, for people.
    """

    key: str
    locator: str
    label: str
    caption: str
    split: Split
    licence: str
    source: str


class Renderer(Protocol):
    """Makes the picture or clip of an item; it is pickled and sent to other processes."""

    def __call__(self, item: Item) -> bytes:
        """Returns the item's picture, or its frames as a filmstrip, as the bytes of a PNG file."""


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """All that an import will do.

    Attributes:
        name: What the dataset is called.
        importer: What made it.
        options: What the importer was asked for; goes into `dataset.json`.
        attribution: Whom to name, and how.
        image_size: The width and height of each picture.
        num_frames: Frames of each item: 1 for pictures.
        fps: Frames a second; 0.0 for pictures.
        items: What will be imported, in order.
        render: Makes an item's picture.
        drop_duplicates: Keep one item only, the one with the shortest caption, of those with equal pixels.
        source_state: What must not change between an interrupted import and its continuation, such as file times.
    """

    name: str
    importer: str
    options: Mapping[str, Any]
    attribution: str
    image_size: int
    items: Sequence[Item]
    render: Renderer
    num_frames: int = 1
    fps: float = 0.0
    drop_duplicates: bool = False
    source_state: str = ""


def check_text(text: str, *, what: str) -> str:
    """Returns a caption, label or source as it is stored: without white space around it.

    Raises:
        BadDataError: It holds a control character (such as NUL), a lone surrogate, or is too long.
    """
    stripped = text.strip()
    if len(stripped) > MAX_TEXT_CHARACTERS:
        raise BadDataError(f"{what} has {len(stripped):,} characters, more than {MAX_TEXT_CHARACTERS:,}", hint="shorten it")
    for place, character in enumerate(stripped):
        if (ord(character) < 0x20 and character not in "\t\n") or ord(character) == 0x7F or 0xD800 <= ord(character) < 0xE000:
            raise BadDataError(f"{what} holds the character U+{ord(character):04X} at place {place}", hint="remove it")
    return stripped


def choose(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """Returns at most `limit` items, spread evenly over all of them, in their order.

    Raises:
        BadDataError: `limit` is not positive, or there are no items at all.
    """
    if limit is not None and limit < 1:
        raise BadDataError(f"a limit of {limit} items leaves nothing to import", hint="give a limit of at least 1")
    if not items:
        raise BadDataError(
            "the source holds no items: the dataset would be empty", hint="check the path, the categories and the filters"
        )
    if limit is None or limit >= len(items):
        return tuple(items)
    chosen = {item.key for item in sorted(items, key=lambda item: subset_rank(item.key))[:limit]}
    return tuple(item for item in items if item.key in chosen)
