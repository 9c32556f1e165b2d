"""How far the partitions of a topic have been read, and the watermark of the topic that follows from that."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# Seconds after which a partition without new messages is considered to be at its end, although offsets follow: those
# are of transactions, or were compacted away.
_SILENT_S = 10.0


@dataclass(slots=True)
class _Read:
    next: int  # the next offset
    newest: float = -math.inf  # time of the newest sample
    ended: float = -math.inf  # all messages written before were read
    goal: tuple[int, float] | None = None  # an end that it had, and when; until it is reached
    stood: tuple[int, int] = (-1, -1)  # the next offset and the end, at the last query
    since: float = math.inf  # when `stood` changed last

    @property
    def until(self) -> float:
        """The time before which no message of it follows: each partition is in order of time."""
        return max(self.newest, self.ended)


class Progress:
    """How far each partition of a topic has been read, by this node or by others of its group.

    They are one timeline, and are read one after the other, each perhaps with a backlog: samples before the newest one
    of every partition are final. A partition that was read to its end holds up no others. Partitions of other readers
    count as well, since they may be assigned to this node.

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
        """Take note of the time of the newest sample of a partition, UNIX seconds."""
        if read := self._read.get(partition):  # or it was reassigned meanwhile
            read.newest = max(read.newest, newest)

    def on_offsets(self, partition: int, first: int, last: int) -> int:
        """Take note of the offsets of messages that were read, and return by how many offsets the partition advanced.

        These may be more than the messages: some were removed before, or are of transactions and compaction.
        """
        read = self._read.get(partition)
        if read is None:  # it was reassigned meanwhile
            return last + 1 - first
        expected, read.next = min(first, read.next), last + 1
        return last + 1 - expected

    def is_within(self, partition: int, low: int, high: int, asked: float, *, mine: bool = True) -> None:
        """Take note of the offsets of a partition, from `low` on, before `high`, at a time, UNIX seconds."""
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
        """The partitions that hold up the watermark."""
        return [partition for partition, read in self._read.items() if read.until < self._newest]

    @property
    def finalized_until(self) -> float:
        """The watermark of the topic, UNIX seconds; minus infinity while there is none."""
        return min([self._newest, *(read.until for read in self._read.values())]) - self._lateness_s

    @property
    def _newest(self) -> float:
        return max((read.newest for read in self._read.values()), default=-math.inf)
