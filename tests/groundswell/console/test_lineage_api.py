"""Lineage events that others post."""

import gzip
import json
import socket
import uuid
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from governance.access_token import Scope
from governance.identity import Role
from infra.access_tokens import create_token
from infra.home import Home
from infra.identities import create_identity, revoke_identity
from infra.ledger import iter_entries
from tests.console_server import Console
from tests.foreign_events import foreign_event

PATH = "/api/v1/lineage"


@pytest.fixture
def token(home: Home, admin: str) -> str:
    return create_token(home.database, identity_id=admin, scopes={Scope.LINEAGE}, days=1, actor=admin)[1]


def imports(home: Home) -> list:
    return list(iter_entries(home.database, action="lineage.imported"))


def test_an_event_is_recorded_once_with_its_entry_and_by_whom(home: Home, console: Console, admin: str, token: str) -> None:
    answer = console.post(PATH, foreign_event(1), token=token)
    assert (answer.status, answer.document["num_new"]) == (201, 1)
    [entry] = imports(home)
    assert (entry.index, entry.actor) == (answer.document["entry"], admin)
    assert entry.subject == f"lineage-import:{answer.document['sha256']}"
    again = console.post(PATH, foreign_event(1), token=token)
    assert (again.status, again.document["already_imported"]) == (200, True)
    assert len(imports(home)) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_openlineages_own_client_posts_to_it(home: Home, console: Console, token: str, packed: bool) -> None:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpCompression, HttpConfig, HttpTransport

    compression = HttpCompression.GZIP if packed else None
    config = HttpConfig(url=console.url, auth=ApiKeyTokenProvider({"apiKey": token}), retry={"total": 0}, compression=compression)
    client = OpenLineageClient(transport=HttpTransport(config))
    run = Run(runId=str(uuid.uuid4()))
    for state in (RunState.START, RunState.COMPLETE):
        client.emit(
            RunEvent(
                eventType=state,
                eventTime=datetime.now(UTC).isoformat(),
                run=run,
                job=Job(namespace="warehouse", name="crop"),
                outputs=[OutputDataset(namespace="s3://lake", name="tiles")],
                producer="https://warehouse.example/producer",
            )
        )
    assert [entry.details["producers"] for entry in imports(home)] == [{"https://warehouse.example/producer": 1}] * 2


@pytest.mark.parametrize("shown", ["", "nonsense", "gsw_000000000000_" + 64 * "0"])
def test_without_a_token_that_is_good_nothing_is_taken(home: Home, console: Console, token: str, shown: str) -> None:
    answer = console.post(PATH, foreign_event(), token=shown)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="groundswell"')
    assert imports(home) == []


def test_tokens_that_are_over_or_for_something_else_or_of_somebody_who_left_are_none(
    home: Home, console: Console, admin: str
) -> None:
    ada = create_identity(home.database, home.keys, name="Ada", role=Role.OPS, actor=admin).identity_id
    _, of_ada = create_token(home.database, identity_id=ada, scopes={Scope.LINEAGE}, days=1, actor=admin)
    _, to_read = create_token(home.database, identity_id=admin, scopes={Scope.READ}, days=1, actor=admin)
    assert console.post(PATH, foreign_event(), token=to_read).status == 401
    assert console.post(PATH, foreign_event(), token=of_ada).status == 201
    revoke_identity(home.database, identity_id=ada, actor=admin)
    assert console.post(PATH, foreign_event(2), token=of_ada).status == 401


def test_a_password_that_a_browser_would_add_by_itself_is_not_taken(console: Console, token: str) -> None:
    import base64

    basic = base64.b64encode(f"x:{token}".encode()).decode()
    assert console.post(PATH, foreign_event(), authorization=f"Basic {basic}").status == 401


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "the request holds no event"),
        (b"{", 400, "the request, line 1: it is no JSON"),
        (b"[1]", 400, "the request, line 1: no event begins here"),
        (b'{"eventTime": NaN}', 400, "the request, line 1: it holds NaN"),
        (json.dumps({**foreign_event(), "eventType": "ENDED"}).encode(), 400, "the request, line 1: eventType: "),
    ],
)
def test_what_is_no_event_is_refused_with_what_is_wrong(
    home: Home, console: Console, token: str, body: bytes, status: int, error: str
) -> None:
    answer = console.post(PATH, body, token=token)
    assert (answer.status, answer.document["error"][: len(error)]) == (status, error)
    assert imports(home) == []


def test_other_kinds_of_body_are_refused(console: Console, token: str) -> None:
    assert console.post(PATH, foreign_event(), token=token, content_type="text/plain").status == 415
    assert console.post(PATH, foreign_event(), token=token, content_encoding="br").status == 415
    assert console.get(PATH).status == 405


def test_events_may_be_compressed_and_what_unpacks_to_too_much_is_refused(home: Home, console: Console, token: str) -> None:
    def post(body: bytes) -> int:
        return console.post(PATH, body, token=token, content_encoding="gzip").status

    event = gzip.compress(json.dumps(foreign_event(1)).encode())
    assert post(event) == 201
    assert post(event[:-3]) == 400
    assert post(event + b"x") == 400
    assert post(b"{}") == 400
    assert post(gzip.compress(b" " * (64 << 20))) == 413
    assert len(imports(home)) == 1


def _send_100_megabytes(console: Console, token: str, headers: str, chunk: bytes) -> bytes:
    address = urlsplit(console.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        lines = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{lines}{headers}\r\n\r\n".encode())
        for _ in range(100):
            connection.sendall(chunk)
        if headers.startswith("Transfer"):
            connection.sendall(b"0\r\n\r\n")
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize("how", ["declared", "in chunks"])
def test_an_event_of_100_megabytes_is_refused_and_the_service_goes_on(home: Home, console: Console, token: str, how: str) -> None:
    mebibyte = b" " * (1 << 20)
    if how == "declared":
        answer = _send_100_megabytes(console, token, f"Content-Length: {100 << 20}", mebibyte)
    else:
        answer = _send_100_megabytes(console, token, "Transfer-Encoding: chunked", b"100000\r\n" + mebibyte + b"\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["error"] == "the body is larger than 1 MiB"
    assert console.post(PATH, foreign_event(), token=token).status == 201
    assert len(imports(home)) == 1
