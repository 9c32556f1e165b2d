"""Topics that wait, because their messages cannot be read at present; none is lost."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from confluent_kafka import TopicPartition


class Held:
    """Topics whose partitions are paused, and the offsets at which they continue.

    A topic waits as a whole: if one of its partitions continued, the messages of the others would be late in the
    timeline that they share. The consumer is polled meanwhile, so that it stays in its group.

    Parameters
    ----------
    consumer : confluent_kafka.Consumer
    ready : callable
        Whether they can continue; called often.
    """

    def __init__(self, consumer: Any, ready: Callable[[], bool]) -> None:
        self._consumer, self._ready = consumer, ready
        self._offsets: dict[tuple[str, int], int | None] = {}  # None: after the last message that was given

    def __contains__(self, topic: str) -> bool:
        return any(name == topic for name, _ in self._offsets)

    def hold(self, topic: str, partitions: Iterable[tuple[str, int]]) -> None:
        """Have a topic wait, with those of some partitions that are its own."""
        for each in partitions:
            if each[0] == topic:
                self._pause(each)

    def put_back(self, topic: str, partition: int, offset: int) -> None:
        """Have a partition of a topic that waits give its messages from an offset on again."""
        where = topic, partition
        self._pause(where)
        if self._offsets[where] is None:
            self._offsets[where] = offset

    def _pause(self, partition: tuple[str, int]) -> None:
        if partition not in self._offsets:
            self._offsets[partition] = None
            self._consumer.pause([TopicPartition(*partition)])

    def resume(self) -> None:
        """Resume the topics when they can be read.

        Raises
        ------
        KafkaException
            If a partition cannot be resumed; it keeps waiting.
        """
        if self._offsets and self._ready():
            for partition, offset in tuple(self._offsets.items()):
                # Before seek: a resumed partition continues after the last message that it returned.
                self._consumer.resume([TopicPartition(*partition)])
                if offset is not None:
                    self._consumer.seek(TopicPartition(*partition, offset))
                del self._offsets[partition]

    def forget(self, parts: Sequence[Any]) -> None:
        """Forget partitions that others read from now on."""
        gone = [part for part in parts if (part.topic, part.partition) in self._offsets]
        for part in gone:
            del self._offsets[part.topic, part.partition]
        if gone:
            self._consumer.resume([TopicPartition(part.topic, part.partition) for part in gone])
