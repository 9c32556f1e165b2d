"""Subscriptions of clients to samples, changes of runs, and events."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sisock.downsample import method_named
from sisock.errors import BadRequest
from sisock.event import Severity
from sisock_hub.gateway.array_values import MOST_VALUES, ArrayLimit, ArrayMethod
from sisock_hub.gateway.event_feeds import EventFeeds, Selection
from sisock_hub.gateway.live import MOST_FIELDS, Live, Update
from sisock_hub.gateway.run_feeds import RunFeeds
from sisock_hub.gateway.watch import Event, Watch


class Subscribe(BaseModel):
    """A message of a client of the WebSocket."""

    model_config = ConfigDict(extra="forbid")

    op: Literal["subscribe", "unsubscribe"]
    id: str = Field(max_length=100)
    """The client's own name for the subscription."""
    node: str | None = Field(None, max_length=200)
    """The node; None for arrivals, departures and silences of all nodes."""
    fields: list[str] = Field(default_factory=list, max_length=MOST_FIELDS)
    """Fields of one timeline."""
    every: float = Field(0.1, ge=0.02, le=3600.0)
    """Minimum seconds between messages."""
    max_points: int | None = Field(None, ge=2, le=100_000)
    """Most samples of a message; more are downsampled."""
    downsample: str = "minmax"
    """Downsampling method."""
    max_values: int | None = Field(None, ge=2, le=MOST_VALUES)
    """Most values of arrays in each dimension."""
    reduce: ArrayMethod = "max"
    """How longer arrays are reduced."""
    operation: str | None = Field(None, max_length=200)
    """The id of a run, whose changes are followed."""
    events: bool = False
    """Whether the events of the node are followed."""
    after: int | None = Field(None, ge=0, le=2**53)
    """Number of the newest change of the run that is known, or the cursor of an answer with events."""
    severity: Severity = "debug"
    """Events of this severity, or a worse one."""
    kind: str = Field("*", max_length=1000)
    subject: str = Field("*", max_length=1000)
    """Kinds and subjects of events: names, shell patterns, or alternatives."""

    @model_validator(mode="after")
    def _of_a_node(self) -> Self:
        given = [name for name in ("fields", "operation", "events") if getattr(self, name)]
        if given and self.node is None:
            raise ValueError(f"{given[0]} are given, but no node")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; subscribe to each separately")
        return self


@dataclass(frozen=True, slots=True)
class Feeds:
    """The feeds that clients can follow.

    Attributes
    ----------
    live : Live
        Samples.
    runs : RunFeeds
    events : EventFeeds
    watch : Watch
        Arrivals, departures and silences of nodes.
    """

    live: Live
    runs: RunFeeds
    events: EventFeeds
    watch: Watch

    def follow(self, wanted: Subscribe) -> AsyncGenerator[dict[str, Any] | None]:
        """Yield None once a subscription exists, then its messages."""
        if wanted.node is None:
            return self.arrivals()
        if wanted.operation is not None:
            return self.runs.follow(wanted.node, wanted.operation, wanted.after or 0)
        if wanted.events:
            selection = Selection(wanted.severity, wanted.kind, wanted.subject)
            return self.events.follow(wanted.node, selection, wanted.after)
        return _updates(self.live, wanted)

    async def arrivals(self) -> AsyncGenerator[dict[str, Any] | None]:
        """Yield None, then the arrivals, departures and silences of all nodes."""
        async with self.watch.following() as queue:
            yield None
            while True:
                yield _event(await queue.get())


async def _updates(live: Live, wanted: Subscribe) -> AsyncGenerator[dict[str, Any] | None]:
    """Yield None once the subscription exists, then its updates."""
    if wanted.node is None or not wanted.fields:
        raise BadRequest("node and fields are missing; give those to follow")
    method = method_named(wanted.downsample)
    limit = None if wanted.max_values is None else ArrayLimit(wanted.max_values, wanted.reduce)
    async with live.reading(
        wanted.node, wanted.fields, every_s=wanted.every, max_points=wanted.max_points, method=method, limit=limit
    ) as reader:
        yield None
        async for update in reader.updates():
            yield _message_of(update)


def _message_of(update: Update) -> dict[str, Any]:
    return {
        "timeline": update.timeline,
        "t": update.t,
        "data": update.columns,
        "finalized_until": update.finalized_until,
        "missed": update.missed,
        "lost": update.lost,
        "gaps": update.gaps,
        "reset": update.reset,
        "units": update.units,
        **({"reduced": update.reduced} if update.reduced else {}),
    }


def _event(event: Event) -> dict[str, Any]:
    return {"t": event.t, "node": event.node, "kind": event.kind, "text": event.text}
