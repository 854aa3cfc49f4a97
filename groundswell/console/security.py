"""Headers of every answer, and who may read."""

import base64
import binascii
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from governance.access_token import Scope as TokenScope
from governance.identity import Identity
from groundswell.console.problems import Refusal
from infra.access_tokens import who_shows
from infra.home import Home

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CHALLENGE = 'Basic realm="groundswell: any user name, and a token as password", charset="UTF-8", Bearer realm="groundswell"'


class SecurityHeaders:
    """Adds what browsers are to hold to, where an answer does not say something of its own.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


@dataclass(frozen=True)
class Access:
    """Who may do what.

    Attributes:
        home: The home whose identities act.
        takes_token: Whether reading takes a token.
    """

    home: Home
    takes_token: bool

    def require_reader(self, request: Request) -> None:
        """Lets a reader through.

        Raises:
            Refusal: Reading takes a token, and none that is good for it was shown.
            BackendUnavailableError: The database cannot be asked.
        """
        if not self.takes_token:
            return
        shown = _shown(request.headers, basic=True)
        if shown is None or who_shows(self.home.database, shown, TokenScope.READ) is None:
            raise Refusal(
                401,
                "reading takes a token" if shown is None else "the token is none, is over, or is not for reading",
                hint="groundswell identity token create IDENTITY --for read",
                headers={"WWW-Authenticate": _CHALLENGE},
            )

    def require_lineage_writer(self, request: Request) -> Identity:
        """Returns who records lineage; always takes a token, and never one that a browser adds by itself.

        Raises:
            Refusal: None that is good for it was shown.
            BackendUnavailableError: The database cannot be asked.
        """
        shown = _shown(request.headers, basic=False)
        owner = who_shows(self.home.database, shown, TokenScope.LINEAGE) if shown is not None else None
        if owner is None:
            raise Refusal(
                401,
                "recording lineage takes a token: Authorization: Bearer TOKEN"
                if shown is None
                else "the token is none, is over, or is not for lineage",
                hint="groundswell identity token create IDENTITY --for lineage",
                headers={"WWW-Authenticate": 'Bearer realm="groundswell"'},
            )
        return owner


def _shown(headers: Headers, *, basic: bool) -> str | None:
    """Returns the token of a request; as a password, too, which is how browsers ask for one."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    value = value.strip()
    if kind.lower() == "bearer":
        return value
    if not basic or kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
