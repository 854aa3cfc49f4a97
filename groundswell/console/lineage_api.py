"""`POST /api/v1/lineage`: takes OpenLineage events in, as `groundswell lineage import` does."""

import io
import time
import zlib
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from groundswell.console.problems import Refusal
from groundswell.console.state import State, state_of
from infra.lineage_import import ImportOutcome, import_stream

MAX_BODY_BYTES = 1 << 20
_MAX_DISCARDED_BYTES = 256 << 20
_MAX_DISCARDING_S = 20.0
_NAME = "the request"
_GZIP = "gzip"


async def post_lineage(request: Request) -> Response:
    """Records an event, or several in an array or one a line: all of them or none."""
    state = state_of(request)
    actor = (await run_in_threadpool(state.access.require_lineage_writer, request)).identity_id
    coding = _check_type(request)
    body = _decoded(await _read_body(request), coding)
    outcome = await run_in_threadpool(_import, state, body, actor)
    status = HTTPStatus.CREATED if outcome.num_new else HTTPStatus.OK
    return JSONResponse(_document(outcome), status)


def _import(state: State, body: bytes, actor: str) -> ImportOutcome:
    return import_stream(state.home.database, io.BytesIO(body), _NAME, actor=actor)


def _check_type(request: Request) -> str:
    """Returns the content coding of a body that may be taken.

    Raises:
        Refusal: It is of another type, or coded in another way.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"application/json", "application/x-ndjson"}:
        raise Refusal(415, f"events are application/json, not {kind!r:.80}")
    if (coding := request.headers.get("content-encoding", "identity").lower()) not in {"identity", _GZIP}:
        raise Refusal(415, f"the content coding {coding!r:.40} is not taken", hint="post events as they are, or by gzip")
    return coding


def _decoded(body: bytes, coding: str) -> bytes:
    """Returns a body as it was before it was compressed; never more of it than an event may be.

    Raises:
        Refusal: It is larger, or no gzip.
    """
    if coding != _GZIP:
        return body
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = inflater.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise Refusal(400, "the request is no gzip") from error
    if len(found) > MAX_BODY_BYTES:
        raise _too_large()
    if not inflater.eof or inflater.unused_data:
        raise Refusal(400, "the request is no gzip, or was cut off")
    return found


async def _read_body(request: Request) -> bytes:
    """Reads a body of bounded size; what is beyond it is let go by unread, so that the client gets to read the answer.

    Raises:
        Refusal: It is larger than an event may be.
    """
    declared = request.headers.get("content-length", "")
    is_too_large = declared.isdigit() and int(declared) > MAX_BODY_BYTES
    if is_too_large and request.headers.get("expect", "").lower() == "100-continue":
        raise _too_large()  # the client waits to be told before it sends anything
    chunks: list[bytes] = []
    size, deadline = 0, time.monotonic() + _MAX_DISCARDING_S
    try:
        async for chunk in request.stream():
            size += len(chunk)
            is_too_large = is_too_large or size > MAX_BODY_BYTES
            if not is_too_large:
                chunks.append(chunk)
                continue
            chunks.clear()
            if size > _MAX_DISCARDED_BYTES or time.monotonic() > deadline:
                break
    except ClientDisconnect as error:
        raise Refusal(400, "the request was cut off") from error
    if is_too_large:
        raise _too_large()
    return b"".join(chunks)


def _too_large() -> Refusal:
    return Refusal(
        413,
        f"the body is larger than {MAX_BODY_BYTES >> 20} MiB",
        hint="`groundswell lineage import FILE` takes files of any size",
        headers={"Connection": "close"},
    )


def _document(outcome: ImportOutcome) -> dict[str, Any]:
    return {
        "sha256": outcome.sha256,
        "num_events": outcome.num_events,
        "num_new": outcome.num_new,
        "entry": outcome.index,
        "already_imported": outcome.is_repeated,
    }
