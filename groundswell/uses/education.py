"""Training and education: a lesson's steps become clips and one page that can be shown, printed and handed on."""

import base64
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import write_whole
from groundswell.cli.problem import CommandError
from groundswell.uses.command import OUT, SEED, TABLE, read_table, run, tell
from groundswell.uses.figure import share

if TYPE_CHECKING:
    from groundswell.uses.making import Made
    from infra.home import Home

_COLUMNS = ("step", "caption", "text")
_EMBEDDED = re.compile(r'<img class="clip"[^>]* src="data:image/webp;base64,([A-Za-z0-9+/=]+)"')
PAGE_NAME = "lesson.html"


@click.command(
    cls=Command,
    examples=("python -m groundswell.uses.education moving-openmoji-dit/1 docs/guides/education/lesson.csv --out lesson",),
)
@click.argument("model")
@click.argument("lesson", type=TABLE)
@click.option("--title", default="Lesson", show_default=True, help="The title of the page.")
@SEED
@OUT
@pass_invocation
def command(invocation: Invocation, model: str, lesson: Path, title: str, seed: int, out: Path) -> int:
    """Make a clip of each step of LESSON, and one page of all.

    LESSON is a CSV table with the columns step (its name, in order), caption (what the clip shows) and text (what is taught).
    OUT/lesson.html holds clips, captions and credentials, needs no other file and no network, has no script, and prints with a
    filmstrip a step. Where clips do not show what captions say better than by chance, or an embedded clip does not verify, the
    exit code is 5.
    """
    from groundswell.uses.making import How, frames_of, make

    rows = read_table(lesson, _COLUMNS)
    if len({row["caption"] for row in rows}) < max(2, len(rows)):
        raise CommandError(f"{lesson} needs two steps or more, each with a caption of its own")
    home = invocation.open_home()
    requests = [
        {"request_id": f"step-{place:02d}", "prompt": row["caption"], "seed": seed + place}
        for place, row in enumerate(rows, start=1)
    ]
    how = How(model=model, settings={"media_format": "webp"})
    made = make(home, requests, how, out, actor=invocation.actor(home))
    page = out / PAGE_NAME
    write_whole(page, render(rows, made, title=title))
    found = _found(home, model, [row["caption"] for row in rows], [frames_of(path) for path in made.files.values()])
    figures = [
        share("steps whose caption finds its clip", found, threshold=1 / len(rows), chance=1 / len(rows)),
        share("clips in the page that verify", _verified(home, page.read_text(encoding="utf-8"), len(rows), out)),
    ]
    facts = [("steps", len(rows)), ("made", len(made.files)), ("page", page)]
    return tell(invocation, figures, facts=facts, results=made.exit_code)


def render(rows: Sequence[Mapping[str, str]], made: "Made", *, title: str) -> str:
    """Returns the page.

    Args:
        rows: The steps.
        made: What they became, a result a step.
        title: The title.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("groundswell.uses", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    steps = [
        {
            **row,
            "result": result,
            "clip": _base64(made.out / result.file) if result.file else "",
            "strip": _base64((made.out / result.file).parent / f"{result.run_id[:8]}-grid.png") if result.file else "",
        }
        for row, result in zip(rows, made.results, strict=True)
    ]
    return environment.get_template("lesson.html.jinja").render(title=title, steps=steps)


def embedded_clips(page: str) -> list[bytes]:
    """Returns the clips in a page, byte for byte as they were handed out."""
    return [base64.b64decode(found) for found in _EMBEDDED.findall(page)]


def _found(home: "Home", model: str, captions: Sequence[str], clips: Sequence[object]) -> list[bool]:
    """Returns of each step whether its caption finds its own clip among the lesson's; none where a clip is missing."""
    import numpy as np

    from groundswell.uses.probe import caption_probe

    if len(clips) < len(captions):
        return [False] * len(captions)
    found = caption_probe(home, model).found(np.stack([np.asarray(clip) for clip in clips]), captions)
    return [bool(place == own) for own, place in enumerate(found)]


def _verified(home: "Home", page: str, num_steps: int, out: Path) -> list[bool]:
    """Returns of each step whether its clip, taken out of the page, verifies."""
    from groundswell.uses.making import is_verified

    outcomes = []
    for data in embedded_clips(page):
        copy = out / ".embedded.webp"
        copy.write_bytes(data)
        outcomes.append(is_verified(home, copy))
        copy.unlink()
    return outcomes + [False] * (num_steps - len(outcomes))


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


if __name__ == "__main__":
    sys.exit(run(command, "education"))
