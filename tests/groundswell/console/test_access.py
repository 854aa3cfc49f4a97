"""Who may read, and what browsers are told."""

import base64
from pathlib import Path

import pytest

from governance.access_token import Scope
from infra.access_tokens import create_token, revoke_token
from infra.home import Home
from tests.console_server import Console, serving

PAGES = ("/", "/runs", "/models", "/lineage", "/audit", "/metrics", "/audit/0", "/runs/x", "/models/m/1", "/checkpoint")


def test_reading_takes_a_token_where_it_is_asked_for(home: Home, admin: str) -> None:
    made, token = create_token(home.database, identity_id=admin, scopes={Scope.READ}, days=1, actor=admin)
    password = base64.b64encode(f"anybody:{token}".encode()).decode()
    with serving(home, takes_token=True) as console:
        for path in PAGES:
            answer = console.get(path)
            assert answer.status == 401, path
            assert answer.headers["www-authenticate"].startswith("Basic realm="), path
        assert console.get("/healthz").status == 200
        assert console.get("/runs", authorization=f"Bearer {token}").status == 200
        assert console.get("/metrics", authorization=f"Basic {password}").status == 200
        for wrong in (f"Bearer {token[:-1]}0x", "Basic !", "Basic " + base64.b64encode(b"\xff").decode(), "Digest x"):
            assert console.get("/runs", authorization=wrong).status == 401
        revoke_token(home.database, token_id=made.token_id, actor=admin)
        assert console.get("/runs", authorization=f"Bearer {token}").status == 401


@pytest.mark.parametrize("path", ["/", "/style.css", "/nope", "/healthz", "/metrics", "/runs/x"])
def test_every_answer_says_what_browsers_are_to_hold_to(console: Console, path: str) -> None:
    headers = console.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_a_page_of_elsewhere_cannot_reach_a_local_console_by_a_name_of_its_own(console: Console) -> None:
    assert console.get("/runs", host="evil.example").status == 400
    assert console.get("/runs", host="localhost").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_pages_are_read_only(console: Console, method: str) -> None:
    assert all(console.get(path, method=method).status == 405 for path in PAGES)
    head = console.get("/runs", method="HEAD")
    assert (head.status, head.body) == (200, b"")


def test_whoever_shows_no_token_is_not_told_where_the_database_is(home: Home, tmp_path: Path) -> None:
    with serving(home, takes_token=True) as console:
        home.database.close()
        (home.path / "groundswell.db").rename(tmp_path / "away.db")
        (home.path / "groundswell.db").mkdir()
        ready = console.get("/readyz")
    assert ready.status == 503
    assert ready.document["error"] == "the database cannot be read"
    assert str(home.path) not in ready.text
