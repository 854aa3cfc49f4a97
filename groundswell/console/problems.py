"""The one catch: every error becomes one status and one line, as JSON for programs and as a page for people."""

import logging
import sqlite3
from http import HTTPStatus

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from governance.errors import BadRecordError, GovernanceError, IntegrityError, RefusedError, UnknownSubjectError
from groundswell.console.rendering import render
from infra.errors import BackendUnavailableError, BadSettingError, HomeBusyError, InfraError

_log = logging.getLogger("groundswell.console")
_STATUSES: dict[type[Exception], int] = {
    BackendUnavailableError: 503,
    HomeBusyError: 503,
    BadSettingError: 500,
    IntegrityError: 500,
    RefusedError: 403,
    BadRecordError: 400,
    UnknownSubjectError: 404,
}
_RETRY_AFTER_S = "5"


class Refusal(HTTPException):
    """A request that is answered with a status and one line.

    Args:
        status: The status.
        diagnosis: What is wrong.
        hint: What to do about it.
        headers: More headers of the answer.
    """

    def __init__(self, status: int, diagnosis: str, *, hint: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(status, diagnosis, headers)
        self.hint = hint


async def answer_refusal(request: Request, error: Exception) -> Response:
    """Answers what the console itself, or its router, refuses."""
    if not isinstance(error, HTTPException):
        raise TypeError from error
    headers = dict(error.headers or {})
    diagnosis = error.detail
    if error.status_code == HTTPStatus.NOT_FOUND and diagnosis == HTTPStatus.NOT_FOUND.phrase:
        diagnosis = "there is no such page"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        diagnosis = f"{request.method} is not allowed here"
    return _answer(request, error.status_code, diagnosis, getattr(error, "hint", ""), headers)


async def answer_error(request: Request, error: Exception) -> Response:
    """Answers an error of a room below, or of the database's driver."""
    status = next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 500)
    headers = {"Retry-After": _RETRY_AFTER_S} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return _answer(request, status, str(getattr(error, "diagnosis", error)), str(getattr(error, "hint", "")), headers)


async def answer_defect(request: Request, error: Exception) -> Response:
    """Answers what nobody has thought of; the log says more than the answer does."""
    if isinstance(error, DBAPIError | PoolTimeoutError | sqlite3.Error):
        return _answer(request, 503, "the database did not answer", "try again", {"Retry-After": _RETRY_AFTER_S})
    return _answer(request, 500, f"unexpected {type(error).__name__}", "this is a defect of groundswell; its log says more", {})


HANDLERS = {HTTPException: answer_refusal, GovernanceError: answer_error, InfraError: answer_error, Exception: answer_defect}


def wants_json(request: Request) -> bool:
    """Returns whether a program asks."""
    if request.url.path.startswith("/api/") or request.url.path in {"/healthz", "/readyz"}:
        return True
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


def _answer(request: Request, status: int, diagnosis: str, hint: str, headers: dict[str, str]) -> Response:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("%s %s: %d %s", request.method, request.url.path, status, diagnosis)
    if wants_json(request):
        return JSONResponse({"error": diagnosis, "hint": hint}, status, headers=headers)
    if request.url.path == "/metrics":
        return Response(f"{diagnosis}\n", status, headers=headers, media_type="text/plain; charset=utf-8")
    page = render(request, "problem.html.j2", {"status": status, "diagnosis": diagnosis, "hint": hint}, status=status)
    page.headers.update(headers)
    return page
