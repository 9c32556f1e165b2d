"""Whether the one who asks is still there: nobody else's turn is spent on an answer that nobody reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import anyio
from starlette.types import Receive

_asked_by: ContextVar[Receive | None] = ContextVar("asked_by", default=None)


@contextmanager
def asked_by(receive: Receive) -> Iterator[None]:
    """Say by whom all is asked that is asked in this context."""
    token = _asked_by.set(receive)
    try:
        yield
    finally:
        _asked_by.reset(token)


async def has_left() -> bool:
    """Whether the one who asks has gone; once the body of the request was read."""
    receive = _asked_by.get()
    if receive is None:
        return False
    with anyio.CancelScope() as scope:
        scope.cancel()  # take what is there, and wait for nothing
        return bool((await receive())["type"] == "http.disconnect")
    return False
