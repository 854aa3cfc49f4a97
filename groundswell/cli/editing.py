"""Options of `groundswell generate` that make pictures and clips from a given one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_MAX_FRAMES = 100_000
_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", re.ASCII)


def _frames(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Returns the frames that ranges such as ``0-3,15`` name, in order, each once."""
    if value is None:
        return None
    found: set[int] = set()
    for part in value.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < _MAX_FRAMES:
            message = f"{value!r:.80} names no frames: give ranges such as 0-3,15, counted from 0"
            raise click.BadParameter(message, ctx=ctx, param=param)
        found.update(range(first, last + 1))
    return tuple(sorted(found))


_OPTIONS = (
    click.option(
        "--from",
        "source",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="A picture or clip to make them from: PNG, JPEG, WebP, GIF, MP4, WebM or AVI; its middle square is taken.",
    ),
    click.option(
        "--strength",
        metavar="X",
        type=click.FloatRange(0, 1),
        help="How far to leave --from: 0 reconstructs it, 0.2 cleans it, 0.6 restyles it, 1 keeps nothing.",
    ),
    click.option(
        "--keep-frames",
        metavar="RANGES",
        callback=_frames,
        help="Frames of --from that stay, such as 0-3,15, counted from 0; the others are made to go with them.",
    ),
    click.option(
        "--continue-frames",
        metavar="N",
        type=click.IntRange(1, _MAX_FRAMES),
        help="Go on where --from ends: its last N frames are the first of what is made.",
    ),
    click.option(
        "--num-passes",
        metavar="N",
        type=click.IntRange(1, 1000),
        help="How often each step is taken where frames stay: more fit them better, and take longer.  [default: 5]",
    ),
)


def editing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command, which gets None for those that are not given."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_editing(options: dict[str, Any]) -> dict[str, Any]:
    """Takes these options out of a command's, and returns them as `GenerateRequest` has them.

    Raises:
        click.UsageError: They make no sense together.
    """
    found = {name: options.pop(name) for name in ("source", "strength", "keep_frames", "continue_frames", "num_passes")}
    keeps = found["keep_frames"] is not None or found["continue_frames"] is not None
    if found["source"] is None:
        if found["strength"] is not None or keeps:
            raise click.UsageError("name what to start from: --from FILE")
    elif found["strength"] is None and not keeps:
        raise click.UsageError("say how far to leave it with --strength X, or what stays with --keep-frames or --continue-frames")
    if found["keep_frames"] is not None and found["continue_frames"] is not None:
        raise click.UsageError("--continue-frames says itself which frames stay: leave out --keep-frames")
    if found["num_passes"] is not None and not keeps:
        raise click.UsageError(
            "passes are for frames that stay: add --keep-frames or --continue-frames, or leave out --num-passes"
        )
    return {**found, "keep_frames": found["keep_frames"] or ()}
