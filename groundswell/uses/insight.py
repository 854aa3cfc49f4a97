"""Insight: what drives clicks, which variants to try next, and those variants made."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import echo_table, format_number, heading
from groundswell.cli.problem import CommandError
from groundswell.uses.command import OUT, SEED, TABLE, read_table, run, tell, write_table
from groundswell.uses.figure import Figure

if TYPE_CHECKING:
    from groundswell.uses.click_model import Variant

_ATTRIBUTES = ("graphic", "motion", "background", "pace")
_THRESHOLD = 0.52


@click.command(
    cls=Command,
    examples=("python -m groundswell.uses.insight moving-openmoji-dit/1 docs/guides/insight/interactions.csv --out next",),
)
@click.argument("model")
@click.argument("interactions", type=TABLE)
@click.option("-n", "num_next", metavar="N", type=click.IntRange(1, 100), default=6, show_default=True, help="Variants to make.")
@SEED
@OUT
@pass_invocation
def command(invocation: Invocation, model: str, interactions: Path, num_next: int, seed: int, out: Path) -> int:
    """Learn from INTERACTIONS what drives clicks, and make with MODEL the variants to try next.

    INTERACTIONS is a CSV table with the columns graphic, motion, background, pace, shown and clicked: a row a variant. Two thirds
    of the variants are learnt from; the others judge what was learnt. Where it ranks them no better than chance, nothing is made
    and the exit code is 5. OUT gets effects.csv, next.csv and the clips.
    """
    from groundswell.uses.click_model import fit_clicks, held_out_auc

    variants = _variants(interactions)
    try:
        auc = held_out_auc(variants, seed=seed)
    except ValueError as error:
        raise CommandError(f"{interactions}: {error}", hint="a dozen variants is the least; a hundred give an answer") from error
    figure = Figure(
        name="clicks ranked above showings without one (AUC, held-out variants)",
        value=auc.value,
        interval=auc,
        threshold=_THRESHOLD,
        chance=0.5,
        num=len(variants),
    )
    fitted = fit_clicks(variants)
    effects = [
        {
            "attribute": one.attribute,
            "level": one.level,
            "log_odds": round(one.interval.value, 4),
            "low": round(one.interval.low, 4),
            "high": round(one.interval.high, 4),
            "credibly": ("better" if one.interval.value > 0 else "worse") if one.is_credible else "",
        }
        for one in fitted.effects()
    ]
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "effects.csv", effects)
    seen = {tuple(one.levels.values()) for one in variants}
    levels = [sorted({one.levels[name] for one in variants}) for name in _ATTRIBUTES]
    untried = [dict(zip(_ATTRIBUTES, one, strict=True)) for one in itertools.product(*levels) if one not in seen]
    rates = fitted.rates(untried) if untried else []
    best = sorted(zip(untried, rates, strict=True), key=lambda pair: -pair[1].value)[:num_next]
    rows = [{**one, "rate": round(rate.value, 5), "low": round(rate.low, 5), "high": round(rate.high, 5)} for one, rate in best]
    if rows:
        write_table(out / "next.csv", rows)
    made = _make(invocation, model, rows, seed, out) if figure.reached and rows else (0, 0)
    if not invocation.as_json:
        _show(effects, rows)
    facts = [("variants", len(variants)), ("made", made[0]), ("dispersion", format_number(fitted.dispersion))]
    return tell(invocation, [figure], facts=facts, more={"effects": effects, "next": rows}, results=made[1])


def caption_of(levels: Mapping[str, object]) -> str:
    """Returns a variant in the words of a prompt."""
    graphic = str(levels["graphic"])
    words = f"{'an' if graphic[:1].lower() in 'aeiou' else 'a'} {graphic} {levels['motion']} {levels['pace']}"
    return f"{words} on a {levels['background']} background"


def _variants(path: Path) -> "list[Variant]":
    from groundswell.uses.click_model import Variant

    found = []
    for line, row in enumerate(read_table(path, (*_ATTRIBUTES, "shown", "clicked")), start=1):
        if not (row["shown"].isdecimal() and row["clicked"].isdecimal() and int(row["clicked"]) <= int(row["shown"])):
            raise CommandError(f"{path}: row {line}: shown and clicked are whole numbers, and no more clicks than showings")
        if not all(row[name] for name in _ATTRIBUTES):
            raise CommandError(f"{path}: row {line} leaves an attribute empty")
        levels = {name: row[name] for name in _ATTRIBUTES}
        found.append(Variant(levels=levels, shown=int(row["shown"]), clicked=int(row["clicked"])))
    return found


def _make(invocation: Invocation, model: str, rows: Sequence[Mapping[str, object]], seed: int, out: Path) -> tuple[int, int]:
    """Makes the variants; returns how many were made, and the exit code of the table."""
    from groundswell.uses.making import How, make

    home = invocation.open_home()
    requests = [{"request_id": f"next-{place}", "prompt": caption_of(row)} for place, row in enumerate(rows, start=1)]
    made = make(home, requests, How(model=model, seed=seed), out, actor=invocation.actor(home))
    return len(made.files), made.exit_code


def _show(effects: Sequence[Mapping[str, object]], rows: Sequence[Mapping[str, object]]) -> None:
    credible = [one for one in effects if one["credibly"]]
    heading("Credibly different from the average of its attribute")
    echo_table(tuple(effects[0]), [tuple(one.values()) for one in credible], indent="  ")
    if rows:
        heading("Next")
        echo_table(tuple(rows[0]), [tuple(one.values()) for one in rows], indent="  ")
    click.echo()


if __name__ == "__main__":
    sys.exit(run(command, "insight"))
