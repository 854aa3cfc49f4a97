"""Checks a table of requests row by row, and divides the rows that can be made into parts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from components.ports import Ports, StepReport
from components.validate_requests.config import Config
from components.validate_requests.plan import PLAN_NAME
from components.validate_requests.table import BadRow, Row, read_requests
from governance.digest import tree_digest

TABLE_NAME: Final = "requests.csv"


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Checks every row of a table.

    Args:
        config: How many rows a part has.
        inputs: ``table``: a folder with requests.csv and the files that rows are made from.
        outputs: ``plan``: plan.json, which says by number and request_id which rows are made in which part, and which cannot be
            made and why. Nothing of a prompt is in it.
        ports: Where progress goes.

    Raises:
        BadDataError: The file is no table of requests.
    """
    ports.progress.update(0, 1, "checking the table")
    rows, bad = read_requests(inputs["table"] / TABLE_NAME)
    plan = _plan(rows, bad, config, table_digest=tree_digest(inputs["table"]))
    (outputs["plan"] / PLAN_NAME).write_text(json.dumps(plan, indent=1), encoding="utf-8")
    num_shards = len(plan["shards"])
    noun = "part" if num_shards == 1 else "parts"
    return StepReport(
        metrics={"num_requests": float(len(rows) + len(bad)), "num_bad_rows": float(len(bad))},
        summary=f"{len(rows):,} of {len(rows) + len(bad):,} rows can be made, in {num_shards:,} {noun}",
        facts={"num_requests": len(rows) + len(bad), "num_bad": len(bad), "num_shards": num_shards},
    )


def _plan(rows: Sequence[Row], bad: Sequence[BadRow], config: Config, *, table_digest: str) -> dict[str, Any]:
    shards: dict[int, list[int]] = {}
    for row in rows:
        shards.setdefault((row.line - 1) // config.shard_size, []).append(row.line)
    return {
        "table_digest": table_digest,
        "shards": {str(number): lines for number, lines in sorted(shards.items())} or {"0": []},
        "rows": [{"line": row.line, "request_id": row.request_id, "segment": row.segment} for row in rows],
        "bad": [asdict(row) for row in bad],
    }
