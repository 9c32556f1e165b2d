"""The followings of a consumer, which share their turns at the histories of nodes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from sisock.consumer.delivered import Position
from sisock.consumer.following import Following
from sisock.consumer.merged import Merged, merged
from sisock.consumer.node_requests import NodeRequests, Request
from sisock.fields import Field
from sisock.patterns import matching
from sisock.timelike import Time, as_start
from sisock.times import Clock

# Large answers that are fetched at the same time, of all nodes that a consumer follows in an event loop.
_FETCHES = 2

Fields = str | Sequence[str] | Callable[[Field], bool] | None
"""Names or patterns of fields, or whether a field is meant; None for all."""


class Followings:
    """Makes the followings of a consumer; the parameters are those of `Consumer.follow`.

    Parameters
    ----------
    request : callable
        Sends requests.
    timeout_s : callable
        Returns how long an answer may take, in seconds.
    """

    def __init__(self, request: Request, timeout_s: Callable[[], float]) -> None:
        self._requests = NodeRequests(request, timeout_s)
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None

    def follow(
        self,
        node: str,
        timeline: str,
        start: Time | None,
        position: Position | Mapping[str, Any] | None,
        fields: Fields = None,
        *,
        clock: Clock,
        **more: Any,
    ) -> Following:
        """Return the following of a timeline.

        Raises
        ------
        BadRequest
            If `start` is not a time, or the position is of another timeline or cannot be read.
        """
        if position is not None and not isinstance(position, Position):
            position = Position.from_dict(position)
        first = None if start is None else as_start(start)
        if first is not None and first <= 0:
            first += clock.now()
        if fields is not None:
            more["fields"] = fields if callable(fields) else _chosen(fields)
        return Following(
            self._requests, node, timeline, self._turns_here, start=first, position=position, clock=clock, **more
        )

    def merged(
        self,
        timelines: Sequence[tuple[str, str]],
        start: Time | None,
        patience_s: float,
        *,
        wait: bool,
        clock: Clock,
    ) -> AsyncGenerator[Merged, None]:
        """Return the followings of several timelines, merged."""
        followings = [self.follow(*each, start, None, wait=wait, clock=clock) for each in timelines]
        return merged(followings, patience_s, clock)

    def _turns_here(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = (loop, asyncio.Semaphore(_FETCHES))
        return self._turns[1]


def _chosen(fields: str | Sequence[str]) -> Callable[[Field], bool]:
    patterns = (fields,) if isinstance(fields, str) else tuple(fields)
    return lambda field: any(matching(pattern, [field.name]) for pattern in patterns)
