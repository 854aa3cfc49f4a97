"""Joins what the parts of a table became back to the table, by request_id, and shows it on one sheet."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from components.collect_results.config import Config
from components.collect_results.results import BAD, MADE, REFUSED, Result, write_results, write_sheet
from components.generate_batch.step import RESULTS_NAME as PART_NAME
from components.ports import Ports, StepReport
from components.validate_requests.plan import read_plan
from governance.digest import sha256_file
from governance.errors import IntegrityError

_HINT = "run the same command again: what was changed is made anew"


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:  # noqa: ARG001 - a step's signature
    """Joins the results.

    Args:
        config: Nothing.
        inputs: ``plan``, what was to be made; ``made-0000`` and so on, what each part became.
        outputs: ``results``: results.csv, a row for each of the table's in its order; contact-sheet.png.
        ports: Where progress goes.

    Raises:
        IntegrityError: A request has no result, or two, or its file is not the one of its result.
    """
    plan = read_plan(inputs["plan"])
    found, folders = _results({name: path for name, path in inputs.items() if name != "plan"}, ports)
    planned = [row.request_id for row in plan.rows]
    if sorted(planned) != sorted(found):
        odd = sorted({*planned} ^ {*found})
        raise IntegrityError(f"{len(odd):,} requests and results do not match, {odd[0]} among them", hint=_HINT)
    by_line = {row.line: found[row.request_id] for row in plan.rows}
    by_line |= {
        row.line: Result(request_id=row.request_id, segment=row.segment, status=BAD, reason="; ".join(row.problems))
        for row in plan.bad
    }
    results = [by_line[line] for line in sorted(by_line)]
    write_results(outputs["results"], results)
    write_sheet(outputs["results"], results, folders)
    counts = Counter(one.status for one in results)
    return StepReport(
        metrics={f"num_{status}": float(counts[status]) for status in (MADE, BAD, REFUSED)},
        summary=f"{counts[MADE]:,} of {len(results):,} requests made",
        facts={f"num_{status}": counts[status] for status in (MADE, BAD, REFUSED)},
    )


def _results(parts: Mapping[str, Path], ports: Ports) -> tuple[dict[str, Result], dict[str, Path]]:
    """Returns the results of all parts by request, and the folder of each; every file is held against its result."""
    found: dict[str, Result] = {}
    folders: dict[str, Path] = {}
    for number, (_, folder) in enumerate(sorted(parts.items())):
        ports.progress.update(number, len(parts), "joining")
        for values in json.loads((folder / PART_NAME).read_text(encoding="utf-8")):
            result = Result(**values)
            if result.request_id in found:
                raise IntegrityError(f"request {result.request_id} has two results", hint=_HINT)
            if result.file and sha256_file(folder / result.file) != result.sha256:
                raise IntegrityError(f"the file of request {result.request_id} is not the one of its result", hint=_HINT)
            found[result.request_id], folders[result.request_id] = result, folder
    return found, folders
