"""Whether the client of the current request has disconnected, so that no query is spent on an answer nobody reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import anyio
from starlette.types import Receive

_receive: ContextVar[Receive | None] = ContextVar("receive", default=None)


@contextmanager
def serving(receive: Receive) -> Iterator[None]:
    """Make `receive` the channel by which the client of this context is known."""
    token = _receive.set(receive)
    try:
        yield
    finally:
        _receive.reset(token)


async def client_disconnected() -> bool:
    """Return whether the client has disconnected; to be called after the request's body was read."""
    receive = _receive.get()
    if receive is None:
        return False
    with anyio.CancelScope() as scope:
        scope.cancel()  # take a message that has arrived, and wait for none
        return bool((await receive())["type"] == "http.disconnect")
    return False
