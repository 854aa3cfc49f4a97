"""Quality against training time on Fashion-MNIST: ``python -m benchmarks.quality_time --data FOLDER --out FOLDER``.

Recipes are trained in turn for the same wall-clock time (or number of steps) on the same pictures; at the end, at half
of it, at a quarter and so on their averaged weights are kept. Pictures drawn with each are judged by one committed classifier:
the Fréchet distance of its features to those of real held-out pictures, and how often it sees the label that was asked for.
Beside every figure stand those of as many real pictures, and of noise.

Training needs a quiet machine, judging does not: ``--only train`` and ``--only evaluate`` do one of the two. Whatever was done
under ``--out`` is not done again, so an interrupted benchmark is continued by the same command.
"""

import argparse
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import (
    chosen,
    digest_of,
    machine,
    markdown_table,
    positive,
    positive_seconds,
    read_json,
    run_command,
    write_json,
)
from benchmarks.fashion import CLASSIFIER, Judge, read_pictures
from benchmarks.plots import plot_distance, plot_grids
from benchmarks.quality_evaluation import judge_snapshot, recipe_drawing
from benchmarks.quality_runs import Budget, Recipe, Run, Workplace, open_run, train_run
from model_core.evaluation.classifier import load_classifier
from model_core.training.loop import StepProgress
from model_core.transformer.presets import MODERN

RESULTS = Path(__file__).parent / "results" / "quality-time.json"

SMALL = {"hidden_size": 160, "depth": 4, "num_heads": 5, "patch_size": (1, 4, 4)}
"""A transformer of about two million parameters on 49 tokens of a 28 x 28 picture."""

ORIGINAL = Recipe(
    name="original",
    training={
        "objective": "epsilon",
        "noise_schedule": "linear",
        "learning_rate": 1e-4,
        "decay": "constant",
        "warmup_steps": 0,
        "adam_beta2": 0.999,
        "max_grad_norm": 1e9,
        "ema_decay": 0.9999,
        "batch_size": 32,
        "learn_variance": True,
    },
    architecture={**SMALL, "learn_variance": True},
    sampler="ddpm",
    num_sampling_steps=250,
)
TUNED_EPSILON = Recipe(
    name="tuned-epsilon",
    training={
        "objective": "epsilon",
        "noise_schedule": "cosine",
        "learning_rate": 2e-3,
        "ema_decay": 0.999,
        "batch_size": 32,
    },
    architecture=SMALL,
    sampler="dpm_solver_pp",
    num_sampling_steps=20,
    guidance_scale=1.5,
)
SEARCHED_EPSILON = TUNED_EPSILON.changed(
    "searched-epsilon",
    training={"learning_rate": 4e-3, "decay": "wsd", "decay_fraction": 0.3, "time_sampling": "logit_normal"},
    architecture={"mlp": "swiglu", "qk_norm": True},
)
"""What gained most in the same ablation of noise prediction, together."""
OURS = Recipe(
    name="ours",
    training={"objective": "rectified_flow", "learning_rate": 2e-3, "ema_decay": 0.999, "batch_size": 32},
    architecture=SMALL,
    num_sampling_steps=20,
    guidance_scale=1.5,
)
OURS_MODERN = OURS.changed("ours-modern", architecture=MODERN)
OURS_TUNED = OURS.changed(
    "ours-tuned",
    training={"learning_rate": 4e-3, "decay": "wsd", "decay_fraction": 0.3},
    architecture={"mlp": "swiglu", "qk_norm": True},
)
"""What gained most in the ablation, together."""
RECIPES = {recipe.name: recipe for recipe in (ORIGINAL, TUNED_EPSILON, SEARCHED_EPSILON, OURS, OURS_MODERN, OURS_TUNED)}


def parser_of(program: str, description: str | None) -> argparse.ArgumentParser:
    """Returns a parser of the options that every benchmark of quality has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{program}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with Fashion-MNIST's four IDX files")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for weights, judgements, plots; found again by the next call"
    )
    parser.add_argument("--classifier", type=Path, default=CLASSIFIER, help="folder of the classifier that judges")
    parser.add_argument("--samples", type=positive, default=2000, help="pictures a judgement")
    parser.add_argument("--threads", type=positive, default=2)
    return parser


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say for how long and how often recipes are trained."""
    parser.add_argument("--seconds", type=positive_seconds, help="wall-clock time of training a recipe")
    parser.add_argument("--steps", type=positive, help="steps of training a recipe, in place of --seconds")
    parser.add_argument("--seeds", default="0", help="seeds with commas")
    parser.add_argument("--only", choices=["train", "evaluate"], help="do one of the two")
    parser.add_argument(
        "--max-sampling-steps", type=positive, help="sample no recipe with more steps than these, to judge sooner"
    )
    parser.add_argument("--points", type=positive, default=32, help="judge the last of the kept points alone: so many of them")
    parser.add_argument("--codec", type=Path, help="folder of a trained codec, for recipes on its latents")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = parser_of("quality_time", __doc__)
    add_budget(parser)
    parser.add_argument("--recipes", default="all", help=f"names with commas: {', '.join(RECIPES)}")
    parser.add_argument("--snapshots", type=positive, default=4, help="how many points: the end, half of it, a quarter, ...")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def open_workplace(options: argparse.Namespace) -> tuple[Workplace, Judge]:
    """Returns the data and the judge that the options name.

    Raises:
        BadDataError: The data are missing or damaged.
        BadModelError: The classifier cannot be read.
    """
    torch.set_num_threads(options.threads)
    train, test = read_pictures(options.data, "train"), read_pictures(options.data, "t10k")
    workplace = Workplace(out=options.out, train=train, codec=getattr(options, "codec", None))
    return workplace, Judge(load_classifier(options.classifier), test)


def tell(name: str) -> Any:
    """Returns a callback that tells a training's progress on standard error, now and then."""

    def on_step(progress: StepProgress) -> None:
        if progress.step % 200 == 0 or progress.step == progress.num_steps:
            print(
                f"{name} {progress.step}/{progress.num_steps} loss {progress.loss:.3f} {progress.steps_per_s:.1f}/s "
                f"{progress.seconds_left:.0f} s left",
                file=sys.stderr,
            )

    return on_step


def run_recipes(
    recipes: list[Recipe], seeds: list[int], budget: Budget, options: argparse.Namespace, workplace: Workplace, judge: Judge
) -> list[dict[str, Any]]:
    """Trains and judges recipes as the options say, and returns an entry for each and seed that was judged."""
    runs = [open_run(recipe, seed, budget, workplace) for recipe in recipes for seed in seeds]
    if options.only != "evaluate":
        for run in runs:
            train_run(run, workplace, on_step=tell(run.recipe.name))
    return [] if options.only == "train" else [_entry(run, options, judge, workplace) for run in runs]


def _entry(run: Run, options: argparse.Namespace, judge: Judge, workplace: Workplace) -> dict[str, Any]:
    drawing = recipe_drawing(run.recipe, num_pictures=options.samples, max_steps=options.max_sampling_steps)
    points = []
    for step in run.snapshot_steps[-options.points :]:
        point = judge_snapshot(run, step, drawing, judge, workplace)
        points.append({**point, "grid": str(run.folder / "judgements" / point["grid"])})
        print(f"{run.recipe.name} {step}: distance {point['distance']:.2f} accuracy {point['accuracy']:.3f}", file=sys.stderr)
    return {
        "recipe": asdict(run.recipe),
        "name": run.recipe.name,
        "seed": run.seed,
        "budget": asdict(run.budget),
        "num_parameters": num_parameters(run),
        "run": run.folder.name,
        "points": points,
    }


def num_parameters(run: Run) -> int:
    """Returns the number of trained numbers of a run's network."""
    from model_core.transformer.dit import DiT

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in DiT(run.architecture).parameters())


def results_document(
    benchmark: str, entries: list[dict[str, Any]], options: argparse.Namespace, workplace: Workplace, judge: Judge
) -> dict[str, Any]:
    """Returns what goes into the results file: entries, and what they compare under."""
    return {
        "benchmark": benchmark,
        "machine": machine(),
        "dataset_digest": workplace.train.digest,
        "classifier_digest": judge.classifier.digest,
        "bounds": judge.bounds(options.samples, train=workplace.train),
        "entries": entries,
    }


def write_results(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Writes results, without the paths of this machine, and keeps earlier ones of other recipes, seeds and budgets.

    Earlier ones that were judged otherwise (other data, another classifier, another number of pictures) do not compare, and go.

    Returns:
        What was written.
    """

    def key(entry: dict[str, Any]) -> str:
        return digest_of([entry["name"], entry["seed"], entry["budget"]])

    entries = [
        {**entry, "points": [{**point, "grid": Path(point["grid"]).name} for point in entry["points"]]}
        for entry in document["entries"]
    ]
    earlier = read_json(path) if path.is_file() else {}
    if are_alike(earlier, document):
        new = {key(entry) for entry in entries}
        entries = [entry for entry in earlier["entries"] if key(entry) not in new] + entries
    found = {**document, "entries": entries}
    write_json(path, found)
    return found


def are_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Says whether two documents were judged alike: by the same classifier, on as many pictures of the same data."""
    return all(_alike(one.get(name), other.get(name)) for name in ("dataset_digest", "classifier_digest", "bounds"))


def _alike(one: Any, other: Any) -> bool:
    """Says whether values are the same, numbers but for what differs between machines' rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)


def bounds_line(bounds: dict[str, Any]) -> str:
    """Returns the sentence that stands under a table of distances."""
    real, noise = bounds["real"], bounds["noise"]
    return (
        f"As many real pictures: distance {real['distance']:.2f}, accuracy {real['accuracy']:.3f}; "
        f"noise: distance {noise['distance']:.1f}, accuracy {noise['accuracy']:.3f}."
    )


def table(document: dict[str, Any]) -> str:
    """Returns the results as Markdown: a row a recipe, seed and point."""
    rows = [
        [
            entry["name"],
            entry["seed"],
            f"{entry['num_parameters'] / 1e6:.2f} M",
            point["step"],
            "" if point["training_s"] is None else f"{point['training_s']:.3g}",
            f"{point['sampler']}, {point['num_calls']} calls",
            f"{point['distance']:.2f}",
            f"{point['accuracy']:.3f}",
        ]
        for entry in document["entries"]
        for point in entry["points"]
    ]
    header = ["recipe", "seed", "parameters", "steps", "seconds", "sampling", "distance", "accuracy"]
    return f"{markdown_table(header, rows)}\n\n{bounds_line(document['bounds'])}"


def measure(options: argparse.Namespace) -> None:
    """Runs the benchmark."""
    recipes = [RECIPES[name] for name in chosen(options.recipes, RECIPES, what="recipe")]
    budget = Budget(seconds=options.seconds, steps=options.steps, num_snapshots=options.snapshots)
    workplace, judge = open_workplace(options)
    entries = run_recipes(recipes, parse_seeds(options.seeds), budget, options, workplace, judge)
    if options.only == "train":
        return
    document = results_document("quality_time", entries, options, workplace, judge)
    document = write_results(options.results, document)
    plot_distance(document, options.out / "quality-time.png")
    plot_grids(document, options.out / "runs", options.out / "samples")
    print(table(document))


def parse_seeds(text: str) -> list[int]:
    """Reads seeds from a list with commas.

    Raises:
        BadDataError: One is no whole number.
    """
    from model_core.errors import BadDataError

    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise BadDataError(f"--seeds is {text!r}", hint="give whole numbers with commas, such as 0,1,2") from error


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
