"""`groundswell bundle`: evidence that convinces without the platform."""

from pathlib import Path

import click

from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.output import echo_facts, echo_json, format_size, format_time, printable, shown_path, tell_warnings
from groundswell.cli.problem import EXIT_BAD_INPUT, EXIT_INTEGRITY, CommandError, Problem, tell_problem


@click.group(cls=Group, name="bundle")
def command() -> None:
    """Export evidence in one file, and verify such a file."""


@command.command(
    "export",
    examples=(
        "groundswell bundle export groundswell-dit/1 -o evidence.zip",
        "groundswell bundle export pictures/1a2b3c4d-0000.png -o picture.zip",
    ),
)
@click.argument("subject")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The file to write.")
@pass_invocation
def export(invocation: Invocation, subject: str, output: Path) -> None:
    """Write the evidence about SUBJECT to a file: ledger entries with proofs, lineage, report, model card, signed statements.

    SUBJECT is a model (name/version or name@alias), a run's id, a dataset's folder or digest, or a picture that was made
    here. The file is for somebody who has the log's public key from another source: HOME/keys/public/log.pem.
    """
    from infra.bundle import export_bundle
    from infra.lineage_subjects import resolve_subject

    home = invocation.open_home()
    actor = invocation.actor(home)
    media = Path(subject) if Path(subject).is_file() else None
    made = export_bundle(home, resolve_subject(home.database, subject), output.absolute(), actor=actor, media=media)
    tell_warnings(made.missed)
    if invocation.as_json:
        echo_json(
            {
                "file": made.file,
                "subject": made.subject,
                "index": made.index,
                "files": list(made.names),
                "num_entries": made.num_entries,
                "log_size": made.log_size,
                "size_bytes": made.size_bytes,
            }
        )
        return
    click.secho(f"evidence written to {shown_path(made.file)}", fg="green", bold=True)
    echo_facts(
        [
            ("subject", made.subject),
            ("size", f"{format_size(made.size_bytes)}, {len(made.names)} files"),
            ("ledger", f"{made.num_entries:,} entries with proofs, of {made.log_size:,}"),
            ("recorded as", f"entry {made.index:,}"),
        ]
    )
    click.echo(f"\nwhoever has the log's public key verifies it: groundswell bundle verify {shown_path(made.file)} --key log.pem")
    click.echo("or without groundswell, with governance/bundle/verify.py of its source code: python verify.py FILE --key log.pem")


@command.command("verify", examples=("groundswell bundle verify evidence.zip --key log-key-kept-elsewhere.pem",))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="The log's public key, not the copy in the bundle.",
)
@click.option(
    "--file", "media", metavar="FILE", type=click.Path(path_type=Path), help="A picture: is it what the bundle is about?"
)
@pass_invocation
def verify(invocation: Invocation, file: Path, key_file: Path, media: Path | None) -> int:
    """Verify the bundle FILE with the log's public key; no home is needed.

    Each problem is named; the exit code is 4 if there is one.
    """
    from governance.bundle.verify import BundleError, read_bundle, verify_files
    from governance.digest import sha256_file
    from infra.key_pem import read_log_public_key

    read_log_public_key(key_file)
    try:
        verdict = verify_files(read_bundle(file), key_file.read_bytes())
    except BundleError as error:
        hint = "a bundle is what `groundswell bundle export` writes" if error.exit_code == EXIT_BAD_INPUT else ""
        raise CommandError(str(error), hint=hint, exit_code=error.exit_code) from error
    problems = list(verdict.problems)
    if media is not None and verdict.subject != f"media:{sha256_file(media)}":
        problems.append(f"{media} is not what the bundle is about: {verdict.subject}")
    if invocation.as_json:
        facts = {name: value for name, value in verdict._asdict().items() if name != "problems"}
        exit_code = EXIT_INTEGRITY if problems else 0
        echo_json({"ok": not problems, **facts, "problems": problems, "exit_code": exit_code})
    else:
        for problem in problems:
            click.echo(f"{click.style('problem:', fg='red')} {printable(problem)}")
        if not problems:
            click.secho("the bundle verifies", fg="green", bold=True)
            echo_facts(
                [
                    ("subject", verdict.subject),
                    ("exported", format_time(verdict.exported)),
                    ("ledger", f"{verdict.num_entries:,} entries of {verdict.log_size:,}, root {verdict.root_hash}"),
                ]
            )
    if not problems:
        return 0
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    tell_problem(Problem(diagnosis=f"{file} does not verify: {count}", exit_code=EXIT_INTEGRITY), as_json=False)
    return EXIT_INTEGRITY
