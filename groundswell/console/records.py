"""The pages about records: lineage reports, the ledger, and its signed tree head."""

import base64
import hashlib

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from governance.canonical import canonical_text
from governance.ledger import parse_entry
from governance.lineage_report.html import render_html
from governance.merkle import leaf_hash, verify_inclusion
from groundswell.console.problems import Refusal
from groundswell.console.rendering import render
from groundswell.console.state import state_of
from infra.ledger import inclusion_proof, ledger_size, read_entry, root_hash
from infra.lineage_report import build_report, resolve_subject
from infra.tables import ledger_checkpoints, ledger_entries

_PAGE = 50
_MAX_SUBJECT = 600
_MAX_INDEX = 1 << 31
_WAIT_S = 30.0
_REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'sha256-{}'; base-uri 'none'; frame-ancestors 'none'"


def lineage_page(request: Request) -> Response:
    """Shows the lineage report of what `subject` names, never a path; asks for one where none is named."""
    state = state_of(request)
    state.access.require_reader(request)
    asked = request.query_params.get("subject", "").strip()
    if not asked:
        return render(request, "lineage.html.j2", {})
    if len(asked) > _MAX_SUBJECT:
        raise Refusal(404, "nothing is recorded by so long a name")
    database = state.home.database
    subject = resolve_subject(database, asked, paths=False)
    if not state.at_work.acquire(timeout=_WAIT_S):
        raise Refusal(503, "other reports are being made", hint="try again", headers={"Retry-After": "10"})
    try:
        content = build_report(database, subject, home=state.home.path)
    finally:
        state.at_work.release()
    page = render_html(content)
    return HTMLResponse(page, headers={"Content-Security-Policy": _policy_of(page)})


def audit_page(request: Request) -> Response:
    """Shows the ledger's size, its signed head and its newest entries, a page at a time."""
    state = state_of(request)
    state.access.require_reader(request)
    before = _index(request.query_params.get("before"))
    columns = ledger_entries.c
    query = select(columns.entry).order_by(columns.index.desc()).limit(_PAGE)
    with state.home.database.read() as connection:
        size = ledger_size(connection)
        rows = connection.execute(query if before is None else query.where(columns.index < before)).scalars().all()
        entries = [parse_entry(bytes(data)) for data in rows]
        newest = ledger_checkpoints.c
        checkpoint = connection.execute(select(ledger_checkpoints).order_by(newest.size.desc()).limit(1)).first()
        root = root_hash(connection, size).hex() if size else ""
    values = {
        "size": size,
        "root": root,
        "checkpoint": checkpoint,
        "entries": entries,
        "before": before,
        "older": entries[-1].index if entries and entries[-1].index else None,
    }
    return render(request, "audit.html.j2", values)


def entry_page(request: Request) -> Response:
    """Shows one entry with the proof that it is in the ledger as it stands."""
    state = state_of(request)
    state.access.require_reader(request)
    index = _index(request.path_params["index"]) or 0
    with state.home.database.read() as connection:
        entry, data = read_entry(connection, index)
        size = ledger_size(connection)
        root, proof = root_hash(connection, size), inclusion_proof(connection, index, size)
    values = {
        "entry": entry,
        "details": [(name, value if isinstance(value, str) else canonical_text(value)) for name, value in entry.details.items()],
        "raw": data.decode("utf-8", errors="replace"),
        "leaf": leaf_hash(data).hex(),
        "size": size,
        "root": root.hex(),
        "proof": [node.hex() for node in proof],
        "holds": verify_inclusion(leaf_hash(data), index, size, proof, root),
    }
    return render(request, "entry.html.j2", values)


def checkpoint(request: Request) -> Response:
    """Answers with the newest signed tree head, for whoever keeps them elsewhere."""
    state = state_of(request)
    state.access.require_reader(request)
    newest = ledger_checkpoints.c
    with state.home.database.read() as connection:
        note = connection.execute(select(newest.note).order_by(newest.size.desc()).limit(1)).scalar()
    if note is None:
        raise Refusal(404, "the ledger was never signed", hint="groundswell audit checkpoint")
    return PlainTextResponse(str(note))


def _policy_of(report: str) -> str:
    """Returns what a browser may do with a report: it carries its one style sheet, because it is a file that is mailed, too."""
    sheet = report.partition("<style>")[2].partition("</style>")[0]
    return _REPORT_POLICY.format(base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode())


def _index(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:12]) < _MAX_INDEX):
        raise Refusal(404, "there is no such entry")
    return int(text[:12])
