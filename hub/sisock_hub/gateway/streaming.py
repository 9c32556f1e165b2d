"""Answers that are sent while they are generated."""

from collections.abc import AsyncGenerator
from typing import Any

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Send

from sisock.errors import SisockError


class EndsEarly(Exception):
    """An answer failed after its start: its connection is closed, so that it is not taken for complete."""


class Streamed(StreamingResponse):
    """An answer from a generator, which is closed as soon as the client disconnects.

    Raises
    ------
    EndsEarly
        If the generator raises a SisockError.
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
            # The client may have disconnected: the generator is closed all the same.
            with anyio.CancelScope(shield=True):
                await self.body_iterator.aclose()
