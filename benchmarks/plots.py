"""Pictures of results: distance against seconds, and samples of recipes side by side at equal time."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def plot_distance(document: dict[str, Any], path: Path) -> None:
    """Draws distance against seconds of training, both logarithmic, and accuracy below, with what real pictures reach."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    distance, accuracy = figure.subplots(2, 1, sharex=True)
    colours = {name: f"C{place}" for place, name in enumerate(dict.fromkeys(entry["name"] for entry in document["entries"]))}
    labelled: set[str] = set()
    for entry in document["entries"]:
        points = [point for point in entry["points"] if point["training_s"]]
        seconds = [point["training_s"] for point in points]
        style = {"color": colours[entry["name"]], "marker": "o", "label": None if entry["name"] in labelled else entry["name"]}
        labelled.add(entry["name"])
        distance.plot(seconds, [point["distance"] for point in points], **style)
        accuracy.plot(seconds, [point["accuracy"] for point in points], **style)
    for axes, key in ((distance, "distance"), (accuracy, "accuracy")):
        axes.axhline(document["bounds"]["real"][key], color="black", linestyle="--", linewidth=1, label="real pictures")
        axes.axhline(document["bounds"]["noise"][key], color="grey", linestyle=":", linewidth=1, label="noise")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.set_xscale("log")
    distance.set_yscale("log")
    distance.set_ylabel("Fréchet distance (classifier features)")
    accuracy.set_ylabel("share with the label asked for")
    accuracy.set_xlabel("seconds of training")
    distance.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def plot_grids(document: dict[str, Any], runs: Path, folder: Path) -> list[Path]:
    """Draws, for each point in time of the shortest run, the sample grids of all recipes' first seeds under each other.

    Args:
        document: The results; an entry whose grids are not there is left out.
        runs: The folder of the runs that the entries name.
        folder: Where to write.

    Returns:
        The files.
    """
    from matplotlib.figure import Figure

    present = [entry for entry in document["entries"] if all(_grid(runs, entry, point).is_file() for point in entry["points"])]
    first = {entry["name"]: entry for entry in reversed(present)}
    entries = [first[name] for name in dict.fromkeys(entry["name"] for entry in present)]
    folder.mkdir(parents=True, exist_ok=True)
    shortest = min(entries, key=lambda entry: entry["points"][-1]["training_s"] or 0, default={"points": []})
    made = []
    for place, reference in enumerate(shortest["points"]):
        figure = Figure(figsize=(7, 2.9 * len(entries)), layout="constrained")
        panels = figure.subplots(len(entries), 1, squeeze=False)[:, 0]
        for axes, entry in zip(panels, entries, strict=True):
            point = _nearest(entry["points"], reference)
            axes.imshow(np.asarray(Image.open(_grid(runs, entry, point))), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_axis_off()
            time = "" if point["training_s"] is None else f", {point['training_s']:.0f} s"
            axes.set_title(
                f"{entry['name']}{time}, {point['step']} steps: distance {point['distance']:.1f}, "
                f"accuracy {point['accuracy']:.2f}",
                fontsize=9,
            )
        path = folder / f"point-{place + 1}.png"
        figure.savefig(path, dpi=120, metadata={"Software": None})
        made.append(path)
    return made


def _grid(runs: Path, entry: dict[str, Any], point: dict[str, Any]) -> Path:
    return runs / entry["run"] / "judgements" / Path(point["grid"]).name


def _nearest(points: list[dict[str, Any]], reference: dict[str, Any]) -> dict[str, Any]:
    """Returns the point nearest to another in time of training, by ratio; in steps where times are not known."""
    key = "training_s" if all(point["training_s"] for point in [*points, reference]) else "step"
    return min(points, key=lambda point: abs(math.log(point[key] / reference[key])))
