"""Answers that are sent while they are made."""

from collections.abc import AsyncGenerator
from typing import Any

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Send

from sisock.errors import SisockError


class EndsEarly(Exception):
    """An answer that has begun cannot go on: its connection is to be closed, so that it is not taken for whole."""


class Streamed(StreamingResponse):
    """An answer whose pieces come from a generator, which is closed as soon as nobody reads it any more.

    Raises
    ------
    EndsEarly
        If what it is made from fails.
    """

    body_iterator: AsyncGenerator[bytes]

    def __init__(self, pieces: AsyncGenerator[bytes], **how: Any) -> None:
        super().__init__(pieces, **how)

    async def stream_response(self, send: Send) -> None:
        """Send the pieces."""
        try:
            await super().stream_response(send)
        except SisockError as error:
            raise EndsEarly(error.message) from error
        finally:
            # Who reads may have left: what is under way is ended all the same.
            with anyio.CancelScope(shield=True):
                await self.body_iterator.aclose()
