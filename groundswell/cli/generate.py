"""`groundswell generate`: pictures and clips from a registered model, each on record."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from components.generate_media.formats import MAX_UPSCALE, MediaFormat
from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.editing import editing_options, take_editing
from groundswell.cli.live import run_display
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_duration, heading, shown_path, tell_warnings
from groundswell.cli.problem import EXIT_REFUSED, Problem, tell_problem
from groundswell.cli.sampling import sampling_options
from groundswell.cli.withdrawn import warn_of_source, warn_of_withdrawals
from model_core.device import DeviceName
from model_core.sampling.names import SamplerName

if TYPE_CHECKING:
    from pipelines.generation import GenerateOutcome

_MAX_IMAGES = 10_000


@click.command(
    cls=Command,
    name="generate",
    examples=(
        'groundswell generate groundswell-dit/1 --prompt "flag of Japan" -n 4 --seed 7 --out pictures',
        "groundswell generate groundswell-dit/1 --label food --out pictures",
        "groundswell generate groundswell-dit/1 --requests campaign.csv --out campaign",
        'groundswell generate moving/1 --prompt "a red apple moving left slowly on a blue background" --out clips',
        'groundswell generate groundswell-dit/1 --from photo.jpg --strength 0.6 --prompt "flag of Japan" --out restyled',
        "groundswell generate moving/1 --from clip.mp4 --continue-frames 4 --out continued",
    ),
)
@click.argument("model")
@editing_options
@click.option("--prompt", metavar="TEXT", help="What they show, in words.")
@click.option("--label", metavar="NAME", help="What they show, as one of the model's categories.")
@click.option(
    "--requests",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A CSV table of requests, one picture or clip each: request_id, prompt or label, segment, seed, frames, from, strength.",
)
@click.option(
    "-n",
    "--num-images",
    metavar="N",
    type=click.IntRange(1, _MAX_IMAGES),
    default=1,
    show_default=True,
    help="How many pictures or clips.",
)
@click.option(
    "--frames",
    "num_frames",
    metavar="N",
    type=click.IntRange(min=1),
    help="Frames of each clip; more than the model's own where it was trained for it.  [default: the model's own]",
)
@click.option(
    "--upscale",
    metavar="N",
    type=click.IntRange(1, MAX_UPSCALE),
    default=1,
    show_default=True,
    help="Times that they are enlarged along each side: pictures of a small model for a page, with room for the watermark.",
)
@click.option(
    "--format",
    "media_format",
    type=click.Choice(get_args(MediaFormat)),
    help="What they are written as.  [default: png for pictures, mp4 for clips]",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(0, 2**53 - 1),
    default=0,
    show_default=True,
    help="The first one's seed; the same seed gives the same picture or clip.",
)
@click.option("--num-steps", metavar="N", type=click.IntRange(min=1), help="Sampling steps.  [default: the model's own]")
@click.option(
    "--sampler", type=click.Choice(get_args(SamplerName)), help="How to go from noise to a sample.  [default: the model's own]"
)
@click.option("--guidance-scale", metavar="X", type=float, help="Strength of guidance.  [default: the model's own]")
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1, 4096),
    help="Pictures or clips at a time: fewer take less memory.  [default: by their size, at most 8]",
)
@click.option(
    "--device",
    type=click.Choice(get_args(DeviceName)),
    default="auto",
    show_default=True,
    help="Where to compute; auto is a GPU where there is one.",
)
@sampling_options
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The folder for the files.")
@pass_invocation
def command(
    invocation: Invocation,
    /,
    model: str,
    prompt: str | None,
    label: str | None,
    requests: Path | None,
    num_images: int,
    num_frames: int | None,
    upscale: int,
    media_format: MediaFormat | None,
    seed: int,
    num_steps: int | None,
    guidance_scale: float | None,
    sampler: SamplerName | None,
    batch_size: int | None,
    device: DeviceName,
    out: Path,
    **options: Any,
) -> int:
    """Make pictures or clips with MODEL, which is name/version or name@alias.

    The model's package is verified first. Each file's SHA-256, its seed, the model's digest and a salted commitment to the
    prompt go into the ledger, so that `groundswell lineage FILE.png` leads back to the data; the prompt itself does not. If items
    of the data behind the model were withdrawn, a warning says so.

    With --from they are made from a picture or clip, by taking it part of the way to noise and back. --strength 0 returns what
    the model's codec makes of it (reconstruct), little cleans it up (denoise), half takes it to the prompt or category
    (restyle), 1 keeps nothing; without a prompt or category the model goes by what it sees. A model of clips takes a picture as
    a still clip. --keep-frames fills in around frames that stay, --continue-frames goes on where a clip ends. Of FILE its digest
    is on record and nothing else: where it was made here, lineage leads through it to its own model and data.
    A sample that is a near-copy of an item that the model was trained on is withheld, as the guardrails say, and is on record
    without its pixels; the others are handed out, and the exit code is 5.

    With --requests every row of a table is checked first, and bad rows are named; the rest is made, each with a run of its own,
    and DIR/results.csv says by request_id what came of it. Column `from` names a file below the table's folder, as --from does,
    and `strength` how far to leave it. Interrupted, the same command goes on where it was. The exit code is
    3 if a row is bad, 5 if the guardrails refuse one.
    """
    editing = take_editing(options)
    num_asked = 3 - [prompt, label, requests].count(None)
    if num_asked > 1 or (num_asked == 0 and editing["source"] is None):
        raise click.UsageError("name what to make: one of --prompt TEXT, --label NAME and --requests FILE")
    if requests is not None and editing["source"] is not None:
        raise click.UsageError("a table of requests has a column `from` for what to start from: leave out --from")
    if requests is not None and num_images != 1:
        raise click.UsageError("a table of requests has a row for each picture or clip: leave out -n")
    from pipelines.generation import GenerateRequest, generate

    home = invocation.open_home()
    actor = invocation.actor(home)
    warn_of_withdrawals(home, model, program=invocation.program)
    request = GenerateRequest(
        model=model,
        prompt=prompt,
        label=label,
        num_images=num_images,
        num_frames=num_frames,
        upscale=upscale,
        media_format=media_format,
        seed=seed,
        num_steps=num_steps,
        guidance_scale=guidance_scale,
        sampler=sampler,
        batch_size=batch_size,
        device=device,
        **editing,
        options=options,
        out=out,
    )
    if requests is not None:
        from groundswell.cli.requests import make_requests

        return make_requests(invocation, home, request, requests, actor=actor)
    with run_display(keep=invocation.as_json or not sys.stdout.isatty()) as display:
        outcome = generate(home, request, actor=actor, on_view=display)
    if outcome.source_sha256:
        warn_of_source(home, outcome.source_sha256, program=invocation.program)
    if invocation.as_json:
        echo_json(_document(outcome))
    else:
        _print_outcome(outcome, program=invocation.program)
    check = outcome.memorisation
    if check.withheld:
        noun = "sample" if num_images == 1 else "samples"
        problem = Problem(
            diagnosis=f"{len(check.withheld):,} of {num_images:,} {noun} withheld by the guardrails (memorisation): "
            "too near an item that the model was trained on",
            hint="another --seed draws others; docs/GUARDRAILS.md says how near is too near",
            exit_code=EXIT_REFUSED,
        )
        tell_problem(problem, as_json=False)
        return EXIT_REFUSED
    if check.near_copies:
        tell_warnings([f"{len(check.near_copies):,} of {num_images:,} are very near an item that the model was trained on"])
    elif check.state == "unchecked":
        tell_warnings([f"not held against the training items: {check.reason}"])
    return 0


def _document(outcome: "GenerateOutcome") -> dict[str, Any]:
    return {
        "run_id": outcome.run_id,
        "model": outcome.model_version,
        "files": [
            {"path": file.path, "sha256": file.sha256, "seed": file.seed, "watermark_id": file.watermark_id}
            for file in outcome.files
        ],
        "memorisation": outcome.memorisation.document(),
        "grid": outcome.grid.absolute(),
        "source_sha256": outcome.source_sha256,
        "wall_s": round(outcome.wall_s, 3),
    }


def _print_outcome(outcome: "GenerateOutcome", *, program: str) -> None:
    files = outcome.files
    if not files:
        click.secho("nothing was handed out", fg="yellow", bold=True)
        echo_facts([("model", outcome.model_version), ("run", outcome.run_id)])
        return
    noun = "picture" if files[0].path.suffix == ".png" else "clip"
    made = f"1 {noun}" if len(files) == 1 else f"{len(files):,} {noun}s"
    click.secho(f"{made} in {format_duration(outcome.wall_s)}", fg="green", bold=True)
    facts = [("model", outcome.model_version), ("run", outcome.run_id), ("grid", shown_path(outcome.grid.absolute()))]
    echo_facts([*facts, *([("made from", outcome.source_sha256)] if outcome.source_sha256 else [])])
    heading(f"{noun.title()}s")
    echo_table(("seed", "sha256", "file"), [(f.seed, f.sha256, shown_path(f.path)) for f in files], right=(0,), indent="  ")
    click.echo(f"\nwhere one came from: {program} lineage {shown_path(files[0].path)}")
