"""`groundswell promote`: into an environment by the rules, with the approvals that its policy asks for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.live import task_progress
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_time, heading, printable
from groundswell.cli.problem import CommandError
from groundswell.cli.promoted import settle_promotion

if TYPE_CHECKING:
    from infra.home import Home

_MAX_ENVELOPE_BYTES = 64 << 10


@click.group(cls=Group, name="promote")
def command() -> None:
    """Request, approve and apply promotions, and see what is where.

    An environment, such as staging or production, is an alias of MLflow that nothing but this changes. Its policy says what must
    hold and who has to approve; `groundswell policy show production` prints it.
    """


@command.command("request", examples=('groundswell promote request openmoji-dit/3 --to production --reason "better hands"',))
@click.argument("model")
@click.option("--to", "environment", metavar="ENVIRONMENT", default="production", show_default=True, help="Where it is to go.")
@click.option("--reason", metavar="TEXT", help="Why, for those who approve; the ledger holds a commitment to it.")
@pass_invocation
def request(invocation: Invocation, model: str, environment: str, reason: str | None) -> None:
    """Ask for MODEL to be promoted; the gates of the environment's policy are judged at once.

    Where a gate refuses, the request is recorded as gated and the exit code is 5. The champion itself may be requested: that
    validates it anew.
    """
    from infra.model_versions import find_version
    from infra.promotion.requests import request_promotion

    home = invocation.open_home()
    actor = invocation.actor(home)
    version = find_version(home.database, model)
    try:
        with task_progress("judging") as progress:
            requested = request_promotion(home, version, environment, actor=actor, reason=reason, progress=progress)
    finally:
        settle_promotion(home)
    _tell(invocation, home, requested.promotion.promotion_id)


@command.command("approve", examples=("groundswell --as Olga promote approve p-1a2b3c4d5e",))
@click.argument("request_id", metavar="REQUEST")
@click.option(
    "--envelope",
    "envelope_file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An approval that was signed elsewhere by `promote sign`.  [default: sign here, with your key in this home]",
)
@pass_invocation
def approve(invocation: Invocation, request_id: str, envelope_file: Path | None) -> None:
    """Approve REQUEST with your own key; the last approval needed applies it.

    The signature is bound to the package, the policy, the gate results, the environment, the champion that is expected, and the
    request's end: if one of them changes, it is void. Look first: `groundswell promote status REQUEST`, and
    `groundswell models diff` against the champion.
    """
    from infra.promotion.approvals import approve as approve_request

    home = invocation.open_home()
    actor = invocation.actor(home)
    envelope = _read_envelope(envelope_file) if envelope_file else None
    try:
        promotion = approve_request(home, request_id, actor=actor, envelope=envelope)
    finally:
        settle_promotion(home)
    _tell(invocation, home, promotion.promotion_id)


@command.command("sign", examples=("groundswell --as Olga promote sign p-1a2b3c4d5e -o approval.json",))
@click.argument("request_id", metavar="REQUEST")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The file to write.")
@pass_invocation
def sign(invocation: Invocation, request_id: str, output: Path) -> None:
    """Sign an approval of REQUEST into a file, without handing it in; `promote approve --envelope FILE` does that."""
    from infra.promotion.approvals import sign_approval

    home = invocation.open_home()
    envelope = sign_approval(home, request_id, actor=invocation.actor(home))
    output.write_text(envelope, encoding="utf-8")
    if invocation.as_json:
        echo_json({"file": str(output)})
    else:
        click.echo(f"signed approval written to {printable(output)}")


@command.command("reject", examples=('groundswell --as Olga promote reject p-1a2b3c4d5e --reason "blurry"',))
@click.argument("request_id", metavar="REQUEST")
@click.option("--reason", metavar="TEXT", required=True, help="Why; the ledger holds a commitment to it.")
@pass_invocation
def reject(invocation: Invocation, request_id: str, reason: str) -> None:
    """Reject REQUEST, which ends it."""
    from infra.promotion.approvals import reject as reject_request

    home = invocation.open_home()
    actor = invocation.actor(home)
    try:
        promotion = reject_request(home, request_id, actor=actor, reason=reason)
    finally:
        settle_promotion(home)
    _tell(invocation, home, promotion.promotion_id)


@command.command("withdraw")
@click.argument("request_id", metavar="REQUEST")
@pass_invocation
def withdraw(invocation: Invocation, request_id: str) -> None:
    """Take back REQUEST, which ends it; whoever made it does, or an admin."""
    from infra.promotion.approvals import withdraw as withdraw_request

    home = invocation.open_home()
    actor = invocation.actor(home)
    try:
        promotion = withdraw_request(home, request_id, actor=actor)
    finally:
        settle_promotion(home)
    _tell(invocation, home, promotion.promotion_id)


@command.command("apply")
@click.argument("request_id", metavar="REQUEST")
@pass_invocation
def apply(invocation: Invocation, request_id: str) -> None:
    """Apply REQUEST, once it is approved, where the policy leaves that to somebody (application: manual)."""
    from infra.promotion.approvals import apply as apply_request

    home = invocation.open_home()
    actor = invocation.actor(home)
    try:
        promotion = apply_request(home, request_id, actor=actor)
    finally:
        settle_promotion(home)
    _tell(invocation, home, promotion.promotion_id)


@command.command("status", examples=("groundswell promote status", "groundswell promote status p-1a2b3c4d5e"))
@click.argument("what", metavar="[REQUEST|MODEL]", required=False)
@pass_invocation
def status(invocation: Invocation, what: str | None) -> None:
    """Show the champions, when each lapses, and what waits; or one REQUEST with every gate and approval.

    MODEL is a model's name, without a version.
    """
    from governance.ledger import format_time as ledger_time
    from infra.promotion.approvals import settle
    from infra.promotion.status import overview

    home = invocation.open_home()
    settle(home.database)
    if what is not None and what.startswith("p-"):
        _tell(invocation, home, what)
        return
    document = overview(home.database, name=what, now=ledger_time(home.database.now()))
    if invocation.as_json:
        echo_json(document)
        return
    if document["champions"]:
        echo_table(
            ("environment", "model", "since (UTC)", "to be validated again (UTC)", "request"),
            [
                (
                    one["environment"],
                    one["model"],
                    format_time(one["since"]),
                    f"{format_time(one['expires'])}{' (lapsed)' if one['lapsed'] else ''}",
                    one["request"],
                )
                for one in document["champions"]
            ],
        )
    else:
        click.echo("no champion yet: `groundswell promote request MODEL --to ENVIRONMENT` begins")
    if document["open"]:
        heading(f"Open requests: {len(document['open']):,}")
        _print_requests(document["open"], indent="  ")


@command.command("list")
@click.option("--model", "name", metavar="NAME", help="Of this model only.")
@click.option("--to", "environment", metavar="ENVIRONMENT", help="For this environment only.")
@click.option("--open", "open_only", is_flag=True, help="Only those that still wait.")
@pass_invocation
def list_(invocation: Invocation, name: str | None, environment: str | None, open_only: bool) -> None:
    """List requests, newest first."""
    from infra.promotion.approvals import settle
    from infra.promotion.status import list_requests

    home = invocation.open_home()
    settle(home.database)
    found = list_requests(home.database, name=name, environment=environment, open_only=open_only)
    if invocation.as_json:
        echo_json({"requests": found})
    elif found:
        _print_requests(found)
    else:
        click.echo("no requests: `groundswell promote request MODEL --to ENVIRONMENT` makes one")


def _tell(invocation: Invocation, home: "Home", request_id: str) -> None:
    from infra.promotion.status import describe_request

    document = describe_request(home.database, request_id)
    if invocation.as_json:
        echo_json(document)
        return
    echo_facts(
        [
            ("request", document["request"]),
            ("model", document["model"]),
            ("environment", document["environment"]),
            ("state", document["state"]),
            ("in place of", document["expected_champion"] or "no version"),
            ("requested", f"{format_time(document['requested'])} UTC, by {_named(document['requester'])}"),
            ("reason", document["reason"]),
            ("trained by", ", ".join(map(_named, document["trainers"])) or "unknown"),
            ("expires", f"{format_time(document['expires'])} UTC" if document["needed"] else None),
            ("to be validated again", f"{format_time(document['lapses'])} UTC" if document["lapses"] else None),
            ("evidence root", document["evidence_root"]),
        ]
    )
    heading("Gates")
    gates = [("ok" if gate["passed"] else "failed", gate["gate"], gate["message"]) for gate in document["gates"]]
    echo_table(("", "gate", "found"), gates, state_column=0, indent="  ")
    _print_approvals(document)
    _print_next(invocation, document)


def _print_approvals(document: Mapping[str, Any]) -> None:
    needed = document["needed"]
    if not document["approvals"] and not needed:
        return
    heading("Approvals")
    rows = [
        (_named(one["by"]), one["role"], format_time(one["signed"]), "" if one["counts"] else "revoked since")
        for one in document["approvals"]
    ]
    if rows:
        echo_table(("by", "role", "signed (UTC)", ""), rows, indent="  ")
    if needed:
        least = ", ".join(f"at least {count} {role}" for role, count in needed["at_least"].items())
        roles = " or ".join(needed["roles"])
        click.echo(f"  {len(rows)} of {needed['count']}, each {roles}{f', {least}' if least else ''}")


def _print_next(invocation: Invocation, document: Mapping[str, Any]) -> None:
    name, state = document["request"], document["state"]
    if state == "awaiting-approval":
        click.echo()
        facts = [("to approve", f"{invocation.program} --as IDENTITY promote approve {name}")]
        if document["expected_champion"]:
            facts.append(("to compare", f"{invocation.program} models diff {document['expected_champion']} {document['model']}"))
        echo_facts(facts)
    elif state == "approved":
        click.echo()
        echo_facts([("to apply", f"{invocation.program} promote apply {name}")])


def _print_requests(found: Sequence[Mapping[str, Any]], *, indent: str = "") -> None:
    rows = [
        (
            one["request"],
            one["model"],
            one["environment"],
            one["state"],
            format_time(one["requested"]),
            _named(one["requester"]),
            ", ".join(map(_named, one["approved_by"])),
        )
        for one in found
    ]
    headers = ("request", "model", "environment", "state", "requested (UTC)", "by", "approved by")
    echo_table(headers, rows, indent=indent)


def _named(person: Mapping[str, str | None]) -> str:
    return person["name"] or str(person["identity"])


def _read_envelope(path: Path) -> str:
    if path.stat().st_size > _MAX_ENVELOPE_BYTES:
        raise CommandError(f"{path} is too large to hold an approval", hint="`groundswell promote sign` writes one")
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no text", hint="`groundswell promote sign` writes an approval") from error
