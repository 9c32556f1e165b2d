"""Consuming topics, in a thread that hands over whole batches."""

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import methodcaller
from typing import Any

import numpy as np

from sisock.errors import BadRequest, MissingExtra
from sisock.fields import Timeline
from sisock.metrics import Counters
from sisock.source import Emit
from sisock.times import Clock
from sisock_nodes.kafka.settings import KafkaSettings

try:
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition
except ModuleNotFoundError as error:
    raise MissingExtra("type kafka needs confluent-kafka; run: pip install 'sisock-nodes[kafka]'") from error

from sisock_nodes.kafka.errors import NoRegistry
from sisock_nodes.kafka.held import Held
from sisock_nodes.kafka.topic import Topic

_AT_ONCE, _WAIT_S = 10_000, 0.1
_COMMIT_S = 1.0
_ASK_S = 10.0
_MOST_SAID = 20

log = logging.getLogger(__name__)
_error, _value = methodcaller("error"), methodcaller("value")


def _partition(message: Any) -> tuple[str, int]:
    return message.topic(), message.partition()


class KafkaTopics:
    """The topics of a node.

    Parameters
    ----------
    settings : KafkaSettings
    node : str
    clock : Clock

    Raises
    ------
    BadRequest
        If librdkafka, or the schema registry's client, does not take the settings.
    MissingExtra
        If confluent-kafka lacks what the format needs.
    """

    def __init__(self, settings: KafkaSettings, node: str, clock: Clock) -> None:
        self.counters = Counters("errors", "rebalances", "lost_partitions", "commits", "failures")
        self._settings, self._clock = settings, clock
        self._on_disk = settings.history.path is not None
        self._schemas = None
        if settings.registry is not None:
            from sisock_nodes.kafka.schemas import decoder_for

            self._schemas = decoder_for(settings, clock, self.counters)
        self._topics: dict[str, Topic] = {}
        self._positions: dict[tuple[str, int], int] = {}  # what is in the history, by topic and partition
        self._committed: dict[tuple[str, int], int] = {}
        self._declared: set[str] = set()
        self.assigned: set[tuple[str, int]] = set()
        """The partitions that are read here, by topic and number."""
        self._said = 0
        self._trouble: str | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        config = settings.librdkafka(node) | {"error_cb": self._on_error}
        try:
            self._consumer = Consumer(config)
        except (KafkaException, ValueError, TypeError) as error:
            raise BadRequest(f"librdkafka does not take the settings: {_text(error)}") from error
        self._held = Held(self._consumer, lambda: self._schemas is None or self._schemas.is_ready())

    @property
    def timelines(self) -> Sequence[Timeline]:
        """A timeline for each topic that is known."""
        return [timeline for topic in tuple(self._topics.values()) for timeline in topic.timelines]

    @property
    def parts(self) -> Sequence[Topic]:
        """The topics."""
        return list(self._topics.values())

    def start(self, emit: Emit) -> None:
        """Begin to consume."""
        self._thread = threading.Thread(target=self._run, args=(emit,), name="kafka", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Consume no more; offsets are committed, and the partitions given back."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10.0)
            self._thread = None

    def _run(self, emit: Emit) -> None:
        try:
            self._begin()
            while not self._stopping.is_set():
                try:
                    self._consume(emit)
                except KafkaException as error:
                    self._failed(_text(error))
                    self._stopping.wait(1.0)
                except Exception:
                    self.counters.add("failures")
                    log.exception("consuming failed; trying on")
                    self._stopping.wait(1.0)
        finally:
            self._consumer.close()
            if self._schemas is not None:
                self._schemas.close()

    def _begin(self) -> None:
        chosen = self._settings
        if chosen.partitions:
            parts = [TopicPartition(topic, number) for topic, each in chosen.partitions.items() for number in each]
            while not self._stopping.is_set():
                try:
                    self._consumer.assign(self._begun(parts))
                    self.assigned = {(part.topic, part.partition) for part in parts}
                except KafkaException as error:  # the broker is away: where to begin is not known
                    self._failed(_text(error))
                else:
                    return
            return
        pattern = [f"^({chosen.topic_pattern})$"] if chosen.topic_pattern else []
        self._consumer.subscribe(
            [*chosen.topics, *pattern], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def _assigned(self, consumer: Any, parts: list[Any]) -> None:
        self.counters.add("rebalances")
        self.assigned |= {(part.topic, part.partition) for part in parts}
        consumer.incremental_assign(self._begun(parts))

    def _revoked(self, consumer: Any, parts: list[Any]) -> None:
        self._commit(wait=True)
        self._forget(parts)
        consumer.incremental_unassign(parts)

    def _lost(self, consumer: Any, parts: list[Any]) -> None:
        """Hear that partitions are others' already."""
        self.counters.add("lost_partitions", len(parts))
        self._forget(parts)
        consumer.incremental_unassign(parts)

    def _forget(self, parts: list[Any]) -> None:
        self._held.forget(parts)
        for part in parts:
            self.assigned.discard((part.topic, part.partition))
            self._positions.pop((part.topic, part.partition), None)
            self._committed.pop((part.topic, part.partition), None)

    def _begun(self, parts: list[Any]) -> list[Any]:
        """Return where to begin in some partitions: where the history on disk ends, else as `start` says."""
        done = self._consumer.committed(parts, _ASK_S) if self._on_disk else []
        known = {(part.topic, part.partition): part.offset for part in done if part.offset >= 0}
        new = [part for part in parts if (part.topic, part.partition) not in known]
        begun = [TopicPartition(topic, number, offset) for (topic, number), offset in known.items()]
        return [*begun, *self._started(new)] if new else begun

    def _started(self, parts: list[Any]) -> list[Any]:
        start = self._settings.start
        if start is None:
            keep = self._settings.history.keep_s
            start = keep if math.isfinite(keep) else "earliest"
        if isinstance(start, str):
            offset = OFFSET_BEGINNING if start == "earliest" else OFFSET_END
            return [TopicPartition(part.topic, part.partition, offset) for part in parts]
        since = max(0, round((self._clock.now() - start) * 1000))
        asked = [TopicPartition(part.topic, part.partition, since) for part in parts]
        return self._consumer.offsets_for_times(asked, _ASK_S)  # type: ignore[no-any-return]

    def _consume(self, emit: Emit) -> None:
        committed = self._clock.monotonic()
        while not self._stopping.is_set():
            self._held.go_on()
            messages = self._consumer.consume(_AT_ONCE, _WAIT_S)
            if messages:
                self._take(messages, emit)
            if self._clock.monotonic() >= committed + _COMMIT_S or self._stopping.is_set():
                committed = self._clock.monotonic()
                self._commit()
        self._commit(wait=True)

    def _take(self, messages: list[Any], emit: Emit) -> None:
        if any(map(_error, messages)):
            for message in (m for m in messages if m.error()):
                self._failed(message.error().str())
            messages = [message for message in messages if not message.error()]
        self._works()
        now = self._clock.now()
        for (name, number), part in self._by_partition(messages):
            if name in self._held:
                self._held.put_back(name, number, part[0].offset())
                continue
            topic = self._topics.get(name) or self._topics.setdefault(name, Topic(name, self._settings, self._schemas))
            stamps = np.array([message.timestamp()[1] for message in part]) / 1000.0 if topic.stamped else None
            known = topic.timeline
            try:
                for batch in topic.read(list(map(_value, part)), stamps, now):
                    if topic.timeline is not known or name not in self._declared:
                        known = topic.timeline
                        emit.add(known)
                        self._declared.add(name)
                    emit(batch)
            except NoRegistry:
                self._held.hold(name, self.assigned)
                self._held.put_back(name, number, part[0].offset())
                continue
            self._follow(topic, number, part)
            self._positions[name, number] = part[-1].offset() + 1
            for index in topic.poison:
                self._say_poison(part[index])

    def _by_partition(self, messages: list[Any]) -> Iterator[tuple[tuple[str, int], list[Any]]]:
        """Yield the messages of each partition, as they follow each other; where it can be, without looking at each."""
        if len(self.assigned) == 1:
            yield next(iter(self.assigned)), messages
        else:
            for where, group in groupby(messages, _partition):
                yield where, list(group)

    def _follow(self, topic: Topic, partition: int, messages: Sequence[Any]) -> None:
        """Count offsets that are missing: removed before we came to them, or of transactions and compaction."""
        first, last = messages[0].offset(), messages[-1].offset()
        missing = last + 1 - first - len(messages) + max(0, first - topic.next_offset.get(partition, first))
        if missing > 0:
            topic.counters.add("skipped", missing)
        topic.next_offset[partition] = last + 1

    def _say_poison(self, message: Any) -> None:
        if self._said < _MOST_SAID:
            self._said += 1
            where = f"topic {message.topic()}, partition {message.partition()}, offset {message.offset()}"
            more = "; further ones are only counted" if self._said == _MOST_SAID else ""
            log.warning("a message cannot be read as %s and is skipped: %s%s", self._settings.format, where, more)

    def _commit(self, *, wait: bool = False) -> None:
        """Tell the broker what is in the history."""
        new = {key: at for key, at in self._positions.items() if self._committed.get(key) != at}
        if not new:
            return
        offsets = [TopicPartition(topic, number, at) for (topic, number), at in new.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not wait)
        except KafkaException as error:
            self._failed(_text(error))  # what is read again is there already
        else:
            self._committed |= new
            self.counters.add("commits")

    def _on_error(self, error: Any) -> None:
        self._failed(error.str())

    def _failed(self, what: str) -> None:
        self.counters.add("errors")
        if self._trouble is None:
            log.warning("Kafka at %s: %s; trying on", self._settings.servers, what)
        self._trouble = what

    def _works(self) -> None:
        if self._trouble is not None:
            log.warning("Kafka at %s is back", self._settings.servers)
            self._trouble = None


def _text(error: Exception) -> str:
    """Return what librdkafka says is wrong."""
    first = error.args[0] if error.args else error
    return str(first.str() if hasattr(first, "str") else first)
