"""Messages about promotions reach webhooks: signed as the standard says, at least once, and none that was rolled back."""

import base64
import hashlib
import hmac
import json
import re
import threading
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, update

from governance.promotion.state import RuleError
from infra.database import utc_now
from infra.errors import BackendUnavailableError, BadSettingError
from infra.promotion.delivery import MAX_ATTEMPTS, delay_s, deliver_waiting
from infra.promotion.metrics import FILE, write_promotion_metrics
from infra.tables import outbox

SECRET = b"0123456789abcdef0123456789abcdef"
DOCS = Path(__file__).parents[3] / "docs" / "OPERATIONS.md"


class Receiver:
    """A webhook that answers as it is told and keeps what it got."""

    def __init__(self):
        self.answers = []
        self.got = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.answers.pop(0) if receiver.answers else 204
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
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?token=abc"


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def told(world, receiver, tmp_path):
    """The world, with the receiver as its webhook."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    settings = replace(world.home.settings, webhooks=(receiver.url,), webhook_secret_file=str(secret))
    object.__setattr__(world.home, "settings", settings)
    return world


def waiting(world):
    with world.db.read() as connection:
        return connection.execute(select(outbox.c.attempts).where(outbox.c.delivered.is_(None))).scalars().all()


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
    receiver.server.shutdown()
    receiver.server.server_close()
    (problem,) = deliver_waiting(told.home, budget_s=20).problems
    assert "cannot be reached" in problem
    assert "token" not in problem


def test_a_deliverer_that_dies_after_sending_leaves_it_to_be_sent_again(told, receiver):
    told.request(1)

    def die(url, body, headers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver_waiting(told.home, budget_s=20, send=die)
    assert waiting(told) == [1]
    later(told, seconds=10)
    assert deliver_waiting(told.home, budget_s=20).delivered == 1


def test_two_deliverers_do_not_send_the_same(told, receiver):
    told.promote(1)
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

    def fail():
        raise BackendUnavailableError("gone")

    with pytest.raises(BackendUnavailableError), world.db.unit_of_work():
        fail()
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
