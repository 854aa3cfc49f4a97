"""No technical threshold: everyday sentences in, labelled and verified files out; how long it takes, and what is understood."""

import sys
import time
from pathlib import Path

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import echo_table, heading
from groundswell.uses.command import OUT, SEED, TABLE, read_table, run, tell, write_table
from groundswell.uses.figure import Figure, share

_LONGEST_S = 30.0
_NUM_TIMED = 10


@click.command(
    cls=Command,
    examples=("python -m groundswell.uses.sentence moving-openmoji-dit/1 docs/guides/sentence/phrasings.csv --out said",),
)
@click.argument("model")
@click.argument("phrasings", type=TABLE)
@click.option(
    "--longest",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=_LONGEST_S,
    show_default=True,
    help="The longest that somebody may wait for a labelled, verified file.",
)
@SEED
@OUT
@pass_invocation
def command(invocation: Invocation, model: str, phrasings: Path, longest: float, seed: int, out: Path) -> int:
    """Make what each of PHRASINGS says, as somebody types it, and see whether it shows what was meant.

    PHRASINGS is a CSV table with the columns phrase and subject: what somebody types, and what they mean, in words of the model's
    captions. Of the first ten the wait is measured, from the sentence to a file that `content verify` accepts; imports and the
    first opening of the model are in it only where they were not paid before. Where the longest wait is above --longest, or the
    subjects seen are no better than chance, the exit code is 5.
    """
    import numpy as np

    from components.collect_results.results import WITHHELD
    from groundswell.uses.making import frames_of, is_verified
    from groundswell.uses.probe import caption_probe
    from pipelines.generation import GenerateRequest, generate

    rows = read_table(phrasings, ("phrase", "subject"))
    home = invocation.open_home()
    actor = invocation.actor(home)
    waits, clips, verified, told = [], [], [], []
    for place, row in enumerate(rows):
        began = time.monotonic()
        try:
            made = generate(home, GenerateRequest(model=model, prompt=row["phrase"], seed=seed + place, out=out), actor=actor)
        except Exception as error:
            if (reason := getattr(error, "diagnosis", None)) is None:
                raise
            told.append({**row, "file": "", "seen": "", "reason": reason})
            verified.append(False)
            continue
        if not made.files:
            told.append({**row, "file": "", "seen": "", "reason": WITHHELD})
            verified.append(False)
            continue
        (file,) = made.files
        verified.append(is_verified(home, file.path))
        waits.append(time.monotonic() - began)
        clips.append(frames_of(file.path))
        told.append({**row, "file": file.path.name, "seen": "", "reason": ""})
    names = sorted({row["subject"] for row in rows})
    if clips:
        seen = iter(caption_probe(home, model).subjects(np.stack(clips), names))
        told = [{**one, "seen": next(seen)} if one["file"] else one for one in told]
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "understood.csv", told)
    timed = sorted(waits[:_NUM_TIMED])
    figures = [
        share("sentences with a labelled, verified file", verified),
        Figure(
            name="longest wait of ten (s)",
            value=round(timed[-1], 2) if timed else 0.0,
            threshold=longest,
            is_ceiling=True,
            num=len(timed),
        ),
        share(
            "sentences whose file shows the subject that was meant",
            [one["seen"] == one["subject"] for one in told],
            threshold=1 / len(names),
            chance=1 / len(names),
        ),
    ]
    if not invocation.as_json:
        heading("Understood")
        echo_table(("phrase", "meant", "seen"), [(one["phrase"], one["subject"], one["seen"] or one["reason"]) for one in told])
        click.echo()
    facts = [
        ("sentences", len(rows)),
        ("subjects", len(names)),
        ("first wait (s)", round(waits[0], 2) if waits else None),
        ("median wait (s)", round(float(np.median(timed)), 2) if timed else None),
        ("table", out / "understood.csv"),
    ]
    return tell(invocation, figures, facts=facts)


if __name__ == "__main__":
    sys.exit(run(command, "sentence"))
