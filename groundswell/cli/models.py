"""`groundswell models`: registered models, opened only after their digest and signature have been verified."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from governance.withdrawal import items_text
from groundswell.cli.comparing import flatten, show_value
from groundswell.cli.context import Group, Invocation, pass_invocation
from groundswell.cli.metrics import metric_rows, without_bounds
from groundswell.cli.model_diff import diff
from groundswell.cli.model_import import import_
from groundswell.cli.output import echo_facts, echo_json, echo_table, format_number, format_time, heading, printable, shorten
from groundswell.cli.withdrawn import print_withdrawals, withdrawals_of

if TYPE_CHECKING:
    from infra.home import Home
    from infra.model_package import ModelPackage
    from infra.model_versions import ModelVersion

_NUM_LISTED_METRICS = 3
_DIGEST_CHARACTERS = 12


@click.group(cls=Group, name="models")
def command() -> None:
    """List, verify, show and compare registered models, and import published ones.

    MODEL is name/version or name@alias.
    """


@command.command("list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the registered versions of all models."""
    from infra.model_versions import list_versions, reconcile
    from infra.withdrawal_reach import num_withdrawn_by_package

    home = invocation.open_home()
    versions = list_versions(home.database)
    with home.database.read() as connection:
        withdrawn = num_withdrawn_by_package(connection)
    differences = reconcile(home.database)
    if invocation.as_json:
        echo_json(
            {
                "models": [_version_document(version, withdrawn.get(version.root_digest, 0)) for version in versions],
                "unrecorded": list(differences.unrecorded),
                "vanished": list(differences.vanished),
            }
        )
        return
    if not versions:
        click.echo("no models yet: `groundswell run training` registers the first")
    else:
        _print_versions(versions, withdrawn)
    for name in differences.unrecorded:
        _warn(f"{name} is in MLflow but was never registered here, so it is refused")
    for name in differences.vanished:
        _warn(f"{name} is registered here but gone from MLflow")


def _print_versions(versions: Sequence["ModelVersion"], withdrawn: Mapping[str, int]) -> None:
    """Prints the table of versions; its column of withdrawn items is there only if a withdrawal reaches one of them."""
    marks = [withdrawn.get(version.root_digest, 0) for version in versions]
    rows = [
        (
            _name(version),
            ", ".join(version.aliases),
            version.root_digest[:_DIGEST_CHARACTERS],
            format_time(version.created),
            *([items_text(mark) if mark else ""] if any(marks) else []),
            _best(version),
        )
        for version, mark in zip(versions, marks, strict=True)
    ]
    echo_table(("model", "aliases", "digest", "registered (UTC)", *(["withdrawn"] if any(marks) else []), "metrics"), rows)


@command.command("show")
@click.argument("model")
@click.option("--card", is_flag=True, help="Print the whole model card (Markdown).")
@pass_invocation
def show(invocation: Invocation, model: str, card: bool) -> None:
    """Verify a model's package, then show what it is and what it was made from.

    Every file's digest and the package's signature are verified before a byte is parsed; if one does not hold, the exit
    code is 4.
    """
    from infra.attestations import statements_about

    home = invocation.open_home()
    version, package = _open(home, model)
    num_withdrawn, withdrawals = withdrawals_of(home, version)
    with home.database.read() as connection:
        statements = statements_about(connection, version.subject)
    if invocation.as_json:
        echo_json(
            {
                **_version_document(version, num_withdrawn),
                "withdrawals": withdrawals,
                "statements": [{"digest": digest, "kind": kind, "signer": signer} for digest, kind, signer in statements],
                "verified": True,
                "config": dict(package.config),
                "model_card": package.model_card,
            }
        )
        return
    if card:
        click.echo("\n".join(printable(line) for line in package.model_card.splitlines()))
        return
    echo_facts(
        [
            ("model", _name(version)),
            ("verified", f"{len(package.digests)} files and the signature"),
            ("aliases", ", ".join(version.aliases)),
            ("digest", version.root_digest),
            ("location", version.location),
            ("registered", f"{format_time(version.created)} UTC"),
            ("run", version.run_id),
            *((kind, f"signed with {signer}, SHA-256 {digest[:16]}") for digest, kind, signer in statements),
            ("withdrawn", f"{items_text(num_withdrawn)} of its data" if num_withdrawn else None),
        ]
    )
    print_withdrawals(withdrawals)
    heading("Configuration")
    echo_facts([(name, shorten(show_value(value))) for name, value in flatten(package.config).items()], indent="  ")
    if version.metrics:
        heading("Metrics")
        echo_table(("metric", "value", "95% interval"), metric_rows(version.metrics), right=(1,), indent="  ")
    heading("Made from")
    echo_facts([(name, digest) for name, digest in version.inputs.items()], indent="  ")
    click.echo()
    echo_facts(
        [
            ("model card", f"{invocation.program} models show {_name(version)} --card"),
            ("lineage", f"{invocation.program} lineage {_name(version)}"),
        ]
    )


@command.command("sign")
@click.argument("model")
@pass_invocation
def sign(invocation: Invocation, model: str) -> None:
    """Sign a model's package again, with the key that is current now, after its key was revoked; needs an admin.

    The files must be those that were registered, by the root digest on record; whether they were good then is for you to know.
    """
    from infra.model_versions import find_version
    from infra.package_signing import sign_version_again

    home = invocation.open_home()
    version = find_version(home.database, model)
    fingerprint = sign_version_again(home, version, actor=invocation.actor(home))
    if invocation.as_json:
        echo_json({"model": _name(version), "root_digest": version.root_digest, "fingerprint": fingerprint})
    else:
        click.echo(f"{_name(version)} is signed with key {fingerprint[:16]}")


command.add_command(diff)
command.add_command(import_)


def _open(home: "Home", model: str) -> "tuple[ModelVersion, ModelPackage]":
    from infra.model_versions import find_version, open_version

    version = find_version(home.database, model)
    return version, open_version(version, home.package_keys, home.package_cache)


def _name(version: "ModelVersion") -> str:
    return f"{version.name}/{version.version}"


def _best(version: "ModelVersion") -> str:
    names = without_bounds(version.metrics)[:_NUM_LISTED_METRICS]
    return ", ".join(f"{name} {format_number(version.metrics[name])}" for name in names)


def _version_document(version: "ModelVersion", num_withdrawn: int) -> dict[str, Any]:
    return {
        "model": _name(version),
        "name": version.name,
        "version": version.version,
        "root_digest": version.root_digest,
        "location": version.location,
        "run_id": version.run_id,
        "metrics": dict(version.metrics),
        "inputs": dict(version.inputs),
        "aliases": list(version.aliases),
        "mlflow_model_id": version.mlflow_model_id,
        "created": version.created,
        "withdrawn_items": num_withdrawn,
    }


def _warn(text: str) -> None:
    click.echo(f"{click.style('warning:', fg='yellow')} {printable(text)}", err=True)
