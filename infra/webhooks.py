"""Webhooks: whom they are, and how one message reaches one of them.

Headers and signature are those of Standard Webhooks
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md). What a receiver answers is believed
in nothing but its status: no redirect is followed, no body is read, and an answer takes no longer than it may, however slowly it
is dealt out. No proxy is asked for.
"""

import base64
import binascii
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from infra.errors import BadSettingError
from infra.key_files import read_private_file

TIMEOUT_S: Final = 5.0
_MIN_SECRET_BYTES = 24
_PREFIX = "whsec_"
_PORTS = {"http": 80, "https": 443}
_MAX_REASON = 120


def webhook_id(url: str) -> str:
    """Returns what stands for a webhook in the database, where its URL, which may hold a token, does not."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def shown_webhook(url: str) -> str:
    """Returns a webhook as messages name it: its host alone, for path and query may be a token."""
    return urlsplit(url).netloc.rpartition("@")[2]


def check_url(url: str) -> None:
    """Checks that a webhook is a URL of http or https, and names nobody who logs in.

    Raises:
        BadSettingError: It is not, or does.
    """
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable()
    except ValueError:
        is_sound = False
    if not is_sound or " " in url:
        raise BadSettingError("a webhook is no URL of http or https", hint='webhooks = "https://host/path, https://other/path"')
    if "@" in parts.netloc:
        raise BadSettingError(
            f"the webhook {shown_webhook(url)} has credentials in its URL",
            hint="leave them out: every message is signed with the secret, by which a receiver knows the sender",
        )


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
        except binascii.Error:
            raise BadSettingError(f"the webhook secret {path} begins with {_PREFIX} and is no base64") from None
    if len(secret) < _MIN_SECRET_BYTES:
        raise BadSettingError(f"the webhook secret {path} is shorter than {_MIN_SECRET_BYTES} bytes")
    return secret


def headers(message_id: int, body: bytes, secret: bytes, *, now_s: int) -> dict[str, str]:
    """Returns the headers of a message, with its signature.

    Args:
        message_id: Its number; a restored database may give it to another message, so the body's digest is in the name too.
        body: What is posted.
        secret: What it is signed with.
        now_s: When it is sent, in seconds since 1970.
    """
    name = f"msg_{message_id}_{hashlib.sha256(body).hexdigest()[:24]}"
    signature = hmac.new(secret, f"{name}.{now_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "user-agent": "groundswell",
        "webhook-id": name,
        "webhook-timestamp": str(now_s),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def post(url: str, body: bytes, given: dict[str, str], *, timeout_s: float = TIMEOUT_S) -> str:
    """Posts a message.

    Args:
        url: A webhook that was checked.
        body: The message.
        given: Its headers.
        timeout_s: How long all of it may take, but for the look-up of the host's address.

    Returns:
        Why that failed; "" where it did not.
    """
    parts = urlsplit(url)
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    deadline = time.monotonic() + timeout_s
    try:
        with _connected(parts, timeout_s) as connection:
            connection.request("POST", target, body=body, headers=given)
            status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
            return f"it does not answer within {timeout_s:.2g} s"
        if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
            return "what it answers is no HTTP"
        return f"it cannot be reached: {' '.join(str(error).split())[:_MAX_REASON]}"
    return "" if 200 <= status < 300 else f"it answered {status}"


@contextmanager
def _connected(parts: SplitResult, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
    """Connects to a host, and cuts the connection when the time is over, whatever goes on: a byte that comes renews nothing."""
    host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
    plain = socket.create_connection((host, port), timeout=timeout_s)
    with plain.dup() as same:
        cut = threading.Timer(timeout_s, _shut, [same])
        cut.daemon = True
        cut.start()
        connection = http.client.HTTPConnection(host, port)
        connection.default_port = _PORTS[parts.scheme]
        try:
            connection.sock = plain
            if parts.scheme == "https":
                connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
            yield connection
        finally:
            cut.cancel()
            connection.close()


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
