"""Topics that wait: what they have to say cannot be read at the moment, and nothing of it is lost."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from confluent_kafka import TopicPartition


class Held:
    """Topics whose partitions are paused, and where each goes on.

    A topic waits as a whole: if one of its partitions went on, what the others have to say would come too late for the
    timeline that they share. The consumer is asked for messages all the while, so that it stays in its group.

    Parameters
    ----------
    consumer : confluent_kafka.Consumer
    ready : callable
        Whether what they wait for is there; asked often.
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

    def go_on(self) -> None:
        """Go on where what was waited for is there.

        Raises
        ------
        KafkaException
            If a partition cannot go on; it waits further.
        """
        if self._offsets and self._ready():
            for partition, offset in tuple(self._offsets.items()):
                # First, because a partition that is resumed goes on after the last message that it gave.
                self._consumer.resume([TopicPartition(*partition)])
                if offset is not None:
                    self._consumer.seek(TopicPartition(*partition, offset))
                del self._offsets[partition]

    def forget(self, parts: Sequence[Any]) -> None:
        """Let go of partitions that are others' from now on."""
        gone = [part for part in parts if (part.topic, part.partition) in self._offsets]
        for part in gone:
            del self._offsets[part.topic, part.partition]
        if gone:
            self._consumer.resume([TopicPartition(part.topic, part.partition) for part in gone])
