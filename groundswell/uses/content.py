"""Automated content: a catalogue becomes clips, night by night; what has not changed is not made again."""

import csv
import hashlib
import sys
from pathlib import Path

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.problem import CommandError
from groundswell.uses.command import OUT, TABLE, read_table, run, tell
from groundswell.uses.figure import share

_COLUMNS = ("sku", "item", "background", "motion")
_TEMPLATE = "{article} {item} {motion} on a {background} background"


@click.command(
    cls=Command,
    examples=("python -m groundswell.uses.content moving-openmoji-dit@production docs/guides/content/catalogue.csv --out shop",),
)
@click.argument("model")
@click.argument("catalogue", type=TABLE)
@click.option(
    "--template", metavar="TEXT", default=_TEMPLATE, show_default=True, help="The prompt; {article} is a or an, as the item asks."
)
@OUT
@pass_invocation
def command(invocation: Invocation, model: str, catalogue: Path, template: str, out: Path) -> int:
    """Make a clip of each item of CATALOGUE; run it every night, with the same OUT.

    CATALOGUE is a CSV table with the columns sku, item, background and motion. The seed follows from the sku, so that a row keeps
    its clip wherever it stands. Rows that are as they were, and whose file is whole, are not made again. Every file is verified
    each night: where one fails, the exit code is 5; 3 and 5 stand also for rows that cannot be made or are refused.
    """
    from groundswell.uses.making import How, is_verified, make
    from infra.model_versions import find_version

    rows = [
        {"request_id": row["sku"], "prompt": prompt_of(template, row), "seed": seed_of(row["sku"])}
        for row in read_table(catalogue, _COLUMNS)
    ]
    home = invocation.open_home()
    before, version = _runs(out), find_version(home.database, model)
    made = make(home, rows, How(model=f"{version.name}/{version.version}"), out, actor=invocation.actor(home))
    num_reused = sum(bool(one.run_id) and one.run_id == before.get(one.request_id) for one in made.results)
    figure = share("files that verify", [is_verified(home, path) for path in made.files.values()])
    facts = [
        ("rows", len(rows)),
        ("made", len(made.files) - num_reused),
        ("reused", num_reused),
        ("refused", made.refused),
        ("results", out / "results.csv"),
    ]
    return tell(invocation, [figure], facts=facts, results=made.exit_code)


def prompt_of(template: str, row: dict[str, str]) -> str:
    """Returns the prompt of a row.

    Raises:
        CommandError: The template names a column that is not known.
    """
    article = "an" if row["item"][:1].lower() in "aeiou" else "a"
    try:
        return template.format_map({**row, "article": article})
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise CommandError(f"the template cannot be filled: {error}", hint=f"names: article, {', '.join(_COLUMNS)}") from error


def seed_of(sku: str) -> int:
    """Returns the seed of an item, whatever stands around it."""
    return int.from_bytes(hashlib.sha256(sku.encode()).digest()[:4])


def _runs(out: Path) -> dict[str, str]:
    """Returns the runs of last night, by request."""
    try:
        with (out / "results.csv").open(encoding="utf-8", newline="") as file:
            return {row["request_id"]: row["run_id"] for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError):
        return {}


if __name__ == "__main__":
    sys.exit(run(command, "content"))
