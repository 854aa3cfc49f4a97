"""Messages about promotions reach webhooks: signed as the standard says, at least once, and none that was rolled back."""

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, update

from governance.promotion.state import RuleError
from infra.database import Database, utc_now
from infra.errors import BackendUnavailableError, BadSettingError
from infra.promotion.delivery import KEPT_DAYS, MAX_ATTEMPTS, delay_s, deliver_waiting
from infra.promotion.metrics import FILE, write_promotion_metrics
from infra.tables import outbox
from tests.canary import assert_no_secret, assert_no_secret_in_tables

SECRET = b"canary-0123456789abcdef0123456789abcdef"
TOKEN = "canary-f3a1b2c4d5"
DOCS = Path(__file__).parents[3] / "docs" / "OPERATIONS.md"


class Receiver:
    """A webhook that answers as it is told and keeps what it got."""

    def __init__(self):
        self.answers = []
        self.got = []
        self.refused = None  # a message that holds this
        self.hook = None  # called with a message before it is answered
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                if receiver.hook:
                    receiver.hook(body)
                status = receiver.answers.pop(0) if receiver.answers else 204
                if receiver.refused and receiver.refused in body:
                    status = 422
                self.send_response(status)
                if status == 302:
                    self.send_header("location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
                self.end_headers()
                if status == 500:
                    self.wfile.write(b"x" * 1_000_000)

            do_GET = do_POST  # noqa: N815 - the name is http.server's

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?token={TOKEN}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def told(world, receiver, tmp_path):
    """The world, with the receiver as its webhook."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    use(world, receiver.url, webhook_secret_file=str(secret))
    return world


def use(world, *urls, **settings):
    object.__setattr__(world.home, "settings", replace(world.home.settings, webhooks=urls, **settings))


def waiting(world):
    with world.db.read() as connection:
        query = select(outbox.c.attempts).where(outbox.c.delivered.is_(None)).order_by(outbox.c.id)
        return connection.execute(query).scalars().all()


def later(world, **time):
    now = utc_now() + timedelta(**time)
    world.db._clock = lambda: now


def test_each_change_is_told_once_in_order_and_signed_as_the_standard_says(told, receiver):
    told.promote(1)
    done = deliver_waiting(told.home, budget_s=20)
    assert (done.delivered, done.waiting, done.given_up, done.problems) == (4, 0, 0, ())
    kinds = [json.loads(body)["type"] for _, body in receiver.got]
    assert kinds == ["promotion.requested", "promotion.approved", "promotion.approved", "promotion.applied"]
    for given, body in receiver.got:
        signed = f"{given['webhook-id']}.{given['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
        assert given["webhook-signature"] == f"v1,{expected}"
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 4
    assert deliver_waiting(told.home, budget_s=20).delivered == 0
    assert len(receiver.got) == 4


@pytest.mark.parametrize("status", [500, 302, 404, 410])
def test_what_is_not_taken_is_sent_again_later_with_the_same_id(told, receiver, status):
    told.request(1)
    receiver.answers = [status]
    failed = deliver_waiting(told.home, budget_s=20)
    assert (failed.delivered, failed.waiting) == (0, 1)
    assert failed.problems == (f"webhook 127.0.0.1:{receiver.server.server_address[1]}: it answered {status}",)
    assert deliver_waiting(told.home, budget_s=20).delivered == 0  # not due yet
    later(told, seconds=10)
    assert deliver_waiting(told.home, budget_s=20).delivered == 1
    assert len(receiver.got) == 2
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_a_receiver_that_is_gone_is_one_line_without_the_token(told, receiver):
    told.request(1)
    receiver.close()
    (problem,) = deliver_waiting(told.home, budget_s=20).problems
    assert "cannot be reached" in problem
    assert TOKEN not in problem


def test_a_deliverer_that_dies_after_sending_leaves_it_to_be_sent_again(told, receiver):
    told.request(1)

    def die(url, body, headers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver_waiting(told.home, budget_s=20, send=die)
    assert waiting(told) == [1]
    assert deliver_waiting(told.home, budget_s=20).delivered == 0  # the claim is not over
    later(told, seconds=90)
    assert deliver_waiting(told.home, budget_s=20).delivered == 1


def test_a_process_killed_while_it_sends_leaves_it_to_be_sent_again(told, receiver):
    told.request(1)
    killed = []

    def kill(body):
        killed.append(process.pid)
        process.kill()
        process.wait()

    receiver.hook = kill
    settings = told.home.settings
    environment = {
        "GROUNDSWELL_DATABASE_URL": settings.database_url,
        "GROUNDSWELL_WEBHOOKS": receiver.url,
        "GROUNDSWELL_WEBHOOK_SECRET_FILE": settings.webhook_secret_file,
    }
    command = [sys.executable, "-m", "groundswell.cli.main", "--home", str(settings.home), "notify"]
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert process.wait(60) == -signal.SIGKILL
    receiver.hook = None
    assert killed
    assert deliver_waiting(told.home, budget_s=20).delivered == 0
    later(told, seconds=90)
    assert deliver_waiting(told.home, budget_s=20).delivered == 1
    assert len({given["webhook-id"] for given, _ in receiver.got}) == 1
    assert len({body for _, body in receiver.got}) == 1


def kinds_of(receiver):
    return [json.loads(body)["type"].removeprefix("promotion.") for _, body in receiver.got]


def test_later_messages_wait_behind_one_that_is_not_taken(told, receiver):
    told.promote(1)
    receiver.answers = [503]
    assert deliver_waiting(told.home, budget_s=20).waiting == 4
    assert kinds_of(receiver) == ["requested"]
    assert waiting(told) == [1, 0, 0, 0]
    later(told, seconds=1)
    assert deliver_waiting(told.home, budget_s=20).delivered == 0
    later(told, seconds=10)
    assert deliver_waiting(told.home, budget_s=20).delivered == 4
    assert kinds_of(receiver)[1:] == ["requested", "approved", "approved", "applied"]


def test_a_message_that_is_never_taken_is_overtaken_in_the_end(told, receiver):
    told.promote(1)
    receiver.refused = b"promotion.requested"
    elapsed = 0.0
    while len(waiting(told)) > 1 and elapsed < 3600:
        elapsed += 20
        later(told, seconds=elapsed)
        deliver_waiting(told.home, budget_s=20)
    assert 600 < elapsed < 3600
    (attempts,) = waiting(told)
    assert attempts == kinds_of(receiver).count("requested") > 5
    assert [kind for kind in kinds_of(receiver) if kind != "requested"] == ["approved", "approved", "applied"]


def test_one_webhook_that_is_away_keeps_nothing_from_another(told, receiver):
    away = Receiver()
    away.close()
    use(told, away.url, receiver.url)
    told.promote(1)
    done = deliver_waiting(told.home, budget_s=20)
    assert (done.delivered, done.waiting, len(done.problems)) == (0, 4, 1)
    assert kinds_of(receiver) == ["requested", "approved", "approved", "applied"]
    use(told, receiver.url)  # the other is no webhook any more
    later(told, seconds=10)
    assert deliver_waiting(told.home, budget_s=20).delivered == 4
    assert len(receiver.got) == 4


def test_a_webhook_that_does_not_answer_costs_a_command_no_more_than_its_budget(told, receiver):
    told.promote(1)
    receiver.hook = lambda body: time.sleep(3)
    began = time.monotonic()
    done = deliver_waiting(told.home, budget_s=1.0)
    assert time.monotonic() - began < 2.5
    assert done.waiting == 4
    assert "does not answer" in done.problems[0]


def test_no_time_is_no_attempt(told, receiver):
    told.request(1)
    assert deliver_waiting(told.home, budget_s=0).waiting == 1
    assert waiting(told) == [0]
    assert not receiver.got


def test_who_comes_too_late_takes_nothing_back(told, receiver):
    """A deliverer that was stopped longer than its claim finds that another has delivered its message."""
    told.request(1)

    def stopped(url, body, headers):
        later(told, seconds=90)
        assert deliver_waiting(told.home, budget_s=20).delivered == 1
        return "it answered 500"

    done = deliver_waiting(told.home, budget_s=20, send=stopped)
    assert (done.delivered, done.waiting) == (0, 0)
    assert waiting(told) == []


@pytest.mark.parametrize("given_up", [False, True])
def test_what_is_settled_is_forgotten_after_some_time(told, receiver, given_up):
    told.request(1)
    if given_up:
        with told.db.engine.begin() as connection:
            connection.execute(update(outbox).values(attempts=MAX_ATTEMPTS))
    deliver_waiting(told.home, budget_s=20)
    for days, num_kept in ((KEPT_DAYS - 1, 1), (KEPT_DAYS + 1, 0)):
        later(told, days=days)
        deliver_waiting(told.home, budget_s=20)
        with told.db.read() as connection:
            assert len(connection.execute(select(outbox.c.id)).all()) == num_kept


def test_neither_secret_nor_token_is_left_anywhere(told, receiver, tmp_path):
    told.promote(1)
    receiver.answers = [500]
    problems = deliver_waiting(told.home, budget_s=20).problems
    later(told, seconds=10)
    deliver_waiting(told.home, budget_s=20)
    assert SECRET.decode() not in repr((problems, told.home.settings))
    assert TOKEN not in repr((problems, told.home.settings))
    for secret in (SECRET.decode(), TOKEN):
        assert_no_secret(told.home.path, secret)
        assert_no_secret_in_tables(told.home.settings.database_url, secret)


def test_two_deliverers_do_not_send_the_same(told, receiver):
    told.promote(1)
    receiver.hook = lambda body: time.sleep(0.2)
    both = [threading.Thread(target=deliver_waiting, args=(told.home,), kwargs={"budget_s": 20}) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(receiver.got) == 4
    assert waiting(told) == []


def test_it_is_given_up_at_last_and_waits_ever_longer(told):
    told.request(1)
    with told.db.engine.begin() as connection:
        connection.execute(update(outbox).values(attempts=MAX_ATTEMPTS))
    assert deliver_waiting(told.home, budget_s=20).given_up == 1
    delays = [delay_s(attempts) for attempts in range(MAX_ATTEMPTS)]
    assert delays[0] < 7
    assert max(delays) <= 4500
    assert 24 * 3600 < sum(delays) < 48 * 3600


def test_what_was_rolled_back_is_told_to_nobody(told, receiver):
    promotion = told.request(1)
    with pytest.raises(RuleError):
        told.approve(promotion, "Ada")
    deliver_waiting(told.home, budget_s=20)
    assert [json.loads(body)["type"] for _, body in receiver.got] == ["promotion.requested"]


def test_without_a_webhook_nothing_waits(world):
    world.promote(1)
    assert len(waiting(world)) == 4
    assert deliver_waiting(world.home, budget_s=20).waiting == 0


@pytest.mark.parametrize("content", [b"", b"short", b"whsec_###"])
def test_a_secret_that_is_none_is_refused(told, content):
    told.request(1)
    path = Path(told.home.settings.webhook_secret_file)
    path.write_bytes(content)
    with pytest.raises(BadSettingError, match="webhook secret"):
        deliver_waiting(told.home, budget_s=20)
    path.write_bytes(SECRET)
    path.chmod(0o644)
    with pytest.raises(BadSettingError, match="read by others"):
        deliver_waiting(told.home, budget_s=20)


def test_the_metrics_tell_what_waits_what_lapses_and_what_was_refused(world):
    world.promote(1)
    with pytest.raises(RuleError):
        world.approve(world.request(2), "Ada")

    other = Database.open(world.home.settings.database_url, busy_timeout_s=0.05)
    other.on_failure = world.db.on_failure
    with world.db.unit_of_work(), pytest.raises(BackendUnavailableError, match="locked"), other.unit_of_work():
        pass
    other.close()
    with pytest.raises(BackendUnavailableError, match="of another"), world.db.unit_of_work():
        raise BackendUnavailableError("a failure of another service")
    write_promotion_metrics(world.home)
    families = {one.name: one for one in text_string_to_metric_families((world.home.metrics / FILE).read_text())}
    found = {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert found["groundswell_promotion_pending", ("emoji-dit", "production")] == 1
    assert found["groundswell_promotion_refused_total", ("approve", "production", "role")] == 1
    assert found["groundswell_audit_append_failures_total", ()] == 1
    since = found["groundswell_champion_since_timestamp_seconds", ("1", "emoji-dit", "production")]
    expires = found["groundswell_champion_expires_timestamp_seconds", ("1", "emoji-dit", "production")]
    assert expires - since == pytest.approx(180 * 86_400, abs=1)
    assert abs(since - utc_now().timestamp()) < 600
    described = set(re.findall(r"^\| `(groundswell_\w+)` \| (?:gauge|counter)", DOCS.read_text(), re.MULTILINE))
    assert {sample.name for family in families.values() for sample in family.samples} == described
