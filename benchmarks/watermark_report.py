"""The tables of what the benchmark of the watermark measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.command import markdown_table

_GOAL = 0.95


def render(document: Mapping[str, Any]) -> str:
    """Returns all tables as Markdown."""
    cases = document["cases"]
    names = [name for name in cases if ", id" not in name]
    with_id = [name for name in cases if cases[name]["with_id"]]
    parts = [
        f"Found at {document['level']:.1%} false positives:",
        _attacks(document, names, "detected"),
        "Ids read:",
        _attacks(document, with_id, "id_read"),
        "Cost:",
        _cost(cases),
        "Media that nobody marked:",
        _false_positives(document["unmarked"]),
        "What beats it, where there is room for it:",
        "\n".join(beaten(document)) or "nothing",
    ]
    return "\n\n".join(parts)


def beaten(document: Mapping[str, Any]) -> list[str]:
    """Returns the attacks after which less is found than was meant in pictures of 256 pixels or clips of 64, a line each."""
    cases = {name: case for name, case in document["cases"].items() if ("256" in name or "x64x64" in name) and ", id" not in name}
    lines = []
    for attack in next(iter(cases.values()))["attacks"]:
        shares = {name: case["attacks"][attack]["detected"] for name, case in cases.items()}
        low = [f"{share:.0%} of {name}" for name, share in shares.items() if share < _GOAL]
        if low:
            lines.append(f"- {attack}: {', '.join(low)}")
    return lines


def _attacks(document: Mapping[str, Any], names: Sequence[str], figure: str) -> str:
    cases, rows = document["cases"], []
    for attack in cases[names[0]]["attacks"]:
        label = f"**{attack}**" if attack in document["required"] else attack
        rows.append([label, *(_percent(cases[name]["attacks"][attack][figure]) for name in names)])
    return markdown_table(["attack", *names], rows)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share < _GOAL else f"**{share:.0%}**"


def _cost(cases: Mapping[str, Any]) -> str:
    header = ["media", "number", "PSNR (least)", "SSIM (least)", "embed", "detect", "detect nothing", "found with another key"]
    rows = [
        [
            name,
            case["num_media"],
            f"{case['psnr_db']['mean']:.1f} dB ({case['psnr_db']['least']:.1f})",
            f"{case['ssim']['mean']:.3f} ({case['ssim']['least']:.3f})",
            f"{case['embed_ms']:.0f} ms",
            f"{case['detect_ms']:.0f} ms",
            f"{case['detect_nothing_ms']:.0f} ms",
            case["found_with_another_key"],
        ]
        for name, case in cases.items()
    ]
    return markdown_table(header, rows)


def _false_positives(found: Mapping[str, Any]) -> str:
    levels = list(next(iter(found["kinds"].values()))["found_at"])
    header = ["media", "number", "highest score", "threshold at 0.1 %", *(f"found at {float(level):.1%}" for level in levels)]
    rows = [
        [kind, row["num_media"], f"{row['highest_score']:.2f}", f"{row['threshold']:.2f}", *(row["found_at"][x] for x in levels)]
        for kind, row in found["kinds"].items()
    ]
    totals = [sum(row["found_at"][x] for row in found["kinds"].values()) for x in levels]
    rows.append(["all", sum(row["num_media"] for row in found["kinds"].values()), "", "", *totals])
    return f"{markdown_table(header, rows)}\n\nIds read in them: {found['wrong_ids']}."
