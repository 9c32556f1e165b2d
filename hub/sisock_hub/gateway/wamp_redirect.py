"""Answers WAMP clients that connect to the gateway with the address of the router."""

from starlette.types import ASGIApp, Receive, Scope, Send

from sisock.wamp.connection import ROUTER_HEADER

_EXTENSION = "websocket.http.response"


class WampRedirect:
    """ASGI middleware that answers WAMP clients with the address of the router.

    Parameters
    ----------
    app : callable
    router : str
        The address of the router.
    """

    def __init__(self, app: ASGIApp, router: str) -> None:
        self._app, self._router = app, router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else on."""
        is_wamp = scope["type"] == "websocket" and any(each.startswith("wamp.") for each in scope["subprotocols"])
        if not is_wamp or _EXTENSION not in scope.get("extensions", {}):
            await self._app(scope, receive, send)
            return
        await receive()
        headers = [(b"content-type", b"text/plain"), (ROUTER_HEADER.encode(), self._router.encode())]
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        body = f"This is a sisock gateway, not a router; the router's address is {self._router}\n"
        await send({"type": "websocket.http.response.body", "body": body.encode()})
