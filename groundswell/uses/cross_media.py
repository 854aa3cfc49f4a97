"""Cross-media: one idea as poster, clip and loop, of one seed, and each told from other ideas."""

import itertools
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from governance.credentials.fingerprint import MAX_DISTANCE, distance, parse_fingerprint
from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.problem import CommandError
from groundswell.uses.command import OUT, SEED, TABLE, read_table, run, tell, write_table
from groundswell.uses.figure import Figure, share

if TYPE_CHECKING:
    from infra.home import Home

_FORMATS: Mapping[str, str] = {"loop": "webp", "clip": "mp4"}
_POSTER = "poster"


@dataclass(frozen=True, kw_only=True)
class Medium:
    """One file of an idea, as it was found.

    Attributes:
        idea: The idea.
        medium: ``poster``, ``clip`` or ``loop``.
        file: The file.
        sha256: SHA-256 of its bytes.
        run_id: The run that made it.
        seed: What it was made from, as recorded.
        source_sha256: The file that it was made from, as recorded, or None.
        model: Name, version and package digest, as proven; "" where nothing is.
        fingerprint: Perceptual hashes of its frames.
    """

    idea: str
    medium: str
    file: Path
    sha256: str
    run_id: str
    seed: str
    source_sha256: str | None
    model: str
    fingerprint: tuple[int, ...]


@click.command(
    cls=Command,
    examples=("python -m groundswell.uses.cross_media moving-openmoji-dit/1 docs/guides/cross-media/ideas.csv --out media",),
)
@click.argument("model")
@click.argument("ideas", type=TABLE)
@SEED
@OUT
@pass_invocation
def command(invocation: Invocation, model: str, ideas: Path, seed: int, out: Path) -> int:
    """Make each of IDEAS as MP4 clip, looping WebP and PNG poster.

    IDEAS is a CSV table with the columns idea and prompt, of two ideas or more. Clip and loop are made from one prompt and one
    seed, the poster from the loop's first frame; OUT/media.csv says which is which. Where a file is of another model or seed, the
    files of an idea do not look alike, or those of two ideas do, the exit code is 5.
    """
    rows = read_table(ideas, ("idea", "prompt"))
    if len(rows) < 2:
        raise CommandError(f"{ideas} has one idea", hint="with a second one it is seen that files of other ideas look otherwise")
    home = invocation.open_home()
    media, code = _make(home, model, rows, seed, out, actor=invocation.actor(home))
    within = [found for one, other in itertools.combinations(media, 2) if one.idea == other.idea for found in _apart(one, other)]
    between = [found for one, other in itertools.combinations(media, 2) if one.idea != other.idea for found in _apart(one, other)]
    figures = [
        share("files proven to be of one model version", [bool(one.model) and one.model == media[0].model for one in media]),
        share("ideas whose files are of one family", [is_family([m for m in media if m.idea == row["idea"]]) for row in rows]),
        Figure(
            name="largest distance within an idea (bits of 64)",
            value=max(within, default=64),
            threshold=MAX_DISTANCE,
            is_ceiling=True,
            num=len(within),
        ),
        Figure(
            name="smallest distance between ideas (bits of 64)",
            value=min(between, default=0),
            threshold=MAX_DISTANCE + 1,
            num=len(between),
        ),
    ]
    table = [{"idea": m.idea, "medium": m.medium, "file": m.file, "sha256": m.sha256, "run_id": m.run_id} for m in media]
    if table:
        write_table(out / "media.csv", table)
    facts = [("ideas", len(rows)), ("files", len(media)), ("table", out / "media.csv")]
    return tell(invocation, figures, facts=facts, more={"media": table}, results=code)


def is_family(media: Sequence[Medium]) -> bool:
    """Whether files are one idea's: all three media, one model and seed, and the poster taken from the loop."""
    found = {one.medium: one for one in media}
    if len(media) != len(found) or found.keys() != {_POSTER, *_FORMATS}:
        return False
    alike = len({(one.model, one.seed) for one in media}) == 1 and bool(media[0].model)
    return alike and found[_POSTER].source_sha256 == found["loop"].sha256


def _apart(one: Medium, other: Medium) -> list[int]:
    """Returns how many bits the corresponding frames of two files differ in, at most; a poster corresponds to a first frame."""
    ends = [medium.fingerprint[:1] if _POSTER in {one.medium, other.medium} else medium.fingerprint for medium in (one, other)]
    found = distance(*ends)
    return [64 if found is None else found]


def _make(
    home: "Home", model: str, rows: Sequence[Mapping[str, str]], seed: int, out: Path, *, actor: str
) -> tuple[list[Medium], int]:
    from groundswell.uses.making import How, make
    from pipelines.poster import make_poster

    requests = [{"request_id": row["idea"], "prompt": row["prompt"], "seed": seed + place} for place, row in enumerate(rows)]
    code = 0
    files: dict[tuple[str, str], Path] = {}
    for medium, media_format in _FORMATS.items():
        made = make(home, requests, How(model=model, settings={"media_format": media_format}), out / medium, actor=actor)
        code = max(code, made.exit_code)
        files |= {(idea, medium): path for idea, path in made.files.items()}
    for (idea, medium), path in list(files.items()):
        if medium == "loop":
            shutil.rmtree(out / _POSTER / idea, ignore_errors=True)
            files[idea, _POSTER] = make_poster(home, path, out / _POSTER / idea, actor=actor).file.path
    return [_look(home, idea, medium, path) for (idea, medium), path in sorted(files.items())], code


def _look(home: "Home", idea: str, medium: str, path: Path) -> Medium:
    from sqlalchemy import select

    from infra.content_verification import verify_content
    from infra.tables import assets

    found = verify_content(path, home=home)
    with home.database.read() as connection:
        row: Any = connection.execute(select(assets).where(assets.c.sha256 == found.file.sha256)).mappings().first() or {}
    origin = found.verdict.origin if found.verdict.ok else None
    return Medium(
        idea=idea,
        medium=medium,
        file=path,
        sha256=found.file.sha256,
        run_id=row.get("run_id", ""),
        seed=row.get("seed", ""),
        source_sha256=row.get("source_sha256"),
        model=f"{origin.model_name}/{origin.model_version} {origin.root_digest}" if origin else "",
        fingerprint=parse_fingerprint(found.pixels.fingerprint),
    )


if __name__ == "__main__":
    sys.exit(run(command, "cross_media"))
