"""Authentication and access control of every request and every WebSocket."""

import asyncio
import base64
import binascii
import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sisock.errors import Busy
from sisock.settings import is_loopback
from sisock.site import GatewaySecrets, GatewaySettings
from sisock_hub.gateway.disconnects import serving
from sisock_hub.gateway.passwords import Passwords
from sisock_hub.gateway.signing import Signer
from sisock_hub.gateway.streaming import EndsEarly

log = logging.getLogger(__name__)

COOKIE = "sisock_session"
MOST_BODY = 1_000_000
"""Most bytes of a request's body."""
_TOO_LARGE = f"the body of a request must not exceed {MOST_BODY:,} bytes; send less"
OPEN = frozenset({"/healthz", "/readyz", "/prometheus/-/healthy", "/prometheus/-/ready", "/login", "/logout", "/"})
"""Paths that need no login: they reveal nothing about nodes, or are the login itself."""
_OPEN_BELOW = "/console/"
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Principal:
    """The account of a request, and its rights."""

    name: str | None
    """None where no login is needed."""
    operator: bool
    """Whether it may call procedures of nodes."""
    may_ask: bool = True
    """Whether it may read data; without a login only the paths in `OPEN` are served."""

    def as_argument(self) -> dict[str, str]:
        """Return its form in calls of nodes, the argument ``_principal``."""
        return {"user": self.name or "anonymous", "role": "operator" if self.operator else "consumer"}


class AuthMiddleware:
    """ASGI middleware that refuses requests without access, and sets ``scope["principal"]``.

    A page of another site cannot send requests in its reader's name: requests that change something, and every
    WebSocket, must come from a page of the gateway, of an origin in the settings, or from no page at all. Without
    logins the host must be a name of this machine, so that no other name can be made to resolve to it.

    Parameters
    ----------
    app : callable
    settings : GatewaySettings
    secrets : GatewaySecrets
    passwords : Passwords
    signer : Signer
    """

    def __init__(
        self, app: ASGIApp, settings: GatewaySettings, secrets: GatewaySecrets, passwords: Passwords, signer: Signer
    ) -> None:
        self._app, self._settings, self._secrets = app, settings, secrets
        self._passwords, self._signer = passwords, signer
        self._needs_login = bool(secrets.users or secrets.tokens)
        self._anybody = Principal(None, settings.operator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            principal = await self._principal(headers, address_of(scope))
        except Busy as error:
            await _refuse(scope, receive, send, 503, error.name, error.message)
            return
        if refusal := self._refusal(scope, headers, principal):
            await _refuse(scope, receive, send, *refusal)
            return
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}  # the server sends no body
        scope["principal"] = principal or Principal(None, operator=False, may_ask=False)
        receive = _limited(receive)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = False

        async def sent(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            with serving(receive):
                await self._app(scope, receive, sent)
        except EndsEarly as error:
            log.error("the answer to %s ends early: %s", scope["path"], error)
        except asyncio.CancelledError:  # the time that uvicorn waits for answers at its end is over
            if not began:
                await _refuse(scope, receive, send, 503, "busy", "the gateway stops; retry when it has been restarted")

    def _refusal(self, scope: Scope, headers: Headers, principal: Principal | None) -> tuple[int, str, str] | None:
        """Return status, name and message of the error of a request; None if it is accepted."""
        host = headers.get("host", "")
        if not self._needs_login and not is_loopback(_host_name(host)):
            return 400, "bad_request", f"host {host!r} is not this machine; use localhost or its address"
        is_safe = scope["type"] == "http" and scope["method"] in _SAFE
        if not is_safe and not self._is_ours(headers) and not self._has_token(headers):
            return 403, "not_allowed", "the request comes from a page of another site"
        if principal is None and scope["path"] not in OPEN and not scope["path"].startswith(_OPEN_BELOW):
            return 401, "not_allowed", "a login is needed: log in, or send a token as `Authorization: Bearer <token>`"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BODY:
            return 413, "too_large", _TOO_LARGE
        return None

    def _is_ours(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:  # no browser, or one that sends the origin in another header
            return headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        return origin.partition("://")[2] == headers.get("host") or origin in self._settings.cors

    def _has_token(self, headers: Headers) -> bool:
        """Return whether a request has a token, which no browser sends by itself."""
        return self._needs_login and headers.get("authorization", "").lower().startswith("bearer ")

    async def _principal(self, headers: Headers, address: str) -> Principal | None:
        if not self._needs_login:
            return self._anybody
        kind, _, sent = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._by_token(sent.strip())
        if kind.lower() == "basic":
            return await self._by_password(sent.strip(), address)
        session = self._signer.session(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))
        if session is None or session[1] != self._passwords.fingerprint(session[0]):
            return None
        return Principal(session[0], self._secrets.users[session[0]].operator and self._settings.operator)

    def _by_token(self, sent: str) -> Principal | None:
        for name, token in self._secrets.tokens.items():
            if _same(sent, token.get_secret_value()):
                return Principal(name, operator=False)
        return None

    async def _by_password(self, sent: str, address: str) -> Principal | None:
        try:
            name, _, password = base64.b64decode(sent, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        if not await self._passwords.hold(name, password, address):
            return None
        return Principal(name, self._secrets.users[name].operator and self._settings.operator)


def address_of(scope: Scope) -> str:
    """Return the network address of a request's client; empty if it is unknown."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _host_name(host: str) -> str:
    """Return the name in a ``Host`` header; empty if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same(sent: str, secret: str) -> bool:
    return hmac.compare_digest(sent.encode(), secret.encode())


def _limited(receive: Receive) -> Receive:
    """Refuse a body that is longer than its header states, or has no stated length, at the limit."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > MOST_BODY:
                raise HTTPException(413, _TOO_LARGE)
        return message

    return limited


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, name: str, text: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4000 + status, "reason": text})
        return
    body = orjson.dumps({"error": name, "message": text})
    headers: Mapping[bytes, bytes] = {b"content-type": b"application/json", b"content-length": str(len(body)).encode()}
    if status == 401:
        # Not `Basic`: a browser would show a login window of its own.
        headers = {**headers, b"www-authenticate": b'Bearer realm="sisock"'}
    await send({"type": "http.response.start", "status": status, "headers": list(headers.items())})
    await send({"type": "http.response.body", "body": body})
