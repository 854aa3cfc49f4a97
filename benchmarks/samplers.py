"""Quality by sampler and calls of the network: ``python -m benchmarks.samplers --data FOLDER --out FOLDER --run RUN``.

One trained model, named by its folder under ``runs`` in ``--out``, is sampled by each sampler that fits its objective, with about
as many calls of the network each time; and again with each feature cache and each interval of guidance that is asked for.
Prints a Markdown table and writes JSON; a judgement made before is not made again, and stands in both with those of this call.
"""

import argparse
import itertools
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import chosen, markdown_table, read_json, run_command, write_json
from benchmarks.fashion import Judge
from benchmarks.quality_evaluation import Drawing, is_clipped, judge_snapshot
from benchmarks.quality_runs import PLAN_NAME, Run, Workplace, reopen_run
from benchmarks.quality_time import are_alike, bounds_line, open_workplace, parser_of, results_document
from model_core.diffusion.guidance import Guidance
from model_core.errors import BadDataError
from model_core.sampling.names import SamplerName, fitting_samplers

RESULTS = Path(__file__).parent / "results" / "samplers.json"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = parser_of("samplers", __doc__)
    parser.add_argument("--run", required=True, help="folder of a finished run, or its name under the runs of --out")
    parser.add_argument("--samplers", default="all", help="names with commas")
    parser.add_argument("--calls", default="5,10,20,50,250", help="calls of the network, with commas")
    parser.add_argument("--guidance", type=float, help="guidance scale; the recipe's own if not given")
    parser.add_argument(
        "--cache-intervals", default="", help="also with a feature cache that computes every n-th call; with commas, such as 2,3"
    )
    parser.add_argument(
        "--guidance-intervals",
        default="",
        help="also guided between two times alone, from 0 (data) to 1 (noise); with commas, such as 0.1-0.9,0.2-0.8",
    )
    parser.add_argument("--codec", type=Path, help="folder of a trained codec, for a model of its latents")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def steps_for_calls(sampler: SamplerName, calls: int) -> int:
    """Returns the steps with which a sampler makes about so many calls: Heun's method makes two a step but one in the last."""
    return max(1, (calls + 1) // 2) if sampler == "heun" else calls


def parse_calls(text: str) -> list[int]:
    """Reads numbers of calls from a list with commas.

    Raises:
        BadDataError: One is no whole number of at least 1.
    """
    try:
        calls = [int(part) for part in text.split(",")]
    except ValueError:
        calls = [0]
    if min(calls) < 1:
        raise BadDataError(f"--calls is {text!r}", hint="give whole numbers of at least 1 with commas, such as 5,10,20")
    return calls


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is done to a sampler's calls: nothing, a feature cache, or guidance for a part of the time."""

    cache_interval: int = 1
    guidance_interval: tuple[float, float] | None = None


def parse_arms(cache_intervals: str, guidance_intervals: str, *, guidance: float) -> list[Arm]:
    """Returns the plain arm and those that two lists with commas ask for, each changing one thing.

    Raises:
        BadDataError: A number makes no sense, or times are given for a model that is not guided.
    """
    if guidance_intervals and guidance == 1:
        raise BadDataError("--guidance-intervals without guidance: its scale is 1", hint="give another --guidance")
    cached = [Arm(cache_interval=_cache_interval(text)) for text in cache_intervals.split(",") if text]
    guided = [Arm(guidance_interval=_guidance_interval(text)) for text in guidance_intervals.split(",") if text]
    return [Arm(), *cached, *guided]


def _cache_interval(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise BadDataError(f"--cache-intervals has {text!r}", hint="give whole numbers of at least 2 with commas, such as 2,3")
    return int(text)


def _guidance_interval(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split("-"))
        Guidance(interval=(low, high))
    except (ValueError, BadDataError) as error:
        raise BadDataError(
            f"--guidance-intervals has {text!r}", hint="give two times from 0 to 1, the lower one first, such as 0.2-0.8"
        ) from error
    return low, high


def judge_samplers(
    run: Run,
    samplers: list[SamplerName],
    arms: list[Arm],
    calls: list[int],
    guidance: float,
    num_pictures: int,
    judge: Judge,
    workplace: Workplace,
) -> list[dict[str, Any]]:
    """Returns a judgement for each sampler, arm and number of calls, with the weights of the run's end."""
    found = []
    for sampler, arm, wanted in itertools.product(samplers, arms, calls):
        drawing = Drawing(
            sampler=sampler,
            num_steps=steps_for_calls(sampler, wanted),
            guidance_scale=guidance,
            num_pictures=num_pictures,
            clip=is_clipped(run.recipe),
            **asdict(arm),
        )
        point = judge_snapshot(run, run.training.num_steps, drawing, judge, workplace)
        found.append({**point, "wanted_calls": wanted})
        row = " ".join(_row_of(found[-1]))
        print(f"{row} {wanted}: distance {point['distance']:.2f} accuracy {point['accuracy']:.3f}", file=sys.stderr)
    return found


def measure(options: argparse.Namespace) -> None:
    """Runs the benchmark."""
    calls = parse_calls(options.calls)
    workplace, judge = open_workplace(options)
    folder = Path(options.run)
    run = reopen_run(folder if (folder / PLAN_NAME).is_file() else options.out / "runs" / options.run, workplace)
    known: dict[str, SamplerName] = {name: name for name in fitting_samplers(run.training.objective)}
    samplers = [known[name] for name in chosen(options.samplers, known, what="sampler for this model's objective")]
    guidance = run.recipe.guidance_scale if options.guidance is None else options.guidance
    arms = parse_arms(options.cache_intervals, options.guidance_intervals, guidance=guidance)
    points = judge_samplers(run, samplers, arms, calls, guidance, options.samples, judge, workplace)
    entry = {"name": run.recipe.name, "seed": run.seed, "guidance_scale": guidance, "run": run.folder.name, "points": points}
    document = _with_earlier(options.results, results_document("samplers", [entry], options, workplace, judge))
    write_json(options.results, document)
    print(table(document))


def _with_earlier(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Adds to a document the judgements of earlier calls of the same weights that compare with it."""
    (entry,) = document["entries"]
    earlier = read_json(path) if path.is_file() else {}
    kept = [
        point
        for other in (earlier.get("entries", []) if are_alike(earlier, document) else [])
        for point in other["points"]
        if all(other[name] == entry[name] for name in ("run", "guidance_scale"))
        and (_row_of(point), point["wanted_calls"]) not in {(_row_of(new), new["wanted_calls"]) for new in entry["points"]}
    ]
    return {**document, "entries": [{**entry, "points": kept + entry["points"]}]}


def table(document: dict[str, Any]) -> str:
    """Returns the results as Markdown: a row a sampler and arm, a column a number of calls, distance and accuracy in a cell."""
    points = document["entries"][0]["points"]
    calls = sorted({point["wanted_calls"] for point in points})
    cells = {(_row_of(point), point["wanted_calls"]): f"{point['distance']:.2f} / {point['accuracy']:.3f}" for point in points}
    rows = [[*row, *(cells.get((row, wanted), "") for wanted in calls)] for row in dict.fromkeys(map(_row_of, points))]
    header = ["sampler", "computed", "guided", *(f"{wanted} calls" for wanted in calls)]
    return f"{markdown_table(header, rows)}\n\nDistance / accuracy. {bounds_line(document['bounds'])}"


def _row_of(point: dict[str, Any]) -> tuple[str, str, str]:
    """Returns a judgement's sampler, in which calls attention and MLPs were computed, and when there was guidance."""
    cache, interval = point.get("cache_interval", 1), point.get("guidance_interval")
    return (
        point["sampler"],
        "every call" if cache == 1 else f"1 call in {cache}",
        "always" if interval is None else f"{interval[0]:g} to {interval[1]:g}",
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
