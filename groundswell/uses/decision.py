"""Decision support: which of two alternatives is better, from clips of the same seeds and texts."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import format_number
from groundswell.cli.problem import CommandError
from groundswell.uses.command import OUT, SEED, TABLE, read_table, run, tell, write_table
from groundswell.uses.figure import Figure, share

if TYPE_CHECKING:
    import numpy as np

    from groundswell.uses.making import Made
    from infra.home import Home

_SETTINGS: Mapping[str, type] = {"num_steps": int, "guidance_scale": float, "sampler": str, "num_frames": int}
_OTHER_SEEDS = 1_000_000
_MEANS = {
    "a": "choose A",
    "b": "choose B",
    "same": "no difference that matters",
    "open": "no difference shown",
}


def _settings(_: click.Context, __: click.Parameter, given: Sequence[str]) -> dict[str, Any]:
    found = {}
    for one in given:
        name, value = one.split("=", 1) if "=" in one else (one, "")
        if name not in _SETTINGS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(_SETTINGS)}")
        try:
            found[name] = _SETTINGS[name](value)
        except ValueError as error:
            raise click.BadParameter(f"{one!r}: {error}") from error
    return found


@click.command(
    cls=Command,
    examples=(
        "python -m groundswell.uses.decision m/1 m/2 docs/guides/decision/scenarios.csv --out compared",
        "python -m groundswell.uses.decision m/1 m/1 docs/guides/decision/scenarios.csv -b guidance_scale=5 --out compared",
    ),
)
@click.argument("model_a")
@click.argument("model_b")
@click.argument("scenarios", type=TABLE)
@click.option(
    "--by",
    "figure",
    type=click.Choice(("motion_direction", "caption_retrieval", "flicker")),
    default="motion_direction",
    show_default=True,
    help="What matters: clips go where the text says, texts find their clips, or clips are steady.",
)
@click.option("-a", "set_a", metavar="KEY=VALUE", multiple=True, callback=_settings, help="A setting of A, such as num_steps=8.")
@click.option("-b", "set_b", metavar="KEY=VALUE", multiple=True, callback=_settings, help="A setting of B.")
@click.option("--seeds", metavar="N", type=click.IntRange(1, 100), default=2, show_default=True, help="Pairs a text.")
@click.option(
    "--margin",
    metavar="X",
    type=click.FloatRange(0, min_open=True),
    default=0.2,
    show_default=True,
    help="The smallest difference that matters.",
)
@SEED
@OUT
@pass_invocation
def command(
    invocation: Invocation,
    model_a: str,
    model_b: str,
    scenarios: Path,
    figure: str,
    set_a: dict[str, Any],
    set_b: dict[str, Any],
    seeds: int,
    margin: float,
    seed: int,
    out: Path,
) -> int:
    """Make each text of SCENARIOS with both alternatives from the same seeds, and say which is better by how much.

    SCENARIOS is a CSV table with the column prompt. B is chosen where the 95 % interval of the paired difference (B less A) lies
    above 0, A where it lies below; otherwise no difference is shown, and so many pairs more would show one of the margin. A third
    set, A from other seeds, is the control: where that decides, the exit code is 5, as it is where the question stays open. The
    same command goes on where it was interrupted.
    """
    from groundswell.uses.making import How, make
    from groundswell.uses.paired import decide

    texts = _texts(scenarios, figure)
    home = invocation.open_home()
    actor = invocation.actor(home)
    sides = {}
    for side, model, settings, first in (
        ("a", model_a, set_a, seed),
        ("b", model_b, set_b, seed),
        ("control", model_a, set_a, seed + _OTHER_SEEDS),
    ):
        rows = [
            {"request_id": f"{place:03d}-{number}", "prompt": text, "seed": first + place * seeds + number}
            for place, text in enumerate(texts)
            for number in range(seeds)
        ]
        sides[side] = make(home, rows, How(model=model, settings=settings), out / side, actor=actor)
    if code := max(made.exit_code for made in sides.values()):
        raise CommandError("not every clip was made, so there are no pairs", hint=f"see {out}/*/results.csv", exit_code=code)
    every = [text for text in texts for _ in range(seeds)]
    measured = {side: _measure(home, model_a, figure, made, every, seeds) for side, made in sides.items()}
    write_table(
        out / "pairs.csv",
        [
            {"prompt": text, **{side: format_number(float(values[place])) for side, values in measured.items()}}
            for place, text in enumerate(every)
        ],
    )
    found = decide(measured["a"], measured["b"], every, margin=margin, seed=seed)
    control = decide(measured["a"], measured["control"], every, margin=margin, seed=seed)
    half = (found.difference.high - found.difference.low) / 2
    figures = [
        share("control (A from other seeds) that decides nothing", [control.choice in {"same", "open"}]),
        Figure(
            name="half the interval of the difference, where nothing is decided",
            value=half if found.choice == "open" else 0.0,
            threshold=margin,
            is_ceiling=True,
            num=len(every),
        ),
    ]
    more = f": about {found.more_pairs:,} more pairs needed" if found.more_pairs else ""
    facts = [
        ("decision", f"{_MEANS[found.choice]}{more}"),
        ("by", figure),
        *((f"mean of {side}", format_number(float(values.mean()))) for side, values in measured.items()),
        *((name, _between(one.difference)) for name, one in (("B less A", found), ("control less A", control))),
        ("pairs", len(every)),
    ]
    return tell(invocation, figures, facts=facts, more={"choice": found.choice, "more_pairs": found.more_pairs})


def _between(interval: Any) -> str:
    return f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def _texts(path: Path, figure: str) -> list[str]:
    from model_core.evaluation.motion import asked_directions

    texts = list(dict.fromkeys(row["prompt"] for row in read_table(path, ("prompt",))))
    if figure == "motion_direction" and not all(asked_directions(texts)):
        which = texts[asked_directions(texts).index("")]
        raise CommandError(f"{path}: {which!r:.80} names no direction, or two", hint="left, right, up or down; or another --by")
    if len(texts) < 2:
        raise CommandError(f"{path} has fewer than two texts", hint="a difference between alternatives needs several")
    return texts


def _measure(home: "Home", model: str, figure: str, made: "Made", texts: Sequence[str], seeds: int) -> "np.ndarray":
    """Returns a figure of each clip, more being better."""
    import numpy as np

    from groundswell.uses.making import frames_of
    from model_core.evaluation.clips import pixel_flicker
    from model_core.evaluation.motion import asked_directions, directions, displacements

    clips = np.stack([frames_of(path) for path in made.files.values()])
    if figure == "motion_direction":
        going = directions(displacements(clips))
        return np.array([one == asked for one, asked in zip(going, asked_directions(texts), strict=True)], dtype=float)
    if figure == "flicker":
        return -pixel_flicker(clips)
    from groundswell.uses.probe import caption_probe

    probe = caption_probe(home, model)
    hits = np.zeros(len(texts))
    for number in range(seeds):
        places = list(range(number, len(texts), seeds))
        hits[places] = probe.found(clips[places], [texts[place] for place in places]) == np.arange(len(places))
    return hits


if __name__ == "__main__":
    sys.exit(run(command, "decision"))
