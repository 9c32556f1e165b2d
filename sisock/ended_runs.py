"""The ended runs of a node's operations: the newest in memory, and the records of all, also over restarts."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from sisock.runs import ENDED, Run, RunRecords
from sisock.times import Clock

MOST_ENDED = 1000
"""Ended runs that are kept in memory."""
# Bytes of their results and changes.
_MOST_BYTES = 64_000_000


class EndedRuns:
    """The newest ended runs; used from any thread.

    Parameters
    ----------
    records : RunRecords or None
        Where the records of runs are kept; None to keep none.
    clock : Clock

    Attributes
    ----------
    lost : list of dict
        Records of runs that were active when the process before this one ended: they have failed.
    """

    def __init__(self, records: RunRecords | None, clock: Clock) -> None:
        self._records, self._lock = records, threading.Lock()
        self._runs: OrderedDict[str, Mapping[str, Any] | Run] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()  # bytes of those that are more than records, oldest first
        self._size = 0
        self.lost: list[dict[str, Any]] = []
        for record in records.newest(MOST_ENDED) if records else ():
            self._runs[record["id"]] = record
            if record["state"] not in ENDED:
                failed = {**record, "state": "failed", "error": "node stopped", "ended": clock.now()}
                self._runs[record["id"]] = failed
                self.keep(failed)
                self.lost.append(failed)

    def keep(self, record: Mapping[str, Any]) -> None:
        """Keep the record of a run."""
        if self._records is not None:
            self._records.append(record)

    def add(self, run: Run) -> None:
        """Add a run that has ended; the oldest are forgotten, and only records are kept where runs take much memory."""
        size = run.size
        with self._lock:
            self._runs[run.id] = run
            self._sizes[run.id] = size
            self._size += size
            while len(self._runs) > MOST_ENDED:
                number, _ = self._runs.popitem(last=False)
                self._size -= self._sizes.pop(number, 0)
            while self._size > _MOST_BYTES and len(self._sizes) > 1:
                number, size = next(iter(self._sizes.items()))
                oldest = self._runs[number]
                if isinstance(oldest, Run):
                    if not oldest.is_ended:  # its state is changed in a moment, by another thread
                        break
                    self._runs[number] = oldest.record()
                del self._sizes[number]
                self._size -= size

    def get(self, number: str) -> Mapping[str, Any] | Run | None:
        """Return a run, or its record where that is all that is kept; None if it is not known."""
        with self._lock:
            return self._runs.get(number)

    def all(self) -> list[Mapping[str, Any] | Run]:
        """Return all runs that are kept, oldest first."""
        with self._lock:
            return list(self._runs.values())
