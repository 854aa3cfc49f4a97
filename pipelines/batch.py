"""Makes every request of a table, one run each, and joins what was made back to the table by `request_id`.

What is done stands in a journal beside the files, a line a request. The same command goes on where it was interrupted: what the
journal says was made, and still is there unchanged, is not made again.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from components.collect_results.results import BAD, MADE, REFUSED, WITHHELD, Result, write_results, write_sheet
from components.validate_requests.sources import source_below
from components.validate_requests.table import BadRow, Row
from governance.digest import sha256_file
from governance.errors import BadRecordError
from governance.guardrails.judging import BadPromptError, GuardrailError
from infra.errors import BadSettingError
from infra.home import Home
from model_core.errors import BadDataError
from pipelines.generation import GenerateRequest, generate

_JOURNAL_NAME: Final = ".results.jsonl"

Progress = Callable[[int, int, str], None]


def run_batch(
    home: Home,
    template: GenerateRequest,
    rows: Sequence[Row],
    bad: Sequence[BadRow],
    *,
    actor: str,
    sources: Path = Path(),
    progress: Progress = lambda _done, _total, _what: None,
) -> list[Result]:
    """Makes the rows of a table, and writes results and contact sheet.

    Args:
        home: The home.
        template: The model, the folder, and what holds for rows that do not say otherwise.
        rows: What to make.
        bad: Rows that cannot be made; they stand in the results with the reason.
        actor: The identity that asks.
        sources: The table's folder, below which the files lie that rows are made from.
        progress: Called with rows done, rows in all, and what is being done.

    Returns:
        A result a row, in the table's order.

    Raises:
        BadSettingError: The folder cannot be written, or holds the results of another table or model.
        IntegrityError: The model's package is not what was registered.
    """
    out = template.out
    found = bad_results(bad)
    found |= make_rows(home, template, rows, actor=actor, sources=sources, progress=progress)
    progress(len(rows), len(rows), "writing results")
    results = [found[line] for line in sorted(found)]
    write_results(out, results)
    write_sheet(out, results)
    return results


def bad_results(bad: Sequence[BadRow]) -> dict[int, Result]:
    """Returns the results of rows that cannot be made, by their numbers."""
    return {
        row.line: Result(request_id=row.request_id, segment=row.segment, status=BAD, reason="; ".join(row.problems))
        for row in bad
    }


def make_rows(
    home: Home,
    template: GenerateRequest,
    rows: Sequence[Row],
    *,
    actor: str,
    sources: Path = Path(),
    progress: Progress = lambda _done, _total, _what: None,
) -> dict[int, Result]:
    """Makes rows of a table, going on where an earlier attempt stopped; returns their results by the rows' numbers.

    The arguments are those of `run_batch`, whose errors it raises.
    """
    out = template.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSettingError(f"{out} cannot be written: {error.strerror}", hint="name another with --out") from error
    digests = _source_digests(sources, rows)
    asked = {row.request_id: _asked(template, row, digests.get(row.source or "", "")) for row in rows}
    known = _known(out, asked)
    found: dict[int, Result] = {}
    with (out / _JOURNAL_NAME).open("a", encoding="utf-8") as journal:
        for done, row in enumerate(rows):
            progress(done, len(rows), f"making {row.request_id}")
            result = known.get(row.request_id)
            if result is None:
                result = _make(home, template, row, sources=sources, actor=actor)
                journal.write(json.dumps({"asked": asked[row.request_id], **asdict(result)}) + "\n")
                journal.flush()
                os.fsync(journal.fileno())
            found[row.line] = result
    return found


def _make(home: Home, template: GenerateRequest, row: Row, *, sources: Path, actor: str) -> Result:
    blank = Result(request_id=row.request_id, segment=row.segment, status=BAD)
    try:
        request = replace(
            template,
            prompt=row.prompt,
            label=row.label,
            num_images=1,
            seed=_seed(template, row),
            num_frames=template.num_frames if row.frames is None else row.frames,
            source=source_below(sources, row.source) if row.source else None,
            strength=row.strength,
            out=template.out / row.request_id,
        )
        made = generate(home, request, actor=actor)
    except (BadDataError, BadPromptError, BadRecordError) as error:
        return replace(blank, reason=error.diagnosis.replace(f"{sources}/", ""))
    except GuardrailError as error:
        return replace(blank, status=REFUSED, reason=error.diagnosis)
    blank = replace(blank, source_sha256=made.source_sha256 or "")
    if made.memorisation.withheld:
        return replace(blank, status=REFUSED, model=made.model_version, run_id=made.run_id, reason=WITHHELD)
    (file,) = made.files
    return replace(
        blank,
        status=MADE,
        file=str(file.path.relative_to(template.out.absolute())),
        sha256=file.sha256,
        seed=file.seed,
        model=made.model_version,
        run_id=made.run_id,
    )


def _source_digests(sources: Path, rows: Sequence[Row]) -> dict[str, str]:
    """Returns the SHA-256 of each file that rows are made from, by its name in the table; of one that is gone, none."""
    found = {}
    for name in {row.source for row in rows if row.source}:
        try:
            found[name] = sha256_file(source_below(sources, name))
        except (BadRecordError, OSError):
            continue
    return found


def _asked(template: GenerateRequest, row: Row, source_sha256: str = "") -> str:
    """Returns a digest of all that decides what a row becomes, to tell whether the journal's line is about the same."""
    from governance.canonical import canonical_digest

    facts: Mapping[str, Any] = {
        **asdict(template),
        **asdict(row),
        "seed": _seed(template, row),
        "source": source_sha256,
        "line": 0,  # a row with a seed of its own is the same wherever it stands
        "out": "",
        "options": dict(template.options),
    }
    return canonical_digest(facts, floats=True)


def _seed(template: GenerateRequest, row: Row) -> int:
    return template.seed + row.line if row.seed is None else row.seed


def _known(out: Path, asked: Mapping[str, str]) -> dict[str, Result]:
    """Returns what an earlier attempt has settled and nobody has changed since; a line cut short by a kill is left out."""
    known: dict[str, Result] = {}
    try:
        lines = (out / _JOURNAL_NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            values = json.loads(line)
            same = values.pop("asked") == asked.get(values["request_id"])
            result = Result(**values)
        except (ValueError, KeyError, TypeError):
            continue
        path = out / result.file
        if same and result.status == MADE and path.is_file() and not path.is_symlink() and sha256_file(path) == result.sha256:
            known[result.request_id] = result
    return known
