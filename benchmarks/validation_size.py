"""What checking a dataset of a million items costs: ``python -m benchmarks.validation_size --rows 1000000``.

Makes a manifest and what was found in the media, as `validate_data` has them after reading, with a known number of faults; checks
them against the shipped suite in processes of their own, from the tables' making to the last page of the Data Docs, and holds
what was found against what was planted. Reading the media and digesting the dataset's files are left out: they are measured where
they are bounded by the machine's disk. Writes ``benchmarks/results/validation-size.json`` and prints one Markdown table.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.command import machine, markdown_table, positive, read_json, run_command, write_json
from benchmarks.measured import RESULTS
from benchmarks.usage import usage_of
from model_core.data.dataset import INFO_NAME, Dataset, DatasetInfo
from model_core.data.facts_table import UNKNOWN, facts_table
from model_core.data.manifest import MANIFEST_NAME, SCHEMA
from model_core.errors import BadDataError

_LABELS = tuple(f"category {number:03d}" for number in range(100))
_ITEMS_A_SHARD = 5_000
_SIDE, _FRAMES, _FPS = 32, 16, 8.0
_CHECK = "--check"
FAULTS = {
    "Digests are SHA-256": 7,
    "Captions hold no control characters": 11,
    "Every item has a caption": 1_000,
    "Every item says under which licence it may be used": 10_000,
    "Every item can be read and decoded": 13,
    "At most one item in a hundred has the same pixels as another of its split": 5_000,
    "No two pictures of a split look the same": 500,
}
"""How many items of a million are made not to meet an expectation."""


def num_faults(num_rows: int) -> dict[str, int]:
    """Returns how many items of a dataset are made not to meet each expectation: at least one."""
    return {name: max(1, number * num_rows // 1_000_000) for name, number in FAULTS.items()}


def write_manifest(folder: Path, num_rows: int) -> None:
    """Writes a dataset's manifest and description, without media; captions, digests and sources all differ."""
    numbers = np.arange(num_rows)
    texts = pa.array(numbers).cast(pa.string())
    rng = np.random.default_rng(0)
    label = pa.array(_LABELS).take(pa.array(rng.integers(0, len(_LABELS), num_rows)))
    holdout = numbers >= num_rows - max(1, num_rows // 10)
    split = pc.if_else(pa.array(holdout), "holdout", "train")
    planted = num_faults(num_rows)
    captions = _join("a clip of the ", label, " on a street in the rain, take ", texts)
    captions = _planted(captions, "a\0b", planted["Captions hold no control characters"], first=0)
    captions = _planted(captions, "", planted["Every item has a caption"], first=100)
    columns = {
        "shard": _join("shards/", split, "-", pa.array(numbers // _ITEMS_A_SHARD).cast(pa.string()), ".tar"),
        "path": _join(texts, "-clip.png"),
        "offset": pa.array(numbers % _ITEMS_A_SHARD * 1024),
        "size_bytes": pa.array(np.full(num_rows, 900)),
        "sha256": _planted(_digests(rng, num_rows), "0" * 63, planted["Digests are SHA-256"], first=0),
        **{name: pa.array(np.full(num_rows, value, dtype=np.int32)) for name, value in _numbers().items()},
        "fps": pa.array(np.full(num_rows, _FPS)),
        "label": label,
        "caption": captions,
        "split": split,
        "licence": _planted(
            pa.array(np.full(num_rows, "CC-BY-SA-4.0")),
            "NOASSERTION",
            planted["Every item says under which licence it may be used"],
            first=0,
        ),
        "source": _join("https://footage.example/archive/", texts),
    }
    pq.write_table(pa.table(columns, schema=SCHEMA), folder / MANIFEST_NAME, compression="zstd")
    info = DatasetInfo(
        name="a million",
        importer="benchmark",
        options={},
        labels=_LABELS,
        licences=("CC-BY-SA-4.0", "NOASSERTION"),
        attribution="",
        image_size=_SIDE,
        num_frames=_FRAMES,
        fps=_FPS,
    )
    (folder / INFO_NAME).write_text(info.to_text(), encoding="utf-8")


def _numbers() -> dict[str, int]:
    return {"width": _SIDE, "height": _SIDE, "frames": _FRAMES}


def _join(*parts: Any) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _digests(rng: np.random.Generator, num_rows: int) -> pa.Array:
    text = rng.bytes(32 * num_rows).hex().encode()
    offsets = np.arange(0, 64 * (num_rows + 1), 64, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(num_rows, pa.py_buffer(offsets), pa.py_buffer(text)).cast(pa.string())


def _planted(values: pa.Array, fault: str, number: int, *, first: int) -> pa.Array:
    return pc.if_else(pa.array(_chosen(len(values), number, first=first)), fault, values)


def _chosen(num_rows: int, number: int, *, first: int) -> np.ndarray:
    """Returns which of the items are faulty, spread evenly over the dataset, bool [n]."""
    chosen = np.zeros(num_rows, dtype=bool)
    chosen[(np.arange(number) * (num_rows // number) + first) % num_rows] = True
    return chosen


def found_in_media(dataset: Dataset) -> pa.Table:
    """Returns what reading the media would have found, with the faults that are planted there."""
    num_rows, planted = len(dataset), num_faults(len(dataset))
    broken = _chosen(num_rows, planted["Every item can be read and decoded"], first=0)
    known = np.where(broken, UNKNOWN, 1).astype(np.int8)
    equal = _chosen(num_rows, planted["At most one item in a hundred has the same pixels as another of its split"], first=0)
    similar = np.flatnonzero(_chosen(num_rows, planted["No two pictures of a split look the same"], first=0))
    return facts_table(
        dataset,
        problems=dict.fromkeys(np.flatnonzero(broken).tolist(), "the picture is cut short"),
        digest_matches=known,
        size_matches=known,
        duplicate_of=np.where(equal, 0, UNKNOWN),
        leaks=np.full(num_rows, UNKNOWN),
        nearest={"nearest": dict.fromkeys(similar.tolist(), (0, 2.5))},
    )


def check(folder: Path) -> dict[str, Any]:
    """Checks a dataset as `validate_data` does after reading; returns seconds of each part, and what was found."""
    seconds = {}
    began = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal began
        now = time.perf_counter()
        seconds[name], began = round(now - began, 3), now

    from components.validate_data.data_docs import make_readable_offline, write_index
    from components.validate_data.expectations import run_suite
    from components.validate_data.failed_rows import write_failed_rows
    from components.validate_data.step import report_of
    from components.validate_data.suite import default_suite_text, parse_suite
    from components.validate_data.tables import statistics_of, tables_of

    lap("import")
    processor = time.process_time()
    dataset = Dataset.open(folder)
    lap("open")
    facts = found_in_media(dataset)
    lap("facts")
    tables = tables_of(dataset, facts)
    lap("tables")
    suite = parse_suite(default_suite_text())
    docs = folder / "docs"
    outcomes = run_suite(suite, tables, {"labels": [*dataset.labels, ""], "image_size": dataset.info.image_size}, docs)
    lap("suite")
    shown = write_failed_rows(folder / "failed_rows.csv", outcomes, tables)
    lap("failed_rows")
    statistics = statistics_of(dataset, facts, compared=True)
    report = report_of(dataset, suite, outcomes, statistics, dataset_digest="0" * 64)
    lap("statistics")
    write_index(docs, report, shown)
    make_readable_offline(docs)
    lap("pages")
    found = {outcome.entry.meaning: outcome.num_failed for outcome in outcomes if outcome.num_failed}
    return {
        "seconds": seconds,
        "processor_s": round(time.process_time() - processor, 3),
        "num_failed_rows": shown.num_rows,
        "found": found,
    }


def measure(folder: Path, num_rows: int) -> dict[str, Any]:
    """Checks the dataset in a process of its own.

    Raises:
        BadDataError: The process failed, or what was found is not what was planted.
    """
    output = folder / "checked.json"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.validation_size", _CHECK, str(folder)]
    usage = usage_of(command, output, what="checking")
    checked = read_json(output)
    planted = num_faults(num_rows)
    if checked["found"] != planted:
        raise BadDataError(f"planted were {planted}, found {checked['found']}")
    parts = {name: value for name, value in checked["seconds"].items() if name not in {"import", "facts"}}
    return {
        "seconds": checked["seconds"],
        "checking_s": round(sum(parts.values()), 3),
        "checking_processor_s": checked["processor_s"],
        "process_s": round(usage["wall_s"], 3),
        "process_processor_s": round(usage["processor_s"], 3),
        "peak_memory_bytes": usage["peak_memory_bytes"],
        "num_failed_rows": checked["num_failed_rows"],
        "load_average": round(os.getloadavg()[0], 2),
    }


def table(document: Mapping[str, Any]) -> str:
    """Returns the figures as a Markdown table."""
    rows = [
        ("items", f"{document['rows']:,}"),
        ("rows that fail an expectation", f"{document['num_failed_rows']:,}"),
        ("seconds to check, median", f"{document['checking_s']:.1f}"),
        ("processor seconds", f"{document['checking_processor_s']:.1f}"),
        ("peak memory", f"{document['peak_memory_bytes'] / 1e9:.2f} GB"),
    ]
    return markdown_table(["", "this machine"], [list(row) for row in rows])


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.validation_size", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=positive, default=1_000_000, help="items of the dataset (%(default)s)")
    parser.add_argument("--turns", type=positive, default=3, help="how often it is checked (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS / "validation-size.json", help="where the figures go (%(default)s)")
    parser.add_argument(_CHECK, type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Measures, writes the figures and prints the table; as the process that is measured, prints what it took."""
    if options.check is not None:
        print(json.dumps(check(options.check)))
        return
    with tempfile.TemporaryDirectory(prefix="groundswell-validation-") as folder:
        write_manifest(Path(folder), options.rows)
        manifest_bytes = (Path(folder) / MANIFEST_NAME).stat().st_size
        runs = [measure(Path(folder), options.rows) for _ in range(options.turns)]
    medians = {name: median(run[name] for run in runs) for name in ("checking_s", "checking_processor_s", "peak_memory_bytes")}
    document = {
        "machine": machine(),
        "rows": options.rows,
        "manifest_bytes": manifest_bytes,
        "faults": num_faults(options.rows),
        "num_failed_rows": runs[0]["num_failed_rows"],
        **medians,
        "runs": runs,
    }
    write_json(options.json, document)
    print(table(document))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
