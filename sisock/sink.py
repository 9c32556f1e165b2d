"""What takes a node's batches elsewhere, and must acknowledge them."""

from collections.abc import Mapping
from typing import Any, Protocol

from sisock.fields import Batch, Timeline
from sisock.outage import Health


class Sink(Protocol):
    """A place outside that gets all that a node stores.

    A batch that `put` has taken is on its way: it waits on disk, as far as there is room, until the place has
    acknowledged it. So it may arrive twice, after a kill, but it does not get lost.
    """

    def start(self) -> None:
        """Begin to deliver, first what an earlier run left."""
        ...

    def add(self, timeline: Timeline) -> None:
        """Hear of a timeline before its first batch, or that it has other fields from now on."""
        ...

    def put(self, batch: Batch) -> None:
        """Take a batch that was stored; called from any thread, one at a time."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return what was delivered, what waits and what was dropped."""
        ...

    def stop(self) -> None:
        """Deliver no more; what waits is delivered in the next run."""
        ...


def health_of(sink: Sink) -> Health | None:
    """Return the health that a sink reports by a method `health`; None if it has none."""
    health = getattr(sink, "health", None)
    return health() if callable(health) else None
