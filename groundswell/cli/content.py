"""`groundswell content`: where a picture or clip came from, by the file alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_time, heading, printable, shown_path
from groundswell.cli.problem import EXIT_INTEGRITY, Problem, tell_problem

if TYPE_CHECKING:
    from governance.credentials.verdict import Candidate
    from infra.content_records import Person
    from infra.content_source import Source
    from infra.content_verification import Approved, Verification
    from infra.home import Home

_SHOWN_DIGITS = 16
_SHOWN_ORIGINS = 5
_COLOURS = {"held": "green", "failed": "red", "unproven": "yellow"}


@click.group(cls=Group, name="content")
def command() -> None:
    """Verify where a picture or clip came from."""


@command.command(
    "verify",
    examples=(
        "groundswell content verify pictures/1a2b3c4d-image-000000.png",
        "groundswell content verify from-a-customer.png --root content-root-certificate.pem",
        "groundswell content verify screenshot.jpg --accept-watermark",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--root",
    "root_file",
    metavar="PEM",
    type=click.Path(path_type=Path),
    help="The certificate of the root to trust, from a place outside the home.  [default: the home's own]",
)
@click.option("--accept-watermark", is_flag=True, help="Exit with 0 also where the attribution rests on the watermark alone.")
@pass_invocation
def verify(invocation: Invocation, file: Path, root_file: Path | None, *, accept_watermark: bool) -> int:
    """Say what proves where FILE came from: its signed manifest, its bytes, its pixels; and what looks like it.

    PNG, JPEG, WebP, GIF and MP4 are read. The manifest is verified against the root of this home, whose certificate is
    HOME/keys/public/content-root-certificate.pem, or with --root against one that you have from elsewhere; then no home is
    needed. Where none of these holds, the invisible watermark may still name the model and the run, in a home that has the
    private keys: that is evidence and no proof, as marks can be copied. What merely looks like a file on record is listed as a
    candidate, which proves nothing. Nothing is written.

    The exit code is 0 if the file is attributed and all that is there holds; 4 if a manifest, label or record does not hold, or
    if nothing proves where the file came from, a watermark alone included unless it is accepted; 3 if it is no whole picture
    or clip.
    """
    from infra.content_verification import verify_content

    root_pem = _root(root_file) if root_file else None
    home = _home(invocation, needed=root_file is None)
    found = verify_content(file, home=home, root_pem=root_pem)
    exit_code = 0 if found.verdict.ok or (accept_watermark and _rests_on_watermark(found)) else EXIT_INTEGRITY
    if invocation.as_json:
        echo_json(_document(found, exit_code))
    else:
        _print(found)
    if exit_code:
        tell_problem(_problem(found), as_json=False)
    return exit_code


def _rests_on_watermark(found: "Verification") -> bool:
    """Whether the watermark alone says where a file came from, and nothing that is there fails."""
    from governance.credentials.verdict import Basis

    return found.verdict.basis is Basis.WATERMARK and not found.verdict.failed


def _root(path: Path) -> str:
    from governance.credentials.certificates import certificate_pem, parse_certificate
    from governance.errors import BadRecordError, IntegrityError

    try:
        with path.open(encoding="ascii") as file:
            return certificate_pem(parse_certificate(file.read(1 << 16)))
    except (IntegrityError, UnicodeDecodeError) as error:
        raise BadRecordError(
            f"{path} is not one certificate in PEM", hint="a home's is HOME/keys/public/content-root-certificate.pem"
        ) from error


def _home(invocation: Invocation, *, needed: bool) -> "Home | None":
    """Opens the home; without one only a root from outside helps."""
    from infra.settings import Settings

    if not needed and not (Settings.load(invocation.home_folder).home / "keys").is_dir():
        return None
    return invocation.open_home(keep_guards=False)


def _document(found: "Verification", exit_code: int) -> dict[str, Any]:
    verdict, pixels = found.verdict, found.pixels
    return {
        "file": found.file.path.absolute(),
        "media_type": found.file.kind.mime_type,
        "sha256": found.file.sha256,
        "pixels_sha256": pixels.sha256,
        "fingerprint": pixels.fingerprint,
        "width": pixels.width,
        "height": pixels.height,
        "num_frames": pixels.num_frames,
        "attribution": _attribution(found),
        "watermark": _watermark(found),
        "checks": [{"name": check.name, "outcome": check.outcome.value, "says": check.says} for check in verdict.checks],
        "candidates": [_candidate(one) for one in verdict.candidates],
        "ok": verdict.ok,
        "exit_code": exit_code,
    }


def _attribution(found: "Verification") -> dict[str, Any] | None:
    origin = found.verdict.origin
    if origin is None:
        return None
    return {
        "model": origin.model,
        "root_digest": origin.root_digest,
        "run_id": origin.run_id,
        "position": origin.position,
        "sha256": origin.sha256 or None,
        "created": origin.created or None,
        "basis": found.verdict.basis,
        "proven_by": list(found.verdict.proven_by),
        "origins": [
            {"run_id": one.run_id, "position": one.position, "sha256": one.sha256 or None, "created": one.created or None}
            for one in found.verdict.origins
        ],
        "promotions": None if found.approved is None else [_promotion(one) for one in found.approved],
        "datasets": None if found.datasets is None else list(found.datasets),
        "source": None if found.source is None else _source(found.source),
    }


def _source(source: "Source") -> dict[str, Any]:
    origin = source.origin
    return {
        "sha256": source.sha256,
        "says": source.says,
        "model": origin.model if origin else None,
        "run_id": origin.run_id if origin else None,
        "position": origin.position if origin else None,
    }


def _watermark(found: "Verification") -> dict[str, Any] | None:
    """Returns what the detector said; None where the mark was not looked for."""
    mark = found.mark
    if mark is None:
        return None
    return {
        "found": mark.detected,
        "false_positive_probability": mark.false_positive_probability,
        "id": mark.payload.hex() if mark.payload else None,
        "wrong_id_probability": mark.wrong_payload_probability if mark.payload else None,
    }


def _promotion(approved: "Approved") -> dict[str, Any]:
    return {
        "environment": approved.environment,
        "promotion_id": approved.promotion_id,
        "approvers": [{"identity_id": one.identity_id, "name": one.name} for one in approved.approvers],
    }


def _candidate(candidate: "Candidate") -> dict[str, Any]:
    origin = candidate.origin
    return {
        "distance": candidate.distance,
        "sha256": origin.sha256,
        "model": origin.model,
        "run_id": origin.run_id,
        "position": origin.position,
        "file_name": origin.file_name,
        "created": origin.created,
    }


def _print(found: "Verification") -> None:
    verdict = found.verdict
    if verdict.origin is not None:
        colour = None if verdict.failed else "green" if verdict.proven_by else "yellow"
        click.secho(printable(_sentence(found)), fg=colour, bold=True)
        facts = []
        for origin in verdict.origins[:_SHOWN_ORIGINS]:
            facts.append(("file", f"{origin.position} of run {origin.run_id}"))
            if origin.created:
                facts.append(("recorded", f"{format_time(origin.created)} UTC"))
        more = len(verdict.origins) - _SHOWN_ORIGINS
        facts.append(("", f"and {more} more, which --json lists" if more > 0 else ""))
        if found.source is not None:
            facts.append(("made from", printable(f"{found.source.sha256}, a file {found.source.says}")))
        proof = ", ".join(verdict.proven_by)
        echo_facts([*facts, ("proven by", proof) if proof else ("rests on", "the watermark alone: evidence, no proof")])
    heading("Checks")
    for check in verdict.checks:
        outcome = click.style(f"{check.outcome.value:<9}", fg=_COLOURS.get(check.outcome.value))
        click.echo(f"  {check.name:<12} {outcome} {printable(check.says)}")
    if verdict.candidates:
        heading("Looks like, which proves nothing")
        rows = [
            (one.distance, one.origin.model, format_time(one.origin.created), one.origin.sha256[:_SHOWN_DIGITS])
            for one in verdict.candidates
        ]
        echo_table(("bits of 64", "model", "recorded (UTC)", "sha256"), rows, right=(0,), indent="  ")


def _sentence(found: "Verification") -> str:
    origin = found.verdict.origin
    assert origin is not None
    parts = [f"made by model {origin.model_name} version {origin.model_version}"]
    if found.approved is not None:
        people = [_person(one) for approved in found.approved for one in approved.approvers]
        parts.append(f"approved by {' and '.join(dict.fromkeys(people))}" if people else "which was no champion then")
    if found.datasets:
        named = " and ".join(digest[:_SHOWN_DIGITS] for digest in found.datasets)
        parts.append(f"trained on dataset{'s' * (len(found.datasets) > 1)} {named}")
    if not found.verdict.proven_by:
        parts.append("by its watermark alone")
    return ", ".join(parts)


def _person(person: "Person") -> str:
    return f"{person.name} ({person.identity_id})" if person.name else person.identity_id


def _problem(found: "Verification") -> Problem:
    path = shown_path(found.file.path)
    if found.verdict.failed:
        first = found.verdict.failed[0]
        return Problem(diagnosis=f"{path}: the {first.name} does not hold: {first.says}", exit_code=EXIT_INTEGRITY)
    if _rests_on_watermark(found):
        return Problem(
            diagnosis=f"{path}: no proof holds: where it came from rests on its watermark alone, and marks can be copied",
            hint="compare it with the file on record; --accept-watermark takes the watermark for enough",
            exit_code=EXIT_INTEGRITY,
        )
    hint = (
        "a person has to look at the candidates: what looks alike may have been made anywhere" if found.verdict.candidates else ""
    )
    return Problem(
        diagnosis=f"{path}: no proof holds: nothing says where it came from, which does not mean that it was not made here",
        hint=hint,
        exit_code=EXIT_INTEGRITY,
    )
