"""Delivers what waits in the outbox to webhooks: signed, at least once, retried ever more rarely.

A message is claimed in one unit of work, sent outside any, and marked in another. Whoever dies in between leaves it to be sent
again, so a receiver tells by ``webhook-id`` what it has had. Headers and signature are those of Standard Webhooks
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
"""

import base64
import binascii
import hashlib
import hmac
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, delete, func, select, update

from governance.canonical import canonical_text
from governance.ledger import format_time
from infra.database import Database
from infra.errors import BadSettingError
from infra.home import Home
from infra.key_files import read_private_file
from infra.tables import outbox

MAX_ATTEMPTS: Final = 36
"""After a day and a half a message is given up."""

KEPT_DAYS: Final = 30
_MIN_SECRET_BYTES = 24
_FIRST_DELAY_S, _MAX_DELAY_S = 5.0, 3600.0
_TIMEOUT_S = 5.0
_BATCH = 20
_PREFIX = "whsec_"

Send = Callable[[str, bytes, dict[str, str]], str]
"""Posts a body with headers to a URL and returns why that failed, "" where it did not."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What came of an attempt.

    Attributes:
        delivered: How many messages every webhook has now that had not before.
        waiting: How many still wait.
        given_up: How many will not be sent again.
        problems: Why, a line a webhook that failed.
    """

    delivered: int
    waiting: int
    given_up: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Message:
    id: int
    payload: str
    had: frozenset[str]


def deliver_waiting(home: Home, *, budget_s: float, send: Send | None = None) -> Delivery:
    """Sends what waits and is due; where no webhook is set, there is nobody to tell, and nothing waits.

    Args:
        home: The home.
        budget_s: For how long, about.
        send: What sends.

    Raises:
        BadSettingError: A webhook is no http URL, or the secret is missing, too short, or readable by others.
        BackendUnavailableError: The database cannot be written.
    """
    db, urls = home.database, home.settings.webhooks
    if not _num_due(db):
        return _counted(db, 0, ())
    if not urls:
        return _counted(db, _mark_all(db), ())
    secret = read_secret(home.settings.webhook_secret_file)
    for url in urls:
        check_url(url)
    deadline = time.monotonic() + budget_s
    delivered, problems = 0, dict[str, str]()
    while time.monotonic() < deadline and (batch := _claim(db)):
        for message in batch:
            had = set(message.had)
            for url in urls:
                if webhook_id(url) in had:
                    continue
                body = message.payload.encode()
                problem = (send or post)(url, body, headers(message.id, body, secret, now_s=int(db.now().timestamp())))
                if problem:
                    problems[url] = f"webhook {urlsplit(url).netloc.rpartition('@')[2]}: {problem}"
                else:
                    had.add(webhook_id(url))
            delivered += _mark(db, message.id, had, is_done=had >= set(map(webhook_id, urls)))
    return _counted(db, delivered, tuple(problems.values()))


def headers(message_id: int, body: bytes, secret: bytes, *, now_s: int) -> dict[str, str]:
    """Returns the headers of a message, with its signature."""
    name = f"msg_{message_id}_{hashlib.sha256(body).hexdigest()[:24]}"
    signature = hmac.new(secret, f"{name}.{now_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(now_s),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def webhook_id(url: str) -> str:
    """Returns what stands for a webhook in the database, where its URL, which may hold a token, does not."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def read_secret(path: str) -> bytes:
    """Returns the secret that messages are signed with.

    Raises:
        BadSettingError: None is named, or the file is missing, readable by others, or holds less than 24 bytes.
    """
    if not path:
        raise BadSettingError(
            "webhooks are set, and no secret to sign with", hint="name a file of at least 24 bytes: webhook_secret_file"
        )
    secret = read_private_file(Path(path), "webhook secret").strip()
    if secret.startswith(_PREFIX.encode()):
        try:
            secret = base64.b64decode(secret.removeprefix(_PREFIX.encode()), validate=True)
        except binascii.Error as error:
            raise BadSettingError(f"the webhook secret {path} begins with {_PREFIX} and is no base64") from error
    if len(secret) < _MIN_SECRET_BYTES:
        raise BadSettingError(f"the webhook secret {path} is shorter than {_MIN_SECRET_BYTES} bytes")
    return secret


def check_url(url: str) -> None:
    """Checks that a webhook is a URL of http or https.

    Raises:
        BadSettingError: It is not.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BadSettingError("a webhook is no URL of http or https", hint='webhooks = "https://host/path, https://other/path"')


def post(url: str, body: bytes, given: dict[str, str]) -> str:
    """Posts a message; no redirect is followed, and no more than a line of the answer is read."""
    request = urllib.request.Request(url, data=body, headers=given, method="POST")  # noqa: S310  # checked: http or https
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_TIMEOUT_S) as response:
            return "" if 200 <= response.status < 300 else f"it answered {response.status}"
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answered {error.code}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"it cannot be reached: {' '.join(str(reason).split())[:120]}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Refuses every redirect, so that it is an answer like any other that is not 2xx."""


def _num_due(db: Database) -> int:
    now = format_time(db.now())
    with db.read() as connection:
        return int(connection.execute(select(func.count()).select_from(outbox).where(*_due(now))).scalar_one())


def _due(now: str) -> tuple[Any, ...]:
    columns = outbox.c
    return columns.delivered.is_(None), columns.attempts < MAX_ATTEMPTS, columns.next_attempt <= now


def _claim(db: Database) -> list[_Message]:
    """Takes messages that are due, so that nobody else sends them, until they are due again."""
    with db.unit_of_work() as uow:
        columns = outbox.c
        query = select(columns.id, columns.payload, columns.delivered_to, columns.attempts).where(*_due(uow.time))
        rows = uow.connection.execute(query.order_by(columns.id).limit(_BATCH)).all()
        for row in rows:
            again = format_time(db.now() + timedelta(seconds=delay_s(row.attempts)))
            values = {"attempts": row.attempts + 1, "next_attempt": again}
            uow.connection.execute(update(outbox).where(columns.id == row.id).values(**values))
        return [_Message(row.id, row.payload, frozenset(json.loads(row.delivered_to))) for row in rows]


def delay_s(attempts: int) -> float:
    """Returns after how long a message is sent again, in seconds: ever longer, and never at once with others."""
    return min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0**attempts) * random.uniform(0.75, 1.25)  # noqa: S311  # no secret


def _mark(db: Database, message_id: int, had: set[str], *, is_done: bool) -> bool:
    with db.unit_of_work() as uow:
        values = {"delivered_to": canonical_text(sorted(had)), "delivered": uow.time if is_done else None}
        uow.connection.execute(update(outbox).where(outbox.c.id == message_id).values(**values))
        return is_done


def _mark_all(db: Database) -> int:
    with db.unit_of_work() as uow:
        _forget(uow.connection, format_time(db.now() - timedelta(days=KEPT_DAYS)))
        result = uow.connection.execute(update(outbox).where(outbox.c.delivered.is_(None)).values(delivered=uow.time))
        return result.rowcount


def _forget(connection: Connection, before: str) -> None:
    connection.execute(delete(outbox).where(outbox.c.delivered < before))


def _counted(db: Database, delivered: int, problems: Sequence[str]) -> Delivery:
    columns = outbox.c
    with db.read() as connection:
        attempts = connection.execute(select(columns.attempts).where(columns.delivered.is_(None))).scalars().all()
    given_up = sum(count >= MAX_ATTEMPTS for count in attempts)
    return Delivery(delivered=delivered, waiting=len(attempts) - given_up, given_up=given_up, problems=tuple(problems))
