"""Draws all that was measured as one picture, each panel under the machine that it was measured on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measured import CONTENDERS, Document, Results, differences, machine_line

_GREY = "0.4"


def plot_summary(results: Results, target: float | None, path: Path) -> None:
    """Draws speed, quality against training time, quality against calls of the network, and the ablation.

    Args:
        results: What was measured; what was not gets no panel, and the last line says so.
        target: The distance that counts as good enough.
        path: The PNG to write.
    """
    from matplotlib.figure import Figure

    panels: dict[str, Callable[[Any, Document], None]] = {
        "speed": _speed,
        "quality": lambda axes, document: _quality(axes, document, target),
        "samplers": _samplers,
        "ablation": lambda axes, _: _ablation(axes, results),
    }
    documents = {name: getattr(results, name) for name in panels if getattr(results, name) is not None}
    rows = -(-len(documents) // 2)
    figure = Figure(figsize=(12, 4.5 * rows + 0.3), layout="constrained")
    all_axes = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, (name, document) in zip(all_axes, documents.items(), strict=False):
        panels[name](axes, document)
        axes.text(0, 1.01, machine_line(document), transform=axes.transAxes, fontsize=7, color=_GREY)
    for axes in all_axes[len(documents) :]:
        axes.set_axis_off()
    if results.missing:
        figure.supxlabel(f"not measured: {', '.join(results.missing)}", fontsize=8, color=_GREY)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _speed(axes: Any, document: Document) -> None:
    """Draws what a step costs: a pair of bars a contender."""
    found = document["contenders"]
    contenders = {name: found[name] for name in sorted(found, key=lambda name: [*CONTENDERS, name].index(name))}
    for offset, key, label in ((-0.2, "training_step_s", "training step"), (0.2, "sampling_step_s", "guided sampling step")):
        places = [place + offset for place in range(len(contenders))]
        bars = axes.barh(places, [1000 * row[key] for row in contenders.values()], height=0.4, label=label)
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
    axes.set_yticks(range(len(contenders)), list(contenders))
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set_xlabel("milliseconds")
    axes.set_title("What a step costs", pad=18)
    axes.legend(loc="lower right", fontsize=8)


def _quality(axes: Any, document: Document, target: float | None) -> None:
    """Draws distance against seconds of training, both logarithmic."""
    names = list(dict.fromkeys(entry["name"] for entry in document["entries"]))
    labelled: set[str] = set()
    for entry in document["entries"]:
        points = [point for point in entry["points"] if point["training_s"]]
        seconds, distances = [point["training_s"] for point in points], [point["distance"] for point in points]
        label = None if entry["name"] in labelled else entry["name"]
        labelled.add(entry["name"])
        axes.plot(seconds, distances, marker="o", color=f"C{names.index(entry['name'])}", label=label)
    if target is not None:
        axes.axhline(target, color=_GREY, linewidth=1, label=f"good enough: {target:.1f}")
    _distances(axes, document)
    axes.set_xlabel("seconds of training")
    axes.set_title("Quality against training time", pad=18)


def _samplers(axes: Any, document: Document) -> None:
    """Draws distance against calls of the network, both logarithmic: a line a sampler, cached and guided apart."""
    (entry,) = document["entries"]
    lines: dict[str, list[tuple[int, float]]] = {}
    for point in entry["points"]:
        cache = f", 1 call in {point['cache_interval']}" if "cache_interval" in point else ""
        guided = ", guided {:g} to {:g}".format(*point["guidance_interval"]) if "guidance_interval" in point else ""
        lines.setdefault(f"{point['sampler']}{cache}{guided}", []).append((point["num_calls"], point["distance"]))
    for label, found in lines.items():
        calls, distances = zip(*sorted(found), strict=True)
        axes.plot(calls, distances, marker="o", label=label)
    _distances(axes, document)
    axes.set_xlabel("calls of the network")
    axes.set_title(f"Quality against calls ({entry['name']})", pad=18)


def _distances(axes: Any, document: Document) -> None:
    """Draws what distances compare with, and makes both axes logarithmic."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.axhline(document["bounds"]["real"]["distance"], color="black", linestyle="--", linewidth=1, label="real pictures")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("Fréchet distance (classifier features)")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.06))


def _ablation(axes: Any, results: Results) -> None:
    """Draws each arm's distance against that of the base: shorter to the left is better."""
    arms = dict(sorted(differences(results).items(), key=lambda item: item[1]))
    axes.barh(list(arms), list(arms.values()), color=["C0" if value <= 0 else "C1" for value in arms.values()])
    axes.axvline(0, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=6)
    axes.set_xlabel("distance against the base (negative is better)")
    axes.set_title("Ablation", pad=18)
