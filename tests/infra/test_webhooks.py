"""One message to one webhook: what a hostile receiver can do about it, and what a URL and a secret must be."""

import base64
import hashlib
import hmac
import re
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from infra.errors import BadSettingError
from infra.webhooks import check_url, headers, post, read_secret, shown_webhook
from tests.answering import answering

TOKEN = "token-1f2e3d4c"
HEADERS = {"content-length": "2"}


@contextmanager
def talking(talk: Callable[[socketserver.StreamRequestHandler], object], *, hears: bool = True) -> Iterator[str]:
    """Runs a server that hears a request and says what a function has it say, HTTP or not."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the sender goes away, as it should
                while hears and not self.rfile.readline().startswith(b"content-length"):
                    pass
                talk(self)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{TOKEN}?key={TOKEN}"
        server.shutdown()


def deal_out(beginning: bytes, crumb: bytes) -> Callable[[socketserver.StreamRequestHandler], None]:
    """Has a server begin an answer, and go on with it forever, a crumb at a time."""

    def talk(handler: socketserver.StreamRequestHandler) -> None:
        handler.wfile.write(beginning)
        while True:
            handler.wfile.write(crumb)
            time.sleep(0.05)

    return talk


def test_a_message_arrives_as_it_is_with_its_headers() -> None:
    got = []

    def answer(handler: object) -> None:
        got.append((handler.path, dict(handler.headers)))
        handler.reply(204)

    with answering(answer) as url:
        assert post(f"{url}/a%20b?x=1", b"{}", headers(7, b"{}", b"s" * 24, now_s=1674087231)) == ""
    ((path, given),) = got
    assert path == "/a%20b?x=1"
    assert given["content-type"] == "application/json"
    assert given["Host"] == url.removeprefix("http://")
    signed = f"{given['webhook-id']}.1674087231.{{}}".encode()
    assert given["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(b"s" * 24, signed, hashlib.sha256)).decode()
    assert "." not in given["webhook-id"]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (b"", "no HTTP|cannot be reached"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, "no HTTP"),
        (b"HTTP/1.1 200 " + b"x" * 100_000, "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n", "no HTTP"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 999 OK\r\n\r\n", "it answered 999"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "it answered 103"),
        (b"HTTP/1.1 301 Moved\r\nLocation: file:///etc/passwd\r\n\r\n", "it answered 301"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n", "^$"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz", "^$"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_a_hostile_receiver_says_is_a_line_at_most(said: bytes, problem: str) -> None:
    with talking(lambda handler: handler.wfile.write(said)) as url:
        found = post(url, b"{}", HEADERS, timeout_s=2)
    assert re.search(problem, found), found
    assert TOKEN not in found
    assert len(found) < 200


@pytest.mark.parametrize(
    ("talk", "problem"),
    [
        (deal_out(b"", b"H"), "it does not answer within 0.5 s"),
        (deal_out(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), ""),  # it has said that it took the message
        (deal_out(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "it does not answer within 0.5 s"),
        (lambda handler: time.sleep(20), "it does not answer within 0.5 s"),
    ],
    ids=["status", "headers", "continue", "silence"],
)
def test_an_answer_that_is_dealt_out_takes_no_longer_than_it_may(talk: Callable[..., object], problem: str) -> None:
    began = time.monotonic()
    with talking(talk) as url:
        assert post(url, b"{}", HEADERS, timeout_s=0.5) == problem
    assert time.monotonic() - began < 3


def test_a_body_without_end_is_not_read() -> None:
    with talking(deal_out(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)) as url:
        began = time.monotonic()
        assert post(url, b"{}", HEADERS, timeout_s=3) == ""
    assert time.monotonic() - began < 2


def test_no_proxy_of_the_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with answering(lambda handler: handler.reply(200)) as url:
        assert post(url, b"{}", HEADERS) == ""


@pytest.fixture
def certificate(tmp_path):
    files = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", files[0], "-out", files[1]]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no openssl here")
    return files


def test_a_certificate_is_verified(certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    key, pem = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)

    def talk(handler: socketserver.StreamRequestHandler) -> None:
        with context.wrap_socket(handler.connection, server_side=True) as secure:
            while not secure.recv(65536).endswith(b"{}"):
                pass
            secure.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with talking(talk, hears=False) as plain:
        url = plain.replace("http://127.0.0.1", "https://localhost")
        assert "certificate verify failed" in post(url, b"{}", HEADERS)
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        assert post(url, b"{}", HEADERS) == ""
        assert "certificate" in post(url.replace("localhost", "127.0.0.1"), b"{}", HEADERS)


@pytest.mark.parametrize(
    "url",
    ["ftp://host/x", "host/x", "http://", "file:///etc/passwd", "http://host:x/", "http://h/a b", "http://h/\n", "http://é/"],
)
def test_only_a_url_of_http_is_a_webhook(url: str) -> None:
    with pytest.raises(BadSettingError, match="no URL of http"):
        check_url(url)


def test_credentials_have_no_place_in_a_webhook() -> None:
    with pytest.raises(BadSettingError, match=r"host\.example has credentials") as caught:
        check_url(f"https://me:{TOKEN}@host.example/x")
    assert TOKEN not in f"{caught.value.diagnosis} {caught.value.hint}"


def test_a_webhook_is_shown_by_its_host_alone() -> None:
    assert shown_webhook(f"https://me:{TOKEN}@hooks.example:8443/{TOKEN}?x={TOKEN}") == "hooks.example:8443"


def test_a_secret_may_be_written_as_the_standard_writes_it(tmp_path) -> None:
    path = tmp_path / "secret"
    path.write_text("whsec_" + base64.b64encode(bytes(range(24))).decode() + "\n")
    path.chmod(0o600)
    assert read_secret(str(path)) == bytes(range(24))
    path.write_text("whsec_" + base64.b64encode(bytes(range(23))).decode())
    with pytest.raises(BadSettingError, match="shorter than 24 bytes"):
        read_secret(str(path))
    with pytest.raises(BadSettingError, match="no secret"):
        read_secret("")
