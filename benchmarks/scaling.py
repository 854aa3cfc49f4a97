"""Writes docs/SCALING.md from what the benchmarks measured: ``python -m benchmarks.scaling docs/SCALING.md``.

Every figure of the page is either one of `benchmarks/results`, or one of these times a number of clips; nothing is typed in.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import markdown_table, read_json, run_command
from benchmarks.measured import RESULTS
from model_core.data.dataset import OPEN_SHARDS
from model_core.data.latents import MAPPED_SHARDS

SIZES = {"1 million": 1_000_000, "10 million": 10_000_000, "100 million": 100_000_000}
"""Clips that costs are extrapolated to."""
_THOUSAND = 1000
_TEXT = Path(__file__).with_name("scaling.md")
_FILES = (
    "clip-costs",
    "console-metrics",
    "encoding-size",
    "ledger",
    "lineage",
    "near-copies",
    "transformer-speed",
    "validation-size",
)

Results = Mapping[str, Any]
Linear = Callable[[Results], float]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a thousand of something cost.

    Attributes:
        stage: Which stage of the work.
        file: Where it was measured.
        seconds: Seconds of a thousand, None where they are not what grows.
        stored: Bytes that a thousand take on disk, None where they take none.
        memory: Bytes of memory that each thousand more take, None where memory does not grow, or was not measured.
        note: What these seconds are.
    """

    stage: str
    file: str
    seconds: Linear | None = None
    stored: Linear | None = None
    memory: Linear | None = None
    note: str = "processor"


def _clips(stage: str, key: str) -> Linear:
    return lambda results: float(results["clip-costs"]["of_a_thousand"][stage][key])


def _validation(key: str) -> Linear:
    return lambda results: float(results["validation-size"][key]) / results["validation-size"]["rows"] * _THOUSAND


def _encoding_memory(results: Results) -> float:
    few, *_, many = results["encoding-size"]["runs"]
    grown = many["encoding_peak_memory_bytes"] - few["encoding_peak_memory_bytes"]
    return float(max(0, grown) / (many["items"] - few["items"]) * _THOUSAND)


def _training(results: Results) -> float:
    speed = results["transformer-speed"]
    return float(speed["contenders"]["ours"]["training_step_s"] / speed["settings"]["batch_size"] * _THOUSAND)


def _index(results: Results) -> float:
    return float(results["near-copies"]["index_bytes"] / results["near-copies"]["num_train"] * _THOUSAND)


def _append(results: Results) -> float:
    return float(_THOUSAND / results["ledger"]["databases"]["sqlite"]["filling"]["entries_per_s"])


def _verify(results: Results) -> float:
    found = results["ledger"]["databases"]["sqlite"]["verification"]
    return float(found["processor_s"] / found["entries"] * _THOUSAND)


def _lineage(results: Results) -> float:
    return float(results["lineage"]["size_bytes"] / results["lineage"]["counts"]["lineage_events"] * _THOUSAND)


COSTS = (
    Cost(stage="import", file="clip-costs", seconds=_clips("import", "processor_s"), stored=_clips("import", "bytes")),
    Cost(stage="validate: reading and digesting media", file="clip-costs", seconds=_clips("reading", "processor_s")),
    Cost(
        stage="validate: expectations",
        file="validation-size",
        seconds=_validation("checking_processor_s"),
        stored=_validation("manifest_bytes"),
        memory=_validation("peak_memory_bytes"),
    ),
    Cost(
        stage="encode: latents",
        file="clip-costs, encoding-size",
        seconds=_clips("encode", "processor_s"),
        stored=_clips("encode", "bytes"),
        memory=_encoding_memory,
    ),
    Cost(
        stage="encode: captions that all differ",
        file="clip-costs",
        seconds=_clips("captions", "processor_s"),
        stored=_clips("captions", "bytes"),
        memory=_clips("captions", "bytes"),
    ),
    Cost(stage="train: each item once", file="transformer-speed", seconds=_training, note="two cores"),
    Cost(stage="evaluate: index of training items", file="near-copies", stored=_index),
    Cost(stage="ledger: an entry each", file="ledger", seconds=_append, note="wall"),
    Cost(stage="ledger: verify an entry each", file="ledger", seconds=_verify),
    Cost(stage="lineage: an event each", file="lineage", stored=_lineage),
)


def pairs_seconds(results: Results, number: int) -> float:
    """Returns the processor seconds of comparing so many pictures with each other."""
    return float(results["clip-costs"]["alike"]["processor_s_a_million_pairs"] * number**2 / 1e6)


def seconds_text(seconds: float) -> str:
    """Returns seconds in the unit that people would say: 2.5 h."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} s" if seconds >= 1 else f"{_short(1000 * seconds)} ms"


def bytes_text(number: float) -> str:
    """Returns bytes in the unit that people would say: 1.4 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{_short(number / size)} {unit}"
    return f"{_short(number)} B"


def _short(value: float) -> str:
    """Returns a number to two digits."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def costs_table(results: Results) -> str:
    """Returns what a thousand cost, as measured, and what more would."""
    rows = []
    for cost in COSTS:
        for what, measured, text in (
            (f"seconds ({cost.note})", cost.seconds, seconds_text),
            ("stored", cost.stored, bytes_text),
            ("memory", cost.memory, bytes_text),
        ):
            if measured is not None:
                one = measured(results)
                more = [text(one * number / _THOUSAND) for number in SIZES.values()]
                files = ", ".join(f"`{name}`" for name in cost.file.split(", "))
                rows.append([cost.stage, what, f"**{text(one)}**", *more, files])
    more = [seconds_text(pairs_seconds(results, number)) for number in SIZES.values()]
    alike = seconds_text(pairs_seconds(results, _THOUSAND))
    rows.append(["validate: pictures that look alike", "seconds (processor), quadratic", f"**{alike}**", *more, "`clip-costs`"])
    header = ["stage", "what", "1,000, **measured**", *(f"{name}, extrapolated" for name in SIZES), "measured in"]
    return markdown_table(header, rows)


def values(results: Results) -> dict[str, str]:
    """Returns what stands for the names in braces of the page's text."""
    checked, encoded, clips = results["validation-size"], results["encoding-size"]["runs"], results["clip-costs"]
    ledger, lineage = results["ledger"]["databases"], results["lineage"]
    of_thousand = {cost.stage: cost for cost in COSTS}

    def extrapolated(stage: str, kind: str, number: int) -> float:
        return float(getattr(of_thousand[stage], kind)(results) * number / _THOUSAND)

    found = {
        "costs": costs_table(results),
        "frames": str(clips["frames"]),
        "size": str(clips["size"]),
        "rows": f"{checked['rows']:,}",
        "checking_s": f"{checked['checking_s']:.1f} s",
        "checking_processor_s": f"{checked['checking_processor_s']:.1f} s",
        "checking_memory": f"{checked['peak_memory_bytes'] / 1e9:.2f} GB",
        "failed_rows": f"{checked['num_failed_rows']:,}",
        "load": ", ".join(f"{run['load_average']:.1f}" for run in checked["runs"]),
        "few_shards": f"{encoded[0]['shards']:,}",
        "many_shards": f"{encoded[-1]['shards']:,}",
        "many_items": f"{encoded[-1]['items']:,}",
        "few_memory": f"{encoded[0]['peak_memory_bytes'] / 1e6:.0f} MB",
        "many_memory": f"{encoded[-1]['peak_memory_bytes'] / 1e6:.0f} MB",
        "open_shards": str(OPEN_SHARDS),
        "mapped_shards": f"{MAPPED_SHARDS:,}",
        "open_files": str(encoded[-1]["open_files"]),
        "scrape_ms": f"{results['console-metrics']['scrapes']['median_ms']:.0f} ms",
        "scrape_entries": f"{results['console-metrics']['entries']:,}",
        "sqlite_per_s": f"{ledger['sqlite']['filling']['entries_per_s']:,}",
        "postgresql_per_s": f"{ledger['postgresql']['filling']['entries_per_s']:,}",
        "verify_memory": bytes_text(ledger["sqlite"]["verification"]["peak_memory_bytes"]),
        "lineage_events": f"{lineage['counts']['lineage_events']:,}",
        "lineage_bytes": bytes_text(lineage["size_bytes"]),
        "lineage_ms": f"{lineage['questions']['upstream of a picture']['median_ms']:.0f} ms",
        "lineage_slow_s": seconds_text(lineage["questions"]["downstream of a dataset"]["median_ms"] / 1000),
        "lineage_slow_found": f"{lineage['questions']['downstream of a dataset']['found']:,}",
        "alike_100k": seconds_text(pairs_seconds(results, 100_000)),
    }
    for name, number in (("1m", 1_000_000), ("10m", 10_000_000), ("100m", 100_000_000)):
        found |= {
            f"alike_{name}": seconds_text(pairs_seconds(results, number)),
            f"import_{name}": seconds_text(extrapolated("import", "seconds", number)),
            f"encode_{name}": seconds_text(extrapolated("encode: latents", "seconds", number)),
            f"latents_{name}": bytes_text(extrapolated("encode: latents", "stored", number)),
            f"captions_{name}": bytes_text(extrapolated("encode: captions that all differ", "memory", number)),
            f"check_{name}": bytes_text(extrapolated("validate: expectations", "memory", number)),
            f"manifest_{name}": bytes_text(extrapolated("validate: expectations", "stored", number)),
            f"events_{name}": bytes_text(extrapolated("lineage: an event each", "stored", number)),
            f"verify_{name}": seconds_text(extrapolated("ledger: verify an entry each", "seconds", number)),
        }
    return found


def read_all(folder: Path = RESULTS, files: Sequence[str] = _FILES) -> Results:
    """Reads the results that the page is made from.

    Raises:
        BadDataError: One is missing or damaged.
    """
    return {name: read_json(folder / f"{name}.json") for name in files}


def render(results: Results | None = None) -> str:
    """Returns the page."""
    text = _TEXT.read_text(encoding="utf-8")
    for name, value in values(results or read_all()).items():
        text = text.replace(f"{{{name}}}", value)
    return text


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line: the page's path."""
    (path,) = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: _write(Path(path)))


def _write(path: Path) -> None:
    path.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
