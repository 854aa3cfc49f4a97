"""What each choice is worth, on Fashion-MNIST: ``python -m benchmarks.ablation --data FOLDER --out FOLDER --seconds 120``.

Every arm is the base recipe with one thing changed, trained for the same wall-clock time (or number of steps) and judged as in
`benchmarks.quality_time`; ``--base tuned-epsilon`` asks the same of noise prediction. Prints a Markdown table and writes JSON.
Whatever was done under ``--out`` is not done again.
"""

import argparse
import sys
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

from benchmarks.command import chosen, markdown_table, run_command
from benchmarks.quality_runs import Budget, Recipe
from benchmarks.quality_time import (
    OURS,
    TUNED_EPSILON,
    add_budget,
    bounds_line,
    open_workplace,
    parse_seeds,
    parser_of,
    results_document,
    run_recipes,
    write_results,
)

RESULTS = Path(__file__).parent / "results" / "ablation.json"
EPSILON_RESULTS = RESULTS.with_name("ablation-epsilon.json")
BASE_NAME = "base"
BASE = OURS.changed(BASE_NAME)

_NOISE_SCHEDULE = {"noise_schedule": "cosine"}
_SOLVER: dict[str, Any] = {"sampler": "dpm_solver_pp"}  # as many calls as Euler makes in the base
ARMS: dict[str, Recipe] = {
    arm.name: arm
    for arm in (
        BASE,
        BASE.changed("epsilon-prediction", training={"objective": "epsilon", **_NOISE_SCHEDULE}, **_SOLVER),
        BASE.changed("x0-prediction", training={"objective": "x0", **_NOISE_SCHEDULE}, **_SOLVER),
        BASE.changed("v-prediction", training={"objective": "v", **_NOISE_SCHEDULE}, **_SOLVER),
        BASE.changed("v-zero-terminal-snr", training={"objective": "v", **_NOISE_SCHEDULE, "zero_terminal_snr": True}, **_SOLVER),
        BASE.changed("epsilon-min-snr-5", training={"objective": "epsilon", **_NOISE_SCHEDULE, "min_snr_gamma": 5.0}, **_SOLVER),
        BASE.changed("uniform-times", training={"time_sampling": "uniform"}),
        BASE.changed("later-times", training={"time_mean": 0.5}),
        BASE.changed("rate-1e-4", training={"learning_rate": 1e-4}),
        BASE.changed("rate-5e-4", training={"learning_rate": 5e-4}),
        BASE.changed("rate-1e-3", training={"learning_rate": 1e-3}),
        BASE.changed("rate-4e-3", training={"learning_rate": 4e-3}),
        BASE.changed("wsd-decay", training={"decay": "wsd", "decay_fraction": 0.3}),
        BASE.changed("no-ema", training={"ema_decay": 0.0}),
        BASE.changed("ema-0.99", training={"ema_decay": 0.99}),
        BASE.changed("ema-0.9999", training={"ema_decay": 0.9999}),
        BASE.changed("batch-16", training={"batch_size": 16}),
        BASE.changed("batch-64", training={"batch_size": 64}),
        BASE.changed("batch-128", training={"batch_size": 128}),
        BASE.changed("rms-norm", architecture={"norm": "rms"}),
        BASE.changed("swiglu", architecture={"mlp": "swiglu"}),
        BASE.changed("rope", architecture={"positions": "rope"}),
        BASE.changed("rope-swiglu-rms", architecture={"positions": "rope", "mlp": "swiglu", "norm": "rms"}),
        BASE.changed("qk-norm", architecture={"qk_norm": True}),
        BASE.changed("swiglu-qk-norm", architecture={"mlp": "swiglu", "qk_norm": True}),
        BASE.changed("rms-swiglu-qk-norm", architecture={"norm": "rms", "mlp": "swiglu", "qk_norm": True}),
        BASE.changed(
            "rope-rms-swiglu-qk-norm", architecture={"positions": "rope", "norm": "rms", "mlp": "swiglu", "qk_norm": True}
        ),
        BASE.changed("shared-adaln", architecture={"modulation": "shared"}),
        BASE.changed("swiglu-qk-norm-shared-adaln", architecture={"mlp": "swiglu", "qk_norm": True, "modulation": "shared"}),
        BASE.changed("long-skips", architecture={"long_skips": True}),
        BASE.changed("patch-2", architecture={"patch_size": (1, 2, 2)}),
        BASE.changed("patch-7", architecture={"patch_size": (1, 7, 7)}),
        BASE.changed("no-guidance", guidance_scale=1.0),
        BASE.changed("guidance-3", guidance_scale=3.0),
        BASE.changed("latents-patch-pca", space="patch-pca", architecture={"patch_size": (1, 1, 1)}),
        BASE.changed("latents-codec", space="codec", architecture={"patch_size": (1, 1, 1)}),
    )
}
DEFAULT_ARMS = tuple(name for name in ARMS if name != "latents-codec")
_EPSILON_BASE = TUNED_EPSILON.changed(BASE_NAME)
EPSILON_ARMS: dict[str, Recipe] = {
    arm.name: arm
    for arm in (
        _EPSILON_BASE,
        _EPSILON_BASE.changed("rate-1e-3", training={"learning_rate": 1e-3}),
        _EPSILON_BASE.changed("rate-4e-3", training={"learning_rate": 4e-3}),
        _EPSILON_BASE.changed("wsd-decay", training={"decay": "wsd", "decay_fraction": 0.3}),
        _EPSILON_BASE.changed("swiglu-qk-norm", architecture={"mlp": "swiglu", "qk_norm": True}),
        _EPSILON_BASE.changed("min-snr-5", training={"min_snr_gamma": 5.0}),
        _EPSILON_BASE.changed("logit-normal-times", training={"time_sampling": "logit_normal"}),
        _EPSILON_BASE.changed("linear-schedule", training={"noise_schedule": "linear"}),
        _EPSILON_BASE.changed("sigmoid-schedule", training={"noise_schedule": "sigmoid"}),
        _EPSILON_BASE.changed("batch-16", training={"batch_size": 16}),
        _EPSILON_BASE.changed("guidance-3", guidance_scale=3.0),
    )
}
"""The same question asked of noise prediction, so that it is an opponent that was searched for, too."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = parser_of("ablation", __doc__)
    add_budget(parser)
    parser.add_argument("--base", choices=("ours", "tuned-epsilon"), default="ours", help="the recipe that is changed")
    parser.add_argument(
        "--arms",
        help=f"names with commas; of ours: {', '.join(ARMS)} (latents-codec needs --codec, and is not among the default); "
        f"of tuned-epsilon: {', '.join(EPSILON_ARMS)}",
    )
    parser.add_argument("--results", type=Path)
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> None:
    """Runs the benchmark."""
    of_ours = options.base == "ours"
    arms, default = (ARMS, DEFAULT_ARMS) if of_ours else (EPSILON_ARMS, tuple(EPSILON_ARMS))
    names = chosen(options.arms or ",".join(default), arms, what="arm")
    names = [BASE_NAME, *(name for name in names if name != BASE_NAME)]  # what the others are compared with
    budget = Budget(seconds=options.seconds, steps=options.steps, num_snapshots=1)
    workplace, judge = open_workplace(options)
    entries = run_recipes([arms[name] for name in names], parse_seeds(options.seeds), budget, options, workplace, judge)
    if options.only == "train":
        return
    document = results_document("ablation", entries, options, workplace, judge)
    write_results(options.results or (RESULTS if of_ours else EPSILON_RESULTS), document)
    print(table(document))


def table(document: dict[str, Any]) -> str:
    """Returns the results as Markdown: a row an arm, means over seeds with their standard deviation where there are several."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for entry in document["entries"]:
        by_name.setdefault(entry["name"], []).append(entry)
    base = mean(_last(entry)["distance"] for entry in by_name[BASE_NAME])
    rows = []
    for name, entries in by_name.items():
        points = [_last(entry) for entry in entries]
        seconds = [point["training_s"] for point in points if point["training_s"] is not None]
        rows.append(
            [
                name,
                f"{entries[0]['num_parameters'] / 1e6:.2f} M",
                points[0]["step"],
                f"{mean(seconds):.3g}" if seconds else "",
                _spread([point["distance"] for point in points], 2),
                f"{mean(point['distance'] for point in points) - base:+.2f}",
                _spread([point["accuracy"] for point in points], 3),
            ]
        )
    header = ["arm", "parameters", "steps", "seconds", "distance", "against base", "accuracy"]
    return f"{markdown_table(header, rows)}\n\n{bounds_line(document['bounds'])}"


def _last(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = entry["points"][-1]
    return found


def _spread(values: list[float], digits: int) -> str:
    spread = f" ± {pstdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
