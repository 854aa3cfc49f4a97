"""`groundswell lineage`: where something came from."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import CommandWithVerbs, Invocation, pass_invocation
from groundswell.cli.lineage_diff import diff
from groundswell.cli.lineage_import import import_
from groundswell.cli.output import echo_facts, echo_json, heading, printable, shown_path, write_whole
from groundswell.cli.problem import EXIT_INTEGRITY, Problem, tell_problem

if TYPE_CHECKING:
    from governance.lineage_report.model import ReportContent

_STDOUT = Path("-")
_NAME_CHARACTERS = 80


@click.command(
    cls=CommandWithVerbs,
    verbs=(diff, import_),
    name="lineage",
    examples=(
        "groundswell lineage groundswell-dit/1",
        "groundswell lineage pictures/1a2b3c4d-0000.png -o report.html",
        "groundswell lineage groundswell-dit/1 --format openlineage -o events.ndjson",
    ),
)
@click.argument("subject")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "json", "openlineage"]),
    default="html",
    show_default=True,
    help="A page for people, the same content as JSON, or OpenLineage events, one a line.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The file to write, - for standard output.  [default: a page goes to HOME/reports, the others to standard output]",
)
@pass_invocation
def command(invocation: Invocation, subject: str, form: str, output: Path | None) -> int:
    """Show where SUBJECT came from, and what was made from it.

    SUBJECT is a model (name/version or name@alias), a run's id, a dataset's folder or digest, or a picture that was made
    here. The page needs nothing but itself: it can be mailed or archived. The exit code is 4 if the ledger behind it does
    not verify.
    """
    from infra.lineage_report import build_report
    from infra.lineage_subjects import resolve_subject

    home = invocation.open_home()
    media = Path(subject) if Path(subject).is_file() else None
    content = build_report(home.database, resolve_subject(home.database, subject), home=home.path, media=media)
    if output is None:
        output = home.reports / f"{_file_name(content.subject)}.html" if form == "html" else _STDOUT
    if output != _STDOUT:
        write_whole(output, _render(content, form))
    if invocation.as_json:
        echo_json(_document(content, form, output))
    elif output == _STDOUT:
        click.echo(_render(content, form), nl=False)
    else:
        _print_summary(content, output)
    if content.ledger.state != "failed":
        return 0
    problem = Problem(diagnosis=content.ledger.message, hint="`groundswell audit verify` says more", exit_code=EXIT_INTEGRITY)
    tell_problem(problem, as_json=False)
    return EXIT_INTEGRITY


def _render(content: "ReportContent", form: str) -> str:
    if form == "html":
        from governance.lineage_report.html import render_html

        return render_html(content)
    from governance.lineage_report.model import to_json, to_openlineage

    if form == "json":
        return f"{json.dumps(to_json(content), indent=2, sort_keys=True)}\n"
    return "".join(f"{json.dumps(event, sort_keys=True)}\n" for event in to_openlineage(content))


def _document(content: "ReportContent", form: str, output: Path) -> dict[str, Any]:
    if output == _STDOUT and form != "html":
        from governance.lineage_report.model import to_json, to_openlineage

        return to_json(content) if form == "json" else {"subject": content.subject, "events": to_openlineage(content)}
    return {
        "subject": content.subject,
        "title": content.title,
        "summary": _sentences(content),
        "ledger": {"state": content.ledger.state, "size": content.ledger.size, "root_hash": content.ledger.root_hash},
        "open_questions": list(content.open_questions),
        "format": form,
        "file": None if output == _STDOUT else output.absolute(),
    }


def _print_summary(content: "ReportContent", output: Path) -> None:
    click.secho(printable(content.title), bold=True)
    for sentence in _sentences(content):
        click.echo(click.wrap_text(printable(sentence), width=80, initial_indent="  ", subsequent_indent="  "))
    if content.open_questions:
        heading("Not recorded")
        for question in content.open_questions:
            click.echo(click.wrap_text(printable(question), width=80, initial_indent="  - ", subsequent_indent="    "))
    click.echo()
    echo_facts([("subject", content.subject), ("ledger", content.ledger.message), ("written to", shown_path(output.absolute()))])


def _sentences(content: "ReportContent") -> list[str]:
    return ["".join(phrase.text for phrase in sentence) for sentence in content.summary]


def _file_name(subject: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", subject)[:_NAME_CHARACTERS].strip("-.")
