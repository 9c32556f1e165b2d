"""Sinks: they deliver a node's batches to another system, which must acknowledge them."""

from collections.abc import Mapping
from typing import Any, Protocol

from sisock.fields import Batch, Timeline
from sisock.outage import Health


class Sink(Protocol):
    """Delivers all batches that a node stores to another system.

    A batch that `put` has accepted waits on disk, as far as there is room, until the other system has acknowledged it.
    After a kill it may arrive twice, but it is not lost.
    """

    def start(self) -> None:
        """Start to deliver, first the batches that an earlier run left."""
        ...

    def add(self, timeline: Timeline) -> None:
        """Accept batches of a timeline from now on, or of a known one with other fields."""
        ...

    def put(self, batch: Batch) -> None:
        """Accept a batch that was stored; called from any thread, one at a time."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return counts of batches that were delivered, wait, and were dropped."""
        ...

    def stop(self) -> None:
        """Stop delivering; batches that wait are delivered in the next run."""
        ...


def health_of(sink: Sink) -> Health | None:
    """Return the health that a sink reports by a method `health`; None if it has none."""
    health = getattr(sink, "health", None)
    return health() if callable(health) else None
