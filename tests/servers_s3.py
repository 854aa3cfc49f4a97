"""An S3 server for tests, in a process of its own, and a relay before it that counts, cuts and stalls."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

_START_TIMEOUT_S = 180.0
_REQUEST = re.compile(rb"(?:^|\r\n)(GET|PUT|POST|HEAD|DELETE) (\S+) HTTP/1\.[01]\r\n")
_S3_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "AWS_CA_BUNDLE",
    "AWS_PROFILE",
)


@dataclass(frozen=True)
class S3Server:
    """A running S3 server.

    Attributes:
        url: Its endpoint.
        access_key: An access key that it takes.
        secret_key: The key's secret.
    """

    url: str
    access_key: str = "canary-access-key-7f3a"
    secret_key: str = "canary-secret-key-91c5e2"

    def environment(self) -> dict[str, str]:
        """What a client's environment must hold."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A client that the product has no part in."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )

    def make_bucket(self) -> str:
        """Makes a bucket of its own for whoever asks, and returns its name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def require_signatures(self, required: bool) -> None:
        """Makes the server check every request's signature, as a real one does, or take any key again."""
        count = b"0" if required else b"inf"
        headers = {"Content-Type": "text/plain"}
        with urlopen(Request(f"{self.url}/moto-api/reset-auth", data=count, headers=headers, method="POST"), timeout=10):
            pass

    def keys(self, bucket: str) -> dict[str, int]:
        """Returns the sizes of all objects of a bucket, by key."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", ())}


def free_port() -> int:
    """Returns a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_healthy(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Waits until a server answers with success.

    Raises:
        RuntimeError: It ended, or did not answer in time.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")


def with_parent(signal_name: str) -> list[str]:
    """Returns the words before a command that end it with the process that starts it, even if that is killed."""
    return ["setpriv", "--pdeathsig", signal_name] if shutil.which("setpriv") else []


def stop_process_group(process: "subprocess.Popen[bytes]") -> None:
    """Ends a server at once, with its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


@contextmanager
def serve_s3(folder: Path) -> Iterator[S3Server]:
    """Runs a server, whose log goes to a folder."""
    port = free_port()
    log = folder / "s3.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*with_parent("KILL"), sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until_healthy(process, f"http://127.0.0.1:{port}/moto-api/", log)
        yield S3Server(url=f"http://127.0.0.1:{port}")
    finally:
        stop_process_group(process)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The S3 server of a test session; it keeps its objects in memory."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed: pip install 'moto[server]'")
    with serve_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with this process's environment set for it."""
    for name in _S3_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def s3_bucket(s3_environment: S3Server) -> str:
    """A bucket of the test's own, by name; the environment is set for its server."""
    return s3_environment.make_bucket()


@dataclass
class Relay:
    """Passes connections on to a server, and counts what it passes.

    Attributes:
        url: Where it listens.
        requests: The method and target of every request that went through.
        bytes_up: Bytes passed to the server.
        bytes_down: Bytes passed back.
        cut_up_after: Where set, every connection is cut once so many bytes went up.
        cut_down_after: Where set, every connection is cut once so many bytes came down.
        stalled: Whether it passes nothing on for now, and answers nothing.
    """

    url: str
    target: tuple[str, int]
    requests: list[tuple[str, str]] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    cut_up_after: int | None = None
    cut_down_after: int | None = None
    stalled: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Forgets what was counted, and passes everything on again."""
        with self._lock:
            self.requests.clear()
            self.bytes_up = self.bytes_down = 0
            self.cut_up_after = self.cut_down_after = None
            self.stalled = False

    def sent(self, method: str, pattern: str) -> list[str]:
        """Returns the targets of the requests of a method whose target matches a pattern."""
        with self._lock:
            return [target for made, target in self.requests if made == method and re.search(pattern, target)]

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.create_connection(self.target, timeout=10)
            except OSError:
                return
            with server:
                server.settimeout(None)
                back = threading.Thread(target=self._pump, args=(server, client, False), daemon=True)
                back.start()
                self._pump(client, server, True)
                back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        try:
            while block := source.recv(65_536):
                while self.stalled:
                    time.sleep(0.05)
                if not self._count(block, up):
                    break
                sink.sendall(block)
        except OSError:
            pass
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _count(self, block: bytes, up: bool) -> bool:
        """Takes a block into account; returns whether the connection may go on."""
        with self._lock:
            if up:
                self.bytes_up += len(block)
                self.requests += [(m[1].decode(), m[2].decode()) for m in _REQUEST.finditer(block)]
                return self.cut_up_after is None or self.bytes_up <= self.cut_up_after
            self.bytes_down += len(block)
            return self.cut_down_after is None or self.bytes_down <= self.cut_down_after


@contextmanager
def relay_to(url: str) -> Iterator[Relay]:
    """Runs a relay before a server."""
    host, _, port = url.rpartition("/")[2].partition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay(url=f"http://127.0.0.1:{listener.getsockname()[1]}", target=(host, int(port)))

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=relay._serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield relay
        finally:
            relay.stalled = False
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def s3_relay(s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """A relay before the server; this process's environment names the relay as the endpoint."""
    with relay_to(s3_environment.url) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", replace(s3_environment, url=relay.url).url)
        yield relay
