"""`groundswell models diff`: two models side by side, in the terminal or on a page of their own."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from groundswell.cli.comparing import show_value
from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.lineage_diff import print_lineage
from groundswell.cli.output import (
    echo_facts,
    echo_json,
    echo_table,
    format_number,
    heading,
    printable,
    shorten,
    shown_path,
    write_whole,
)

if TYPE_CHECKING:
    from governance.model_diff.model import MetricPair, ModelDiff
    from governance.model_records import Figure

_STDOUT = Path("-")
_DIGEST_CHARACTERS = 12
_TOLD_ELSEWHERE = ("evaluation", "made on the way")


@click.command(
    cls=Command,
    name="diff",
    examples=(
        "groundswell models diff groundswell-dit/1 groundswell-dit/2",
        "groundswell models diff groundswell-dit@production groundswell-dit/7 --format html -o diff.html",
    ),
)
@click.argument("first", metavar="MODEL")
@click.argument("second", metavar="MODEL")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "html"]),
    help="Text for the terminal, or a page for people.  [default: html where -o is given, else text]",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The page to write, - for standard output.  [default: in HOME/reports]",
)
@pass_invocation
def diff(invocation: Invocation, first: str, second: str, form: Literal["text", "html"] | None, output: Path | None) -> None:
    """Compare two models: figures, what they draw, what they were made from, configuration.

    Changes are of the second model as against the first. Where both were evaluated on the same holdout, a difference of
    figures has a 95 % interval of its own, from the same descriptions weighed alike for both; it is narrower than the two
    models' intervals suggest. The page shows the sample grids side by side, and needs nothing but itself. Both packages are
    verified first.
    """
    from infra.model_diff import diff_models
    from infra.model_versions import find_version

    if form == "text" and output is not None:
        raise click.UsageError("-o writes a page: use it with --format html")
    home = invocation.open_home()
    versions = [find_version(home.database, model) for model in (first, second)]
    found = diff_models(home, *versions)
    if form == "html" and output is None:
        output = home.reports / f"{_file_name(found)}.html"
    if output is not None and output != _STDOUT:
        write_whole(output, _page(found))
    if invocation.as_json:
        from governance.model_diff.model import to_json

        written = output.absolute() if output is not None and output != _STDOUT else None
        echo_json({**to_json(found), "file": written})
    elif output is None:
        _print(found)
    elif output == _STDOUT:
        click.echo(_page(found), nl=False)
    else:
        _print_summary(found, output)


def _page(found: "ModelDiff") -> str:
    from governance.model_diff.html import render_html

    return render_html(found)


def _print_summary(found: "ModelDiff", output: Path) -> None:
    from governance.model_diff.words import headline, sentences

    click.secho(printable(headline(found)), bold=True)
    for sentence in sentences(found):
        click.echo(click.wrap_text(printable(sentence), width=80, initial_indent="  ", subsequent_indent="  "))
    click.echo()
    echo_facts([("written to", shown_path(output.absolute()))])


def _file_name(found: "ModelDiff") -> str:
    return "-and-".join("".join(c if c.isalnum() or c in "._-" else "-" for c in side.name)[:80] for side in found.sides)


def _print(found: "ModelDiff") -> None:
    from governance.model_diff.words import headline

    names = [side.name for side in found.sides]
    click.secho(printable(headline(found)), bold=True)
    if found.same_package:
        click.echo("both are the same package, byte for byte")
    heading("Metrics")
    rows = [row for pair in found.metrics for row in _metric_rows(pair)]
    echo_table(("metric", *names, "change", "95% interval", ""), rows, right=(3,), indent="  ")
    for reason in dict.fromkeys(pair.why_not for pair in found.metrics if pair.why_not):
        click.echo(f"  no interval of the change: {printable(reason)}")
    heading("Configuration that differs")
    if found.config:
        cells = [(one.name, shorten(show_value(one.first)), shorten(show_value(one.second))) for one in found.config]
        echo_table(("key", *names), cells, indent="  ")
    else:
        click.echo("  none")
    heading("Made from")
    inputs = [(one.name, _digest(one.first), _digest(one.second), "" if one.differs else "same") for one in found.inputs]
    echo_table(("input", *names, ""), inputs, indent="  ")
    print_lineage(found.lineage, without=_TOLD_ELSEWHERE)
    if found.pictures:
        heading("Pictures")
        pictures = [
            (
                pair.name,
                *(_digest(one.sha256 if one else None) for one in (pair.first, pair.second)),
                "same" if pair.is_same else "",
            )
            for pair in found.pictures
        ]
        echo_table(("picture", *names, ""), pictures, indent="  ")
        doubt = "" if found.same_holdout else "; the samples are not known to be drawn for the same descriptions"
        click.echo(f"  side by side with --format html{doubt}")


def _digest(digest: Any) -> str:
    return str(digest)[:_DIGEST_CHARACTERS] if digest else "-"


def _metric_rows(pair: "MetricPair") -> list[tuple[str, ...]]:
    """Returns a metric's row, and a row for each figure that it is to be compared with."""
    from governance.model_diff.difference_svg import signed, verdict_text

    change = pair.change
    found = pair.difference
    row = (
        pair.name,
        _shown(pair.first),
        _shown(pair.second),
        "" if not change else signed(change),
        f"{signed(found.low)} to {signed(found.high)}" if found else "",
        verdict_text(found) if found else "",
    )
    sides = [one.references if one else {} for one in (pair.first, pair.second)]
    parts = dict.fromkeys(part for side in sides for part in side)
    cells = [(f"{pair.name}_{part}", *(format_number(side[part]) if part in side else "-" for side in sides)) for part in parts]
    return [row, *((*cell, "", "", "") for cell in cells)]


def _shown(figure: "Figure | None") -> str:
    if figure is None:
        return "-"
    if figure.low is None or figure.high is None:
        return format_number(figure.value)
    return f"{format_number(figure.value)} ({format_number(figure.low)} to {format_number(figure.high)})"
