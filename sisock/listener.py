"""Listeners: they are notified of the timelines and batches of a node."""

import threading
from typing import Protocol

from sisock.fields import Batch, Timeline
from sisock.sink import Sink


class Listener(Protocol):
    """Is notified of the timelines and batches of a node, in the threads of its sources.

    The batches of one timeline come in order of their numbers, one at a time; those of different timelines may come at
    the same time.
    """

    def on_batch(self, batch: Batch) -> None:
        """Take a batch that was stored."""
        ...

    def add(self, timeline: Timeline) -> None:
        """Take a timeline, before its first batch."""
        ...


class SinkListener:
    """Passes batches to a sink, which takes one at a time.

    Parameters
    ----------
    sink : Sink
    """

    def __init__(self, sink: Sink) -> None:
        self._sink, self._lock = sink, threading.Lock()

    def on_batch(self, batch: Batch) -> None:
        """Pass a batch on."""
        with self._lock:
            self._sink.put(batch)

    def add(self, timeline: Timeline) -> None:
        """Pass a timeline on."""
        with self._lock:
            self._sink.add(timeline)
