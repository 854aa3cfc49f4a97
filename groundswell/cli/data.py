"""`groundswell data`: building, checking and looking at datasets, and withdrawing items of them."""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.live import run_display, task_progress
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_size, heading, shorten, shown_path, write_whole
from groundswell.cli.problem import CommandError, Problem, tell_problem
from groundswell.cli.withdraw import withdraw
from groundswell.cli.withdrawn import print_withdrawn_rows, withdrawn_rows

if TYPE_CHECKING:
    from groundswell.cli.validating import ValidationOutcome
    from model_core.data.dataset import Dataset

_MAX_SHOWN_ROWS = 20


@click.group(cls=Group, name="data")
def command() -> None:
    """Build, check and look at datasets; withdraw items of them."""


@command.command(
    "import",
    examples=(
        "groundswell data import openmoji --out data/openmoji --size 32 --categories flags,faces,food,animals",
        "groundswell data import moving-openmoji --out data/moving --categories food,animals --frames 16",
        "groundswell data import fashion-mnist:idx-files --out data/fashion",
        "groundswell data import my-pictures --out data/mine --size 64",
    ),
)
@click.argument("source")
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The dataset's folder, to be made.")
@click.option("--size", metavar="N", type=int, default=32, show_default=True, help="Width and height, in pixels.")
@click.option("--categories", metavar="A,B", help="Take only these categories.  [default: all]")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Take at most so many items, spread evenly.")
@click.option("--frames", metavar="N", type=click.IntRange(min=2), help="Frames of each clip.  [default: the source's own]")
@click.option("--fps", metavar="X", type=float, help="Frames a second of clips.  [default: the source's own]")
@click.option("--graphics", metavar="A,B", help="Set only these graphics of moving-openmoji in motion.  [default: all]")
@click.option("--takes", metavar="N", type=click.IntRange(min=1), help="Clips of each graphic in each motion.  [default: 1]")
@pass_invocation
def import_(
    invocation: Invocation,
    source: str,
    out: Path,
    size: int,
    categories: str | None,
    limit: int | None,
    frames: int | None,
    fps: float | None,
    graphics: str | None,
    takes: int | None,
) -> None:
    """Build a dataset from SOURCE and record it in the home.

    SOURCE is openmoji, moving-openmoji (clips of OpenMoji's graphics in motion), fashion-mnist:FOLDER (IDX files), or a folder
    with pictures and a metadata.jsonl. An interrupted
    import goes on where it stopped when it is started again with the same arguments. Items that were withdrawn (see
    `groundswell data withdraw`) are left out.
    """
    from infra.withdrawals import withdrawn_items
    from model_core.data.importing import import_dataset
    from pipelines.datasets import record_dataset

    home = invocation.open_home(create=True)
    actor = invocation.actor(home)
    with home.database.read() as connection:
        withheld = withdrawn_items(connection)
    with task_progress("importing") as progress:
        import_dataset(
            source,
            out,
            size=size,
            categories=_names(categories),
            limit=limit,
            frames=frames,
            fps=fps,
            graphics=_names(graphics),
            takes=takes,
            withheld=withheld,
            progress=progress,
        )
    record_dataset(home, out.absolute(), actor=actor)
    _tell_dataset(invocation, out, {})


def _names(given: str | None) -> list[str] | None:
    return [name.strip() for name in given.split(",") if name.strip()] if given else None


@command.command("validate", examples=("groundswell data validate data/openmoji",))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--suite", metavar="FILE", type=click.Path(path_type=Path), help="A suite of expectations (YAML) in place of the project's."
)
@pass_invocation
def validate(invocation: Invocation, folder: Path, suite: Path | None) -> int:
    """Check the dataset in DIR with the project's suite of expectations, and name the rows that fail.

    The manifest and the media themselves are checked: decodable, of the right size, digest as in the manifest, no duplicates, no
    leakage between train and holdout, balanced labels, no empty captions.
    """
    from groundswell.cli.validating import validate_dataset

    home = invocation.open_home(create=True)
    actor = invocation.actor(home)
    with run_display(keep=invocation.as_json or not sys.stdout.isatty()) as display:
        outcome = validate_dataset(home, folder.absolute(), suite=suite, actor=actor, on_view=display)
    if invocation.as_json:
        echo_json(
            {
                "success": outcome.error is None,
                "run_id": outcome.run_id,
                "reused": outcome.reused,
                "summary": outcome.summary,
                "report": outcome.report,
                "data_docs": outcome.data_docs,
                "failed_rows": list(outcome.failed_rows),
                "error": outcome.error.diagnosis if outcome.error else None,
                "hint": outcome.error.hint if outcome.error else "",
                "exit_code": outcome.error.exit_code if outcome.error else 0,
            }
        )
    else:
        _print_validation(outcome)
    if outcome.error is None:
        return 0
    tell_problem(
        Problem(diagnosis=outcome.error.diagnosis, hint=outcome.error.hint, exit_code=outcome.error.exit_code), as_json=False
    )
    return outcome.error.exit_code


def _print_validation(outcome: "ValidationOutcome") -> None:
    if outcome.error is None:
        text = "valid, as found before: the check was verified and reused" if outcome.reused else "valid"
        click.secho(text, fg="green", bold=True)
    facts = [
        ("summary", outcome.summary),
        ("report", shown_path(outcome.report)),
        ("data docs", shown_path(outcome.data_docs) if outcome.data_docs else None),
        ("run", outcome.run_id),
    ]
    echo_facts(facts)
    failing = [row for row in outcome.failed_rows if row.get("tolerated") != "yes"]
    if failing:
        heading("Rows that fail")
        columns = ("severity", "row", "path", "expectation", "value")
        rows = [[shorten(row.get(column, "")) for column in columns] for row in failing[:_MAX_SHOWN_ROWS]]
        echo_table(columns, rows, indent="  ", right=(1,))
        left = len(failing) - _MAX_SHOWN_ROWS
        if left > 0:
            click.echo(f"  ... and {left:,} more, in the report's failed_rows.csv")


@command.command("show", examples=("groundswell data show data/openmoji -o openmoji.png",))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="The PNG to write.  [default: DIR-contact-sheet.png]"
)
@click.option("--split", type=click.Choice(["train", "holdout"]), help="Show this split only.")
@pass_invocation
def show(invocation: Invocation, folder: Path, output: Path | None, split: str | None) -> None:
    """Write a contact sheet of the dataset in DIR, and print what is in it, and what of it was withdrawn."""
    from model_core.data.contact_sheet import write_contact_sheet
    from model_core.data.dataset import Dataset

    sheet = output or folder.absolute().parent / f"{folder.absolute().name}-contact-sheet.png"
    if folder.resolve() in sheet.resolve().parents:
        raise CommandError(
            f"{sheet} lies in the dataset, whose digest it would change", hint="name a file outside the dataset with -o"
        )
    write_contact_sheet(Dataset.open(folder), sheet, split=split)
    _tell_dataset(invocation, folder, {"contact_sheet": sheet.absolute()})


@command.command(
    "card", examples=("groundswell data card data/openmoji -o DATA_CARD.md", "groundswell data card groundswell-dit/1")
)
@click.argument("subject")
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="The file to write.  [default: standard output]"
)
@pass_invocation
def card(invocation: Invocation, subject: str, output: Path | None) -> None:
    """Write the data card of SUBJECT: which data are behind it, whose they are, and on which terms.

    SUBJECT is a dataset's folder or digest, a model (name/version or name@alias), a run's id, or a picture that was made here.
    The card says what is on record, and `unknown` where nothing is.
    """
    from governance.data_card import data_card
    from infra.lineage_report import build_report
    from infra.lineage_subjects import resolve_subject

    home = invocation.open_home()
    report = build_report(home.database, resolve_subject(home.database, subject), home=home.path)
    text = data_card(report)
    if output is not None:
        write_whole(output, text)
    if invocation.as_json:
        datasets = [source.subject for source in report.data]
        echo_json({"subject": report.subject, "datasets": datasets, "file": output.absolute() if output else None, "card": text})
    elif output is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"data card of {report.subject} written to {shown_path(output.absolute())}")


command.add_command(withdraw)


def _tell_dataset(invocation: Invocation, folder: Path, extra: dict[str, Path]) -> None:
    from components.store import artifact_digest
    from model_core.data.dataset import Dataset

    dataset = Dataset.open(folder)
    withdrawn = withdrawn_rows(invocation, dataset)
    document = {
        **describe_dataset(dataset),
        "digest": artifact_digest("dataset", folder),
        "folder": folder.absolute(),
        "withdrawn": withdrawn,
        **extra,
    }
    if invocation.as_json:
        echo_json(document)
        return
    echo_facts(
        [
            ("dataset", document["name"]),
            ("folder", shown_path(folder.absolute())),
            ("digest", document["digest"]),
            ("items", f"{document['num_items']:,} ({document['num_train']:,} train, {document['num_holdout']:,} holdout)"),
            (
                "pictures" if document["num_frames"] == 1 else "clips",
                (
                    f"{_length(document)}{document['image_size']}x{document['image_size']} pixels, "
                    f"{format_size(document['size_bytes'])} in all"
                ),
            ),
            ("withdrawn", "not looked up: there is no home here" if withdrawn is None else f"{len(withdrawn):,}"),
            ("left out", f"{left_out:,} withdrawn" if (left_out := document["num_withdrawn_left_out"]) else None),
            ("captions", f"{document['num_captions']:,} different"),
            ("licences", ", ".join(document["licences"])),
            ("attribution", document["attribution"]),
            *[(name.replace("_", " "), shown_path(path)) for name, path in extra.items()],
        ]
    )
    print_withdrawn_rows(withdrawn or [])
    if document["labels"]:
        heading("Labels")
        rows = [(label, f"{count['train']:,}", f"{count['holdout']:,}") for label, count in document["labels"].items()]
        echo_table(("label", "train", "holdout"), rows, right=(1, 2), indent="  ")


def _length(document: Mapping[str, Any]) -> str:
    """Returns how long clips are; nothing of pictures."""
    return "" if document["num_frames"] == 1 else f"{document['num_frames']} frames at {document['fps']:g} a second, "


def describe_dataset(dataset: "Dataset") -> dict[str, Any]:
    """Returns the figures of a dataset."""
    from model_core.data.importing import WITHHELD_OPTION

    columns = dataset.columns
    counts = Counter(zip(columns["label"], columns["split"], strict=True))
    return {
        "name": dataset.info.name,
        "importer": dataset.info.importer,
        "num_items": len(dataset),
        "num_train": len(dataset.rows("train")),
        "num_holdout": len(dataset.rows("holdout")),
        "num_withdrawn_left_out": dataset.info.options.get(WITHHELD_OPTION, 0),
        "num_captions": len({caption for caption in columns["caption"] if caption}),
        "num_without_caption": sum(not caption for caption in columns["caption"]),
        "labels": {label: {"train": counts[label, "train"], "holdout": counts[label, "holdout"]} for label in dataset.labels},
        "image_size": dataset.info.image_size,
        "num_frames": dataset.info.num_frames,
        "fps": dataset.info.fps,
        "size_bytes": sum(columns["size_bytes"]),
        "licences": list(dataset.info.licences),
        "attribution": dataset.info.attribution,
    }
