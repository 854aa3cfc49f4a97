"""The pages about models: every version, and one with its card, figures, samples, approvals and what verifying it came to."""

import re
from itertools import groupby
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from governance.errors import GovernanceError
from groundswell.console.problems import Refusal
from groundswell.console.rendering import render
from groundswell.console.state import State, state_of
from infra.attestations import statements_about
from infra.errors import InfraError
from infra.model_package import ModelPackage
from infra.model_versions import ModelVersion, find_version, list_versions, open_version, reconcile
from infra.promotion.status import list_requests, overview
from infra.withdrawal_reach import num_withdrawn, num_withdrawn_by_package, withdrawals_reaching

_PICTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.(png|jpg)", re.ASCII)
_TYPES = {"png": "image/png", "jpg": "image/jpeg"}
_NUM_FIGURES = 3


def models_page(request: Request) -> Response:
    """Lists the versions of all models, newest first within a model."""
    state = state_of(request)
    state.access.require_reader(request)
    database = state.home.database
    versions = list_versions(database)
    with database.read() as connection:
        withdrawn = num_withdrawn_by_package(connection)
    differences = reconcile(database)
    newest_first = sorted(versions, key=lambda one: (one.name, -one.version))
    values = {
        "models": [(name, list(group)) for name, group in groupby(newest_first, key=lambda one: one.name)],
        "withdrawn": withdrawn,
        "verdicts": {(one.name, int(one.version)): verdict for one, verdict in state.served.verdicts().items()},
        "figures": {(one.name, one.version): _figures(one) for one in versions},
        "unrecorded": differences.unrecorded,
        "vanished": differences.vanished,
        **_promotions(state),
    }
    return render(request, "models.html.j2", values)


def version_page(request: Request) -> Response:
    """Shows one version; its package is verified before a byte of it is shown."""
    state = state_of(request)
    state.access.require_reader(request)
    version = _version(state, request)
    package, problem = _opened(state, version)
    with state.home.database.read() as connection:
        statements = statements_about(connection, version.subject)
        withdrawals = withdrawals_reaching(connection, version.subject)
        count = num_withdrawn(connection, withdrawals)
    name = f"{version.name}/{version.version}"
    requests = [one for one in list_requests(state.home.database, name=version.name) if one["model"] == name]
    pictures = [one.removeprefix("evaluation/") for one in sorted(package.digests) if _is_picture(one)] if package else []
    values = {
        "version": version,
        "package": package,
        "problem": problem,
        "card": _card(package),
        "pictures": pictures,
        "statements": statements,
        "withdrawals": withdrawals,
        "num_withdrawn": count,
        "requests": requests,
    }
    return render(request, "version.html.j2", values)


def picture(request: Request) -> Response:
    """Answers with a picture of a version's evaluation, verified."""
    state = state_of(request)
    state.access.require_reader(request)
    name = request.path_params["picture"]
    if not _PICTURE.fullmatch(name):
        raise Refusal(404, "there is no such picture")
    version = _version(state, request)
    package = open_version(version, state.home.package_keys, state.home.package_cache)
    if f"evaluation/{name}" not in package.digests:
        raise Refusal(404, "there is no such picture")
    data = package.read_bytes(f"evaluation/{name}")
    return Response(data, media_type=_TYPES[name.rpartition(".")[2]])


def _version(state: State, request: Request) -> ModelVersion:
    return find_version(state.home.database, f"{request.path_params['name']}/{request.path_params['version']}")


def _opened(state: State, version: ModelVersion) -> tuple[ModelPackage | None, str]:
    """Returns the verified package, or why there is none."""
    try:
        return open_version(version, state.home.package_keys, state.home.package_cache), ""
    except (GovernanceError, InfraError) as error:
        return None, error.diagnosis


def _card(package: ModelPackage | None) -> Markup:
    """Returns the model card as HTML; the parser lets none of the card's own HTML through, no pictures, no scripts' addresses."""
    if package is None:
        return Markup()
    parser = MarkdownIt("js-default", {"html": False, "linkify": False}).disable("image")
    return Markup(parser.render(package.model_card))  # noqa: S704 - see above


def _is_picture(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return folder == "evaluation" and _PICTURE.fullmatch(file) is not None


def _figures(version: ModelVersion) -> list[tuple[str, float]]:
    bounds = ("_low", "_high", "_real", "_noise", "_chance")
    return [(name, value) for name, value in version.metrics.items() if not name.endswith(bounds)][:_NUM_FIGURES]


def _promotions(state: State) -> dict[str, Any]:
    from governance.ledger import format_time

    standing = overview(state.home.database, now=format_time(state.home.database.now()))
    return {"champions": standing["champions"], "open": standing["open"]}
