"""The tables of what the benchmark of the watermark measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.command import markdown_table
from benchmarks.watermark_attacks import OTHERS, REQUIRED

_GOAL = 0.95
_COLUMNS = {
    **{f"{size} px": (f"graphics {size}", f"photos {size}") for size in (32, 64, 128, 256, 512)},
    **{f"16x{size}x{size}": (f"graphics 16x{size}x{size}", f"videos 16x{size}x{size}") for size in (64, 32)},
    "16x64x64, id": ("graphics 16x64x64, id",),
}
_ROOM = ("256 px", "512 px", "16x64x64")
"""Where the mark is meant to be found after the required attacks."""


def render(document: Mapping[str, Any]) -> str:
    """Returns all tables as Markdown; a cell has the share of graphics, then that of photographs or videos."""
    cases = document["cases"]
    with_id = [name for name, kinds in _COLUMNS.items() if kinds[0] in cases and cases[kinds[0]]["with_id"]]
    without = [name for name in _COLUMNS if name not in with_id or name.endswith("px")]
    parts = [
        f"Found at {document['level']:.1%} false positives, graphics / photographs or videos:",
        _attacks(cases, without, "detected"),
        "Ids read:",
        _attacks(cases, with_id, "id_read"),
        "Cost:",
        _cost(cases),
        "Media that nobody marked:",
        _false_positives(document["unmarked"]),
        "What beats it, where there is room for it:",
        "\n".join(beaten(cases)) or "nothing",
    ]
    return "\n\n".join(parts)


def beaten(cases: Mapping[str, Any]) -> list[str]:
    """Returns the attacks after which less is found than was meant in large enough media, a line each."""
    names = [name for column in _ROOM for name in _COLUMNS[column] if name in cases]
    lines = []
    for attack in (*REQUIRED, *OTHERS):
        shares = {name: cases[name]["attacks"][attack]["detected"] for name in names}
        low = [f"{share:.0%} of {name}" for name, share in shares.items() if share < _GOAL]
        if low:
            lines.append(f"- {attack}: {', '.join(low)} found")
    return lines


def _attacks(cases: Mapping[str, Any], columns: Sequence[str], figure: str) -> str:
    rows = []
    for attack in (*REQUIRED, *OTHERS):
        shares = [[cases[name]["attacks"][attack][figure] for name in _COLUMNS[column] if name in cases] for column in columns]
        rows.append([f"**{attack}**" if attack in REQUIRED else attack, *map(_cell, shares)])
    return markdown_table(["attack", *columns], rows)


def _cell(shares: Sequence[float]) -> str:
    text = " / ".join(f"{share:.0%}".removesuffix("%") for share in shares) + " %"
    return f"**{text}**" if min(shares) >= _GOAL else text


def _cost(cases: Mapping[str, Any]) -> str:
    header = ["media", "number", "PSNR (least)", "SSIM (least)", "embed", "detect", "detect nothing", "found with another key"]
    rows = [
        [
            name,
            cases[name]["num_media"],
            f"{cases[name]['psnr_db']['mean']:.1f} dB ({cases[name]['psnr_db']['least']:.1f})",
            f"{cases[name]['ssim']['mean']:.3f} ({cases[name]['ssim']['least']:.3f})",
            *(f"{cases[name][time]:.0f} ms" for time in ("embed_ms", "detect_ms", "detect_nothing_ms")),
            cases[name]["found_with_another_key"],
        ]
        for column in _COLUMNS.values()
        for name in column
        if name in cases
    ]
    return markdown_table(header, rows)


def _false_positives(found: Mapping[str, Any]) -> str:
    levels = sorted({level for row in found["kinds"].values() for level in row["found_at"]}, key=float, reverse=True)
    header = ["media", "number", "highest score", "threshold at 0.1 %", *(f"found at {float(level):.1%}" for level in levels)]
    rows = [
        [kind, row["num_media"], f"{row['highest_score']:.2f}", f"{row['threshold']:.2f}", *(row["found_at"][x] for x in levels)]
        for kind, row in found["kinds"].items()
    ]
    totals = [sum(row["found_at"][x] for row in found["kinds"].values()) for x in levels]
    rows.append(["all", sum(row["num_media"] for row in found["kinds"].values()), "", "", *totals])
    return f"{markdown_table(header, rows)}\n\nIds read in them: {found['wrong_ids']}."
