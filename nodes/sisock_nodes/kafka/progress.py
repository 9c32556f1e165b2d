"""How far the partitions of a topic have been read, and what of the topic is final by that."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# Seconds after which a partition that gives nothing is taken to be at its end, though there are offsets after what it
# gave: they are of transactions, or were compacted away.
_SILENT_S = 10.0


@dataclass(slots=True)
class _Read:
    next: int  # the offset that comes next
    newest: float = -math.inf  # time of the newest sample
    ended: float = -math.inf  # all that was written before was read
    goal: tuple[int, float] | None = None  # an end that it had, and when; until that is reached
    stood: tuple[int, int] = (-1, -1)  # what came next, and the end, when it was last asked for
    since: float = math.inf  # since when they are the same

    @property
    def until(self) -> float:
        """Before which it has nothing more to say: each partition is in the order of its times."""
        return max(self.newest, self.ended)


class Progress:
    """How far each partition of a topic has been read, by this node or by others of its group.

    They are one timeline, and come one after the other, each perhaps with much to catch up: final is what lies before
    the newest sample of each. A partition that was read to its end holds up no others. What others read counts as well,
    since it may become this node's to go on with.

    Parameters
    ----------
    lateness_s : float
        How late a message may be in its partition.
    """

    def __init__(self, lateness_s: float) -> None:
        self._lateness_s = lateness_s
        self._read: dict[int, _Read] = {}

    def begin(self, partition: int, offset: int) -> None:
        """Read a partition from an offset on."""
        self._read.setdefault(partition, _Read(offset)).next = offset

    def keep(self, partitions: Collection[int]) -> None:
        """Forget all partitions but some."""
        self._read = {partition: read for partition, read in self._read.items() if partition in partitions}

    def on_samples(self, partition: int, newest: float) -> None:
        """Hear of samples of a partition, the newest of which has a time, UNIX seconds."""
        if read := self._read.get(partition):  # or it was taken from us meanwhile
            read.newest = max(read.newest, newest)

    def on_offsets(self, partition: int, first: int, last: int) -> int:
        """Hear of the offsets of messages that were read, and return how many offsets there were from what came next.

        These may be more than there were messages: some were removed before, or are of transactions and compaction.
        """
        read = self._read.get(partition)
        if read is None:  # it was taken from us meanwhile
            return last + 1 - first
        expected, read.next = min(first, read.next), last + 1
        return last + 1 - expected

    def is_within(self, partition: int, low: int, high: int, asked: float, *, mine: bool = True) -> None:
        """Hear which offsets a partition has, from `low` on, before `high`, as of a time, UNIX seconds."""
        read = self._read[partition]
        if read.next >= high or low >= high:
            read.ended, read.goal = asked, None
            return
        if read.goal is not None and read.next >= read.goal[0]:
            read.ended, read.goal = max(read.ended, read.goal[1]), None
        read.goal = read.goal or (high, asked)
        if read.stood != (read.next, high):
            read.stood, read.since = (read.next, high), asked
        elif mine and asked - read.since >= _SILENT_S:
            read.ended = asked - _SILENT_S

    @property
    def slowest(self) -> Sequence[int]:
        """The partitions that hold up what is final."""
        return [partition for partition, read in self._read.items() if read.until < self._newest]

    @property
    def finalized_until(self) -> float:
        """What of the topic is final, UNIX seconds; minus infinity while nothing is."""
        return min([self._newest, *(read.until for read in self._read.values())]) - self._lateness_s

    @property
    def _newest(self) -> float:
        return max((read.newest for read in self._read.values()), default=-math.inf)
