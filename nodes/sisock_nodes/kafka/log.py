"""Reading samples that are older than the history of a node from a topic's log, on request."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from sisock.errors import NodeFailed, TimedOut, TooLarge
from sisock.times import SYSTEM_CLOCK, Interval
from sisock_nodes.kafka.client import confluent_kafka, opened, text_of
from sisock_nodes.kafka.settings import KafkaSettings

_AT_ONCE, _WAIT_S, _ASK_S = 10_000, 0.5, 10.0
# Most messages that are read for one request, and how long that may take: less than a consumer waits.
_MOST, _READ_S = 5_000_000, 25.0
# A message is stamped when it is written or made, and its samples may be some time older, or newer.
_SLACK_S = 60.0
_NO_OFFSET = -1


class Span(NamedTuple):
    """Messages of a partition: those from one offset on, before another."""

    partition: int
    start: int
    end: int


class Log:
    """The logs of topics.

    Parameters
    ----------
    settings : KafkaSettings
    node : str
    on_error : callable
        Called with each error that librdkafka reports.
    """

    def __init__(self, settings: KafkaSettings, node: str, on_error: Callable[[object], None]) -> None:
        # The messages exist already: a broker that waits for more only delays the next request.
        self._config = settings.librdkafka(node) | {"enable.partition.eof": True, "fetch.wait.max.ms": 10}
        self._servers, self._lateness_s, self._on_error = settings.servers, settings.lateness, on_error
        self._lock = threading.Lock()  # a consumer reads one thing at a time
        self._consumer: Any = None

    def has(self, topic: str, partitions: Collection[int], interval: Interval) -> bool:
        """Whether there are messages of about that time in some partitions."""
        with self._lock:
            return bool(self._spans(topic, partitions, interval))

    def messages(self, topic: str, partitions: Collection[int], interval: Interval) -> list[Any]:
        """Return the messages of about that time in some partitions, those of each by offset.

        Raises
        ------
        TooLarge
            If there are more than can be brought together.
        TimedOut, NodeFailed
            If the brokers do not return them.
        """
        with self._lock:
            spans = self._spans(topic, partitions, interval)
            count = sum(span.end - span.start for span in spans)
            if count > _MOST:
                raise TooLarge(
                    f"topic {topic} has about {count} messages from before this node's history; at most {_MOST} are "
                    "read from its log for one question, so ask for a shorter interval"
                )
            return list(self._read(topic, spans)) if spans else []

    def last(self, topic: str, partition: int) -> list[Any]:
        """Return the newest message of a partition, if there is one."""
        with self._lock:
            low, high = self._ask("get_watermark_offsets", confluent_kafka.TopicPartition(topic, partition))
            return list(self._read(topic, [Span(partition, high - 1, high)])) if high > low else []

    def close(self) -> None:
        """Leave the brokers."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
            self._consumer = None

    def _spans(self, topic: str, partitions: Collection[int], interval: Interval) -> list[Span]:
        slack = self._lateness_s + _SLACK_S
        starts = self._offsets(topic, partitions, interval.start - slack)
        ends = self._offsets(topic, partitions, interval.end + slack)
        spans = []
        for number in starts:
            low, high = self._ask("get_watermark_offsets", confluent_kafka.TopicPartition(topic, number))
            start, end = (high if at == _NO_OFFSET else at for at in (starts[number], ends[number]))
            if max(start, low) < end:
                spans.append(Span(number, max(start, low), end))
        return spans

    def _offsets(self, topic: str, partitions: Collection[int], t: float) -> dict[int, int]:
        """Return the offset of the first message that is stamped with a time or a later one, by partition."""
        stamp = round(min(max(0.0, t), 1e11) * 1000)
        asked = [confluent_kafka.TopicPartition(topic, number, stamp) for number in partitions]
        return {part.partition: part.offset for part in self._ask("offsets_for_times", asked)} if asked else {}

    def _ask(self, what: str, about: Any) -> Any:
        if self._consumer is None:
            self._consumer = opened(confluent_kafka.Consumer, self._config, self._on_error)
        try:
            return getattr(self._consumer, what)(about, timeout=_ASK_S)
        except confluent_kafka.KafkaException as error:
            raise NodeFailed(f"Kafka at {self._servers} cannot be asked for what it has: {text_of(error)}") from error

    def _read(self, topic: str, spans: Sequence[Span]) -> Iterator[Any]:
        ends = {span.partition: span.end for span in spans}
        left = sum(span.end - span.start for span in spans)
        deadline = SYSTEM_CLOCK.monotonic() + _READ_S
        parts = [confluent_kafka.TopicPartition(topic, span.partition, span.start) for span in spans]
        self._consumer.assign(parts)
        try:
            while ends:
                # No more than are to come, or it would wait for others in vain.
                messages = self._consumer.consume(max(1, min(_AT_ONCE, left)), _WAIT_S)
                left -= len(messages)
                if SYSTEM_CLOCK.monotonic() > deadline:
                    raise TimedOut(
                        f"Kafka at {self._servers} took over {_READ_S:g} s to give what topic {topic} had then; "
                        "ask for a shorter interval, or again later"
                    )
                for message in messages:
                    number, end = message.partition(), ends.get(message.partition())
                    if message.error() is None and end is not None and message.offset() < end:
                        yield message
                    elif message.error() is not None and not _is_end(message):
                        self._on_error(message.error())
                        continue
                    if end is not None and (_is_end(message) or message.offset() >= end - 1):
                        del ends[number]
                        self._consumer.pause([confluent_kafka.TopicPartition(topic, number)])
        except confluent_kafka.KafkaException as error:
            raise NodeFailed(
                f"Kafka at {self._servers} does not give what topic {topic} had: {text_of(error)}"
            ) from error
        finally:
            self._consumer.resume(parts)  # a pause would outlast the assignment
            self._consumer.unassign()


def _is_end(message: Any) -> bool:
    """Whether it marks the end of a partition instead of being a message."""
    error = message.error()
    return error is not None and error.code() == confluent_kafka.KafkaError._PARTITION_EOF  # noqa: SLF001
