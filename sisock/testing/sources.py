"""A source driven by hand."""

from collections.abc import Sequence
from typing import Any

from sisock.fields import Timeline, as_batch
from sisock.metrics import Counters
from sisock.source import Emit


class ManualSource:
    """A source whose samples a test emits.

    Parameters
    ----------
    *timelines : Timeline
    """

    def __init__(self, *timelines: Timeline) -> None:
        self.timelines: Sequence[Timeline] = timelines
        self.counters = Counters("batches")
        self._emit: Emit | None = None

    def start(self, emit: Emit) -> None:
        """Keep the node's `emit`."""
        self._emit = emit

    def stop(self) -> None:
        """Stop emitting."""
        self._emit = None

    def emit(self, timeline: str, t: Any, columns: dict[str, Any], **more: Any) -> None:
        """Emit samples: `t` and each column array-like, shape (n,); `more` as in `sisock.fields.Batch`."""
        self._started()(as_batch(timeline, t, columns, **more))
        self.counters.add("batches")

    def add(self, timeline: Timeline) -> float | None:
        """Emit samples of another timeline, too; see `sisock.source.Emit.add`."""
        return self._started().add(timeline)

    def _started(self) -> Emit:
        if self._emit is None:
            raise RuntimeError("the source is not started; serve its node, or start the node")
        return self._emit
