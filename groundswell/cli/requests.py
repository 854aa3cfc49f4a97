"""`groundswell generate --requests FILE.csv`: a table of requests, each on record, joined back by request_id."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from groundswell.cli.context import Invocation
from groundswell.cli.live import task_progress
from groundswell.cli.output import echo_facts, echo_json, echo_table, heading, shown_path, tell_warnings
from groundswell.cli.withdrawn import warn_of_source

if TYPE_CHECKING:
    from infra.home import Home
    from pipelines.generation import GenerateRequest

_SHOWN = 20


def make_requests(invocation: Invocation, home: "Home", template: "GenerateRequest", table: Path, *, actor: str) -> int:
    """Makes what a table asks for, and tells what came of it.

    Args:
        invocation: How the command was called.
        home: The home.
        template: The model, the folder, and what holds for rows that do not say otherwise.
        table: The CSV file.
        actor: The identity that asks.

    Returns:
        3 where a row cannot be made, 5 where one was refused, otherwise 0.
    """
    from components.collect_results.results import MADE, RESULTS_NAME, SHEET_NAME, exit_code_of
    from components.validate_requests.table import read_requests
    from pipelines.batch import run_batch

    with task_progress("requests") as progress:
        progress(0, 1, "checking the table")
        rows, bad = read_requests(table)
        tell_warnings([f"row {row.line} ({row.request_id or 'no request_id'}): {'; '.join(row.problems)}" for row in bad])
        results = run_batch(home, template, rows, bad, actor=actor, sources=table.parent, progress=progress)
    for source in sorted({one.source_sha256 for one in results if one.source_sha256}):
        warn_of_source(home, source, program=invocation.program)
    results_file, sheet = template.out / RESULTS_NAME, template.out / SHEET_NAME
    code = exit_code_of({one.status for one in results})
    if invocation.as_json:
        document = {"results": [asdict(one) for one in results], "table": results_file.absolute(), "exit_code": code}
        echo_json(document | ({"sheet": sheet.absolute()} if sheet.is_file() else {}))
        return code
    counts = Counter(one.status for one in results)
    click.secho(f"{counts[MADE]:,} of {len(results):,} requests made", fg="green" if code == 0 else "yellow", bold=True)
    echo_facts(
        [
            ("results", shown_path(results_file.absolute())),
            ("contact sheet", shown_path(sheet.absolute()) if sheet.is_file() else None),
        ]
    )
    if missing := [one for one in results if one.status != MADE]:
        heading("Not made")
        echo_table(("request", "", "why"), [(one.request_id, one.status, one.reason) for one in missing[:_SHOWN]], indent="  ")
        if len(missing) > _SHOWN:
            click.echo(f"  ... and {len(missing) - _SHOWN:,} more, in {RESULTS_NAME}")
    return code
