"""All that was measured, at a glance: ``python -m benchmarks.report``.

Reads what the other benchmarks wrote to ``benchmarks/results``, prints one Markdown table of us against the paper's network and
diffusers, and draws one plot. What was not measured is said to be missing. A quality is a distance; if none is named it is the
one that the paper's recipe reached at its end, and the table tells how many calls of the network and how much training others
need for as much.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.command import markdown_table, positive_seconds, run_command
from benchmarks.measured import (
    CONTENDERS,
    FILES,
    RESULTS,
    Document,
    Results,
    differences,
    entries_of,
    machine_line,
    read_results,
    target_distance,
)
from benchmarks.report_plot import plot_summary
from model_core.errors import BadDataError

PLOT_NAME = "summary.png"
_NOTHING = "not measured"


def table(results: Results, target: float | None) -> str:
    """Returns the table: a row a contender or recipe."""
    recipes = [entry["name"] for entry in (results.quality or {}).get("entries", [])]
    others = [name for name in dict.fromkeys(recipes) if name not in CONTENDERS.values()]
    rows = [
        [_label(name, recipe), *_speed_cells(results, name), *_quality_cells(results, recipe, target)]
        for name, recipe in [*CONTENDERS.items(), *((name, name) for name in others)]
    ]
    goal = "a distance" if target is None else f"distance {target:.1f}"
    header = [
        *("network or recipe", "training step, ms", "of the matmul peak", "guided sampling step, ms", "peak memory, MiB"),
        *("distance", "label as asked", f"calls to {goal}", f"training to {goal}, s"),
    ]
    return markdown_table(header, rows)


def _label(name: str, recipe: str) -> str:
    return f"{name} (recipe {recipe})" if recipe not in {"", name} else name


def _speed_cells(results: Results, name: str) -> list[str]:
    row = (results.speed or {}).get("contenders", {}).get(name)
    if row is None:
        return [_NOTHING] * 4
    return [
        f"{1000 * row['training_step_s']:.0f}",
        f"{100 * row['training_share_of_peak']:.0f} %",
        f"{1000 * row['sampling_step_s']:.0f}",
        f"{row['peak_memory_bytes'] / 2**20:.0f}",
    ]


def _quality_cells(results: Results, recipe: str, target: float | None) -> list[str]:
    entries = entries_of(results.quality, recipe)
    if not entries:
        return [_NOTHING] * 4
    ends = [entry["points"][-1] for entry in entries]
    return [
        f"{mean(point['distance'] for point in ends):.1f}",
        f"{100 * mean(point['accuracy'] for point in ends):.0f} %",
        _calls_to(results, recipe, entries, target),
        _seconds_to(entries, target),
    ]


def _reached(points: Sequence[Document], target: float) -> list[Document]:
    return [point for point in points if point["distance"] <= target]


def _calls_to(results: Results, recipe: str, entries: Sequence[Document], target: float | None) -> str:
    """Returns the fewest calls that reach a distance: of all samplers where they were compared, else of the recipe's own."""
    if target is None:
        return _NOTHING
    compared = [entry for entry in (results.samplers or {}).get("entries", []) if entry["name"] == recipe]
    plain = [point for entry in compared for point in entry["points"] if point.get("cache_interval", 1) == 1]
    good = _reached(plain or [entry["points"][-1] for entry in entries], target)
    if not good:
        return "not reached"
    best = min(good, key=lambda point: (point["num_calls"], point["distance"]))
    return f"{best['num_calls']} ({best['sampler']})"


def _seconds_to(entries: Sequence[Document], target: float | None) -> str:
    """Returns the training after which a distance was first judged to be reached, the mean over seeds."""
    if target is None:
        return _NOTHING
    first = [next(iter(_reached(entry["points"], target)), None) for entry in entries]
    if any(point is None for point in first):
        return "not reached"
    seconds = [point["training_s"] for point in first if point is not None and point["training_s"] is not None]
    return f"{mean(seconds):.0f}" if len(seconds) == len(first) else _NOTHING


def notes(results: Results) -> list[str]:
    """Returns what the table does not say: machines, settings, what is missing."""
    lines = [f"{FILES[name]}: {machine_line(getattr(results, name))}" for name in FILES if getattr(results, name) is not None]
    if results.speed is not None:
        how = results.speed["settings"]
        lines.append(
            f"speed: width {how['hidden_size']}, depth {how['depth']}, latents 4x{how['side']}x{how['side']}, "
            f"batch {how['batch_size']}, {how['precision']}"
        )
    if results.quality is not None:
        sizes = sorted({f"{entry['num_parameters'] / 1e6:.1f} M" for entry in results.quality["entries"]})
        real = results.quality["bounds"]["real"]
        lines.append(
            f"quality: networks of {', '.join(sizes)} parameters on Fashion-MNIST; as many real pictures: "
            f"distance {real['distance']:.1f}, label {100 * real['accuracy']:.0f} %"
        )
    if arms := differences(results):
        best = min(arms, key=lambda name: arms[name])
        lines.append(f"ablation: of {len(arms)} arms {best} is nearest to real pictures, {arms[best]:+.2f} against the base")
    return lines + [f"missing: {file}" for file in results.missing]


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder with the results")
    parser.add_argument("--quality", type=positive_seconds, help="the distance that counts as good enough")
    parser.add_argument("--plot", type=Path, help=f"where to draw; {PLOT_NAME} beside the results if not given")
    return parser.parse_args(arguments)


def report(options: argparse.Namespace) -> None:
    """Prints the table and draws the plot."""
    results = read_results(options.results)
    target = target_distance(results, options.quality)
    try:
        text = "\n".join([table(results, target), "", *(f"- {note}" for note in notes(results))])
        plot_summary(results, target, options.plot or options.results / PLOT_NAME)
    except (KeyError, TypeError, IndexError) as error:
        raise BadDataError(
            f"the results in {options.results} lack {error}", hint="measure again with this version of the benchmarks"
        ) from error
    print(text)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: report(options))


if __name__ == "__main__":
    raise SystemExit(main())
