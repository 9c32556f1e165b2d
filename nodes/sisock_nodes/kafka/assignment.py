"""The partitions that a node reads: which they are, where each begins, and how far each has been read."""

import math
import threading
from collections.abc import Callable
from typing import Any

from sisock.metrics import Counters
from sisock.times import Clock
from sisock_nodes.kafka.client import confluent_kafka
from sisock_nodes.kafka.held import Held
from sisock_nodes.kafka.progress import Progress
from sisock_nodes.kafka.settings import KafkaSettings

_ASK_S, _RETRY_S, _LOOK_S = 10.0, 1.0, 1.0


class Assignment:
    """The partitions of a consumer.

    Parameters
    ----------
    settings : KafkaSettings
    consumer : confluent_kafka.Consumer
    held : Held
        Partitions that wait for the schema registry.
    counters : Counters
        ``rebalances``, ``lost_partitions`` and ``commits``.
    on_error : callable
        Called with each error of the brokers.
    clock : Clock
    stopping : threading.Event
        Set when the node stops.

    Attributes
    ----------
    partitions : set of (str, int)
        The partitions that are read here, by topic and number.
    positions : dict of (str, int) to int
        The offset after the last stored message of each.
    progress : dict of str to Progress
        By topic.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        consumer: Any,
        held: Held,
        counters: Counters,
        on_error: Callable[[object], None],
        clock: Clock,
        stopping: threading.Event,
    ) -> None:
        self.partitions: set[tuple[str, int]] = set()
        self.positions: dict[tuple[str, int], int] = {}
        self.progress: dict[str, Progress] = {}
        self._settings, self._consumer, self._held, self._counters = settings, consumer, held, counters
        self._on_error, self._clock, self._stopping = on_error, clock, stopping
        self._committed: dict[tuple[str, int], int] = {}
        self._on_disk = settings.history.path is not None

    def begin(self) -> None:
        """Read the partitions of the settings, or those that the group assigns.

        Raises
        ------
        KafkaException
            If the brokers refuse that.
        """
        chosen = self._settings
        if chosen.partitions:
            parts = [
                confluent_kafka.TopicPartition(topic, number)
                for topic, each in chosen.partitions.items()
                for number in each
            ]
            if (begun := self._initial_offsets(parts)) is not None:
                self._consumer.assign(begun)
                self._follow_from(begun)
                self.partitions = {(part.topic, part.partition) for part in parts}
            return
        pattern = [f"^({chosen.topic_pattern})$"] if chosen.topic_pattern else []
        self._consumer.subscribe(
            [*chosen.topics, *pattern], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def _assigned(self, consumer: Any, parts: list[Any]) -> None:
        self._counters.add("rebalances")
        if (begun := self._initial_offsets(parts)) is not None:
            self.partitions |= {(part.topic, part.partition) for part in parts}
            self._follow_from(begun)
            consumer.incremental_assign(begun)

    def _follow_from(self, begun: list[Any]) -> None:
        for part in begun:
            progress = self.progress.setdefault(part.topic, Progress(self._settings.lateness))
            progress.begin(part.partition, part.offset)

    def _revoked(self, consumer: Any, parts: list[Any]) -> None:
        self.commit(wait=True)
        self._forget(parts)
        consumer.incremental_unassign(parts)

    def _lost(self, consumer: Any, parts: list[Any]) -> None:
        """Forget partitions that others read already."""
        self._counters.add("lost_partitions", len(parts))
        self._forget(parts)
        consumer.incremental_unassign(parts)

    def _forget(self, parts: list[Any]) -> None:
        self._held.forget(parts)
        for part in parts:
            self.partitions.discard((part.topic, part.partition))
            self.positions.pop((part.topic, part.partition), None)
            self._committed.pop((part.topic, part.partition), None)

    def _initial_offsets(self, parts: list[Any]) -> list[Any] | None:
        """Return the offsets at which partitions begin, as soon as a broker answers; None if the node stops before."""
        while not self._stopping.is_set():
            try:
                return self._offsets(parts)
            except confluent_kafka.KafkaException as error:
                self._on_error(error)
                self._clock.wait(self._stopping, _RETRY_S)
        return None

    def _offsets(self, parts: list[Any]) -> list[Any]:
        """Return the offsets at which partitions begin: the end of the history on disk, else as `start` is set.

        Partitions that join while a topic is read continue where others stopped: older samples are final here.
        """
        resumed = [part for part in parts if self._on_disk or self._finalized_until(part.topic) > -math.inf]
        done = self._consumer.committed(resumed, _ASK_S) if resumed else []
        known = {(part.topic, part.partition): part.offset for part in done if part.offset >= 0}
        new = [part for part in parts if (part.topic, part.partition) not in known]
        begun = [confluent_kafka.TopicPartition(topic, number, offset) for (topic, number), offset in known.items()]
        return [*begun, *self._first_offsets(new)] if new else begun

    def _first_offsets(self, parts: list[Any]) -> list[Any]:
        """Return the offsets at which partitions begin that were not read before, as `start` is set."""
        start = self._settings.start
        if start is None:
            keep = self._settings.history.keep_s
            start = keep if math.isfinite(keep) else "earliest"
        # Requested first, and as numbers: messages that are written from now on are read.
        begun = []
        for part in parts:
            low, high = self._consumer.get_watermark_offsets(part, timeout=_ASK_S)
            offset = low if start == "earliest" else high
            begun.append(confluent_kafka.TopicPartition(part.topic, part.partition, offset))
        if isinstance(start, str):
            return begun
        since = max(0, round((self._clock.now() - start) * 1000))
        asked = [confluent_kafka.TopicPartition(part.topic, part.partition, since) for part in parts]
        for part, found in zip(begun, self._consumer.offsets_for_times(asked, _ASK_S), strict=True):
            if found.offset >= 0:
                part.offset = found.offset
        return begun

    def of(self, topic: str) -> list[int]:
        """Return the numbers of the partitions of a topic."""
        return [number for name, number in tuple(self.partitions) if name == topic]

    def _finalized_until(self, topic: str) -> float:
        return self.progress[topic].finalized_until if topic in self.progress else -math.inf

    def look_for_end(self, name: str) -> None:
        """Ask which of the partitions of a topic that hold up others were read to their end.

        Raises
        ------
        KafkaException
            If the brokers do not answer.
        """
        progress, mine = self.progress[name], self.of(name)
        if self._settings.group:
            self._look_at_others(name, progress, mine)
        else:
            progress.keep(mine)
        for number in progress.slowest:
            asked = self._clock.now()
            part = confluent_kafka.TopicPartition(name, number)
            low, high = self._consumer.get_watermark_offsets(part, timeout=_LOOK_S)
            progress.is_within(number, low, high, asked, mine=number in mine)

    def _look_at_others(self, name: str, progress: Progress, mine: list[int]) -> None:
        """Ask how far others of the group have read their partitions of a topic, which may become ours."""
        listed = self._consumer.list_topics(name, timeout=_LOOK_S).topics[name]
        if listed.error is not None:
            raise confluent_kafka.KafkaException(listed.error)
        progress.keep({*listed.partitions, *mine})
        others = [confluent_kafka.TopicPartition(name, number) for number in listed.partitions if number not in mine]
        for part in self._consumer.committed(others, timeout=_LOOK_S) if others else ():
            progress.begin(part.partition, part.offset)

    def commit(self, *, wait: bool = False) -> None:
        """Report the positions to the broker: the history has the messages before them."""
        new = {key: at for key, at in self.positions.items() if self._committed.get(key) != at}
        if not new:
            return
        offsets = [confluent_kafka.TopicPartition(topic, number, at) for (topic, number), at in new.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not wait)
        except confluent_kafka.KafkaException as error:
            self._on_error(error)  # messages that are read again replace themselves
        else:
            self._committed |= new
            self._counters.add("commits")
