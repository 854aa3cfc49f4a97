"""A console that serves a home of a test's own, on a port of its own, in a thread."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from groundswell.console.server import bind, make_server
from infra.home import Home

_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Console:
    """A console that answers."""

    url: str

    def get(self, path: str, *, method: str = "GET", data: bytes | None = None, **headers: str) -> Answer:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=names)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def post(self, path: str, body: Any, *, token: str = "", **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content_type": "application/json", **({"authorization": f"Bearer {token}"} if token else {}), **headers}
        return self.get(path, method="POST", data=data, **given)


@contextmanager
def serving(home: Home, *, host: str = "127.0.0.1", takes_token: bool = False) -> Iterator[Console]:
    """Serves a home to the end of the block."""
    with bind("127.0.0.1", 0) as listener:
        server = make_server(home, host, takes_token=takes_token)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + _TIMEOUT_S
            while not server.started and thread.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            yield Console(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join(_TIMEOUT_S)
    assert not thread.is_alive()
