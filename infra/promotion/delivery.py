"""Delivers what waits in the outbox to webhooks: signed, at least once, retried ever more rarely.

A message is claimed in one unit of work, sent outside any, and marked in another. Whoever dies in between leaves it to be sent
again once the claim is over, so a receiver tells by ``webhook-id`` what it has had.

Each webhook is told in the order in which things happened, as long as it takes what it is sent: while a message waits to be sent
to it again, later ones wait behind it. One that is refused again and again is overtaken after some tries, so that a receiver that
cannot take one message gets the others.
"""

import json
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Row, delete, func, or_, select, update

from governance.canonical import canonical_text
from governance.ledger import format_time
from infra.database import Database
from infra.home import Home
from infra.tables import outbox
from infra.webhooks import TIMEOUT_S, check_url, headers, post, read_secret, shown_webhook, webhook_id

MAX_ATTEMPTS: Final = 36
"""After a day and a half a message is given up."""

KEPT_DAYS: Final = 30
_FIRST_DELAY_S, _MAX_DELAY_S = 5.0, 3600.0
_ORDERED_ATTEMPTS = 8  # within the first twenty minutes a message is not overtaken
_LEAST_TIMEOUT_S = 1.0
_SPARE_S = 60.0  # a claim is over that much later than sending can take
_PAGE = 200

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


def deliver_waiting(home: Home, *, budget_s: float, send: Send | None = None) -> Delivery:
    """Sends what waits and is due; where no webhook is set, there is nobody to tell, and nothing waits.

    Args:
        home: The home.
        budget_s: For how long, about: nothing is begun after it.
        send: What sends.

    Raises:
        BadSettingError: A webhook is no http URL, or the secret is missing, too short, or readable by others.
        BackendUnavailableError: The database cannot be written.
    """
    db, urls = home.database, tuple(dict.fromkeys(home.settings.webhooks))
    _forget(db)
    if not _has_due(db):
        return _counted(db)
    if not urls:
        return _counted(db, delivered=_mark_all(db))
    for url in urls:
        check_url(url)
    timeout_s = min(TIMEOUT_S, max(_LEAST_TIMEOUT_S, budget_s / len(urls)))
    sending = _Sending(
        db,
        urls,
        read_secret(home.settings.webhook_secret_file),
        send or partial(post, timeout_s=timeout_s),
        ends=time.monotonic() + budget_s,
    )
    sending.run()
    return _counted(db, delivered=sending.delivered, problems=sending.problems.values())


class _Sending:
    """One pass over what waits, oldest first.

    Attributes:
        delivered: How many messages every webhook has now that had not before.
        problems: Why a webhook failed last, by its id.
    """

    def __init__(self, db: Database, urls: Collection[str], secret: bytes, send: Send, *, ends: float) -> None:
        self.delivered = 0
        self.problems: dict[str, str] = {}
        self._db = db
        self._urls = {webhook_id(url): url for url in urls}
        self._secret = secret
        self._send = send
        self._ends = ends
        self._held: set[str] = set()  # webhooks for which an earlier message waits

    def run(self) -> None:
        """Goes on until nothing more can be sent, or the time is over."""
        last = -1
        while rows := self._page(last):
            for row in rows:
                if self._is_over or len(self._held) == len(self._urls):
                    return
                self._tell(row)
            last = rows[-1].id

    @property
    def _is_over(self) -> bool:
        return time.monotonic() >= self._ends

    def _page(self, last: int) -> list[Row[Any]]:
        with self._db.read() as connection:
            return list(connection.execute(_waiting().where(outbox.c.id > last).order_by(outbox.c.id).limit(_PAGE)).all())

    def _tell(self, row: Row[Any]) -> None:
        missing = self._missing(row)
        if missing and missing <= self._held:
            return
        is_claimed = False
        if row.next_attempt <= format_time(self._db.now()):
            claim = self._claim(row.id)
            if claim is None:
                return  # somebody else has told it meanwhile
            row, is_claimed = claim
            missing = self._missing(row)
        if not is_claimed:
            if row.attempts <= _ORDERED_ATTEMPTS:
                self._held |= missing
            return
        had, failed = self._sent(row, missing)
        self._held |= failed  # the next one may fare no better, and takes its time
        self._mark(row, had, failed)

    def _missing(self, row: Row[Any]) -> set[str]:
        return self._urls.keys() - set(json.loads(row.delivered_to))

    def _claim(self, message_id: int) -> tuple[Row[Any], bool] | None:
        """Takes a message, so that nobody else sends it until the claim is over; says whether that could be done.

        None stands for one that waits no more.
        """
        with self._db.unit_of_work() as uow:
            row = uow.connection.execute(_waiting().where(outbox.c.id == message_id)).first()
            if row is None:
                return None
            if row.next_attempt > uow.time:
                return row, False
            over = self._db.now() + timedelta(seconds=_SPARE_S + TIMEOUT_S * len(self._urls))
            values = {"attempts": row.attempts + 1, "next_attempt": format_time(over)}
            uow.connection.execute(update(outbox).where(outbox.c.id == message_id).values(**values))
            return row, True

    def _sent(self, row: Row[Any], missing: set[str]) -> tuple[set[str], set[str]]:
        """Sends a message to those that lack it, and returns which have taken it and which have not."""
        had, failed = set[str](), set[str]()
        body = row.payload.encode()
        for one in [one for one in self._urls if one in missing - self._held]:
            if self._is_over:
                break
            url = self._urls[one]
            problem = self._send(url, body, headers(row.id, body, self._secret, now_s=int(self._db.now().timestamp())))
            if problem:
                failed.add(one)
                self.problems[one] = f"webhook {shown_webhook(url)}: {problem}"
            else:
                had.add(one)
        return had, failed

    def _mark(self, row: Row[Any], had: set[str], failed: set[str]) -> None:
        """Writes down who has a message, beside whom others have told meanwhile, and when it is due again."""
        with self._db.unit_of_work() as uow:
            columns = outbox.c
            query = select(columns.delivered_to).where(columns.id == row.id, columns.delivered.is_(None))
            stored = uow.connection.execute(query).scalar_one_or_none()
            if stored is None:
                return
            all_had = had | set(json.loads(stored))
            is_done = self._urls.keys() <= all_had
            again = self._db.now() + timedelta(seconds=delay_s(row.attempts) if failed else 0.0)
            values = {
                "delivered_to": canonical_text(sorted(all_had)),
                "delivered": uow.time if is_done else None,
                "next_attempt": format_time(again),
            }
            if not had | failed:
                values["attempts"] = row.attempts  # the time was over before anybody was asked
            uow.connection.execute(update(outbox).where(columns.id == row.id).values(**values))
        self.delivered += is_done


def delay_s(attempts: int) -> float:
    """Returns after how long a message is sent again, in seconds: ever longer, and never at once with others."""
    return min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0**attempts) * random.uniform(0.75, 1.25)  # noqa: S311  # no secret


def _waiting() -> Any:
    columns = outbox.c
    query = select(columns.id, columns.payload, columns.delivered_to, columns.attempts, columns.next_attempt)
    return query.where(columns.delivered.is_(None), columns.attempts < MAX_ATTEMPTS)


def _has_due(db: Database) -> bool:
    with db.read() as connection:
        query = _waiting().where(outbox.c.next_attempt <= format_time(db.now())).limit(1)
        return connection.execute(query).first() is not None


def _mark_all(db: Database) -> int:
    with db.unit_of_work() as uow:
        result = uow.connection.execute(update(outbox).where(outbox.c.delivered.is_(None)).values(delivered=uow.time))
        return result.rowcount


def _forget(db: Database) -> None:
    """Removes what was delivered or given up long ago; the write lock is taken only where there is such a message."""
    before, columns = format_time(db.now() - timedelta(days=KEPT_DAYS)), outbox.c
    is_old = or_(columns.delivered < before, (columns.attempts >= MAX_ATTEMPTS) & (columns.created < before))
    with db.read() as connection:
        if connection.execute(select(columns.id).where(is_old).limit(1)).first() is None:
            return
    with db.unit_of_work() as uow:
        uow.connection.execute(delete(outbox).where(is_old))


def _counted(db: Database, *, delivered: int = 0, problems: Collection[str] = ()) -> Delivery:
    columns = outbox.c
    query = select(func.count()).select_from(outbox).where(columns.delivered.is_(None))
    with db.read() as connection:
        waiting = connection.execute(query.where(columns.attempts < MAX_ATTEMPTS)).scalar_one()
        given_up = connection.execute(query.where(columns.attempts >= MAX_ATTEMPTS)).scalar_one()
    return Delivery(delivered=delivered, waiting=waiting, given_up=given_up, problems=tuple(problems))
