"""Samples in the log of a topic that are older than the history of a node, read together for all of its timelines."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sisock.fields import Batch
from sisock.times import Clock, Interval

# Values, times included, that are kept at the most, and for how many seconds: a question for several timelines asks
# for one after the other, and messages that come meanwhile are to be in the next answer.
_MOST_KEPT, _KEPT_S = 20_000_000, 10.0

Samples = Mapping[str, Sequence[Batch]]
"""By timeline; also of timelines that have none."""


@dataclass(frozen=True, slots=True)
class _Read:
    topic: str
    partitions: frozenset[int]
    interval: Interval
    at: float
    samples: Samples

    def serves(self, topic: str, partitions: frozenset[int], timeline: str, start: float) -> bool:
        """Whether it has the samples of a timeline from a time on, or those before it up to there."""
        is_of = (self.topic, self.partitions) == (topic, partitions) and timeline in self.samples
        return is_of and self.interval.start <= start <= self.interval.end

    @property
    def size(self) -> int:
        return sum(len(batch) * (len(batch.columns) + 1) for of_one in self.samples.values() for batch in of_one)


class SharedPast:
    """The samples that were read from a log last.

    Parameters
    ----------
    read : callable
        Returns the samples of some timelines of a topic, in some partitions and an interval.
    clock : Clock
    """

    def __init__(self, read: Callable[[str, Collection[int], Interval, frozenset[str]], Samples], clock: Clock) -> None:
        self._read, self._clock = read, clock
        self._lock = threading.Lock()
        self._last: _Read | None = None

    def samples(
        self, topic: str, partitions: Collection[int], interval: Interval, timeline: str, others: Collection[str]
    ) -> Sequence[Batch]:
        """Return the samples of a timeline, and maybe some from around the interval.

        Parameters
        ----------
        topic : str
        partitions : collection of int
        interval : Interval
        timeline : str
        others : collection of str
            Timelines of the topic that may be asked for next.
        """
        with self._lock:
            self._forget_old()
            last, chosen = self._last, frozenset(partitions)
            if last is None or not last.serves(topic, chosen, timeline, interval.start):
                nothing = dict.fromkeys({timeline, *others}, ())
                last = _Read(topic, chosen, Interval(interval.start, interval.start), self._clock.monotonic(), nothing)
            rest = Interval(last.interval.end, interval.end)
            if rest.start < rest.end:  # each timeline has a beginning of its own in memory, and is asked for up to that
                new = self._read(topic, chosen, rest, frozenset(last.samples))
                samples = {name: [*known, *new.get(name, ())] for name, known in last.samples.items()}
                last = replace(last, interval=Interval(last.interval.start, rest.end), samples=samples)
                self._last = last if last.size <= _MOST_KEPT else None
            return last.samples[timeline]

    def forget_old(self) -> None:
        """Forget what is not needed any more."""
        with self._lock:
            self._forget_old()

    def _forget_old(self) -> None:
        if self._last is not None and self._clock.monotonic() >= self._last.at + _KEPT_S:
            self._last = None
