"""Consuming topics, in a thread that emits whole batches."""

import logging
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import methodcaller
from typing import Any

import numpy as np

from sisock.errors import SisockError
from sisock.fields import Batch, Timeline
from sisock.metrics import Counters
from sisock.outage import Health, LimitedLog, OutageLog
from sisock.source import Emit
from sisock.times import Clock, Interval
from sisock.worker import Worker
from sisock_nodes.kafka.assignment import Assignment
from sisock_nodes.kafka.client import confluent_kafka, opened, text_of
from sisock_nodes.kafka.errors import NoRegistry
from sisock_nodes.kafka.held import Held
from sisock_nodes.kafka.log import Log
from sisock_nodes.kafka.progress import Progress
from sisock_nodes.kafka.settings import KafkaSettings
from sisock_nodes.kafka.shared import SharedPast
from sisock_nodes.kafka.topic import Stamps, Topic

_AT_ONCE, _WAIT_S = 10_000, 0.1
_COMMIT_S = 1.0
_RETRY_S, _LOOK_S = 1.0, 1.0
_MOST_LOGGED = 20
_PATIENCE_S = 10.0

log = logging.getLogger(__name__)
_error, _value, _offset, _key = map(methodcaller, ("error", "value", "offset", "key"))


def _partition(message: Any) -> tuple[str, int]:
    return message.topic(), message.partition()


def _stamps(messages: Sequence[Any]) -> Stamps:
    """Return when messages of a partition were written or made."""
    t = np.array([message.timestamp()[1] for message in messages]) / 1000.0
    return Stamps(messages[0].partition(), np.fromiter(map(_offset, messages), np.int64, len(messages)), t)


def _samples(topic: Topic, messages: Sequence[Any], now: float) -> Iterator[Batch]:
    """Return the samples in some messages of a partition of a topic."""
    stamps = _stamps(messages) if topic.stamped else None
    keys = list(map(_key, messages)) if topic.keyed_by_message else None
    return topic.read(list(map(_value, messages)), stamps, now, keys)


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
        self._schemas = None
        if settings.registry is not None:
            from sisock_nodes.kafka.formats import decoder_for

            self._schemas = decoder_for(settings, clock, self.counters)
        self._outages = OutageLog(clock, log)
        self._topics: dict[str, Topic] = {}
        self._declared: dict[str, Timeline] = {}  # by name
        self._watermarks: dict[str, float] = {}  # the newest that was emitted, by timeline
        self._unreadable = LimitedLog(log, per_kind=_MOST_LOGGED)
        self._worker = Worker("kafka", self._run, patience_s=_PATIENCE_S)
        self._stopping = self._worker.stopping
        self._servers = f"Kafka at {settings.servers}"
        self._failures = OutageLog(clock, log, partial(self.counters.add, "failures"))
        self._brokers = OutageLog(clock, log, partial(self.counters.add, "errors"))
        self._consumer = opened(confluent_kafka.Consumer, settings.librdkafka(node), self._failed)
        self._held = Held(self._consumer, lambda: self._schemas is None or self._schemas.is_ready())
        self._assignment = Assignment(
            settings, self._consumer, self._held, self.counters, self._failed, clock, self._stopping
        )
        self._log = Log(settings, node, self._failed)
        self._shared = SharedPast(self._read_past, clock)
        self._looked_at: set[str] = set()  # topics whose newest messages were looked at for their fields

    @property
    def timelines(self) -> Sequence[Timeline]:
        """A timeline for each topic that is known."""
        return [timeline for topic in tuple(self._topics.values()) for timeline in topic.timelines]

    @property
    def parts(self) -> Sequence[Topic]:
        """The topics."""
        return list(self._topics.values())

    @property
    def assigned(self) -> Collection[tuple[str, int]]:
        """The partitions that are read here, by topic and number."""
        return self._assignment.partitions

    def status(self) -> Health:
        """Return whether samples of all topics are accepted."""
        return self._outages.health()

    def start(self, emit: Emit) -> None:
        """Start to consume."""
        self._worker.start(emit)

    def stop(self) -> None:
        """Stop consuming; offsets are committed, and the partitions released."""
        self._worker.stop()
        self._log.close()

    def past(self, timeline: str, interval: Interval) -> Sequence[Batch]:
        """Return the samples of a topic's partitions here that its log has in about an interval.

        Raises
        ------
        TooLarge
            If there are more messages than can be brought together.
        TimedOut, NodeFailed
            If the brokers do not return them.
        """
        name, partitions = self._topic_of(timeline), self._assignment.of(self._topic_of(timeline))
        topic = self._topics.get(name)
        others = [each.name for each in topic.timelines] if topic is not None else ()
        return self._shared.samples(name, partitions, interval, timeline, others)

    def _read_past(
        self, name: str, partitions: Collection[int], interval: Interval, timelines: frozenset[str]
    ) -> dict[str, list[Batch]]:
        """Return the samples that the log has of some timelines of a topic."""
        messages = self._log.messages(name, partitions, interval)
        messages.sort(key=_partition)
        found: dict[str, list[Batch]] = {}
        for _, part in groupby(messages, _partition):
            # Separate from the topic that is being consumed, and from its counters.
            topic = Topic(name, self._settings, self._schemas, timelines)
            for batch in _samples(topic, list(part), self._clock.now()):
                found.setdefault(batch.timeline, []).append(batch)
        return found

    def has_past(self, timeline: str, interval: Interval) -> bool:
        """Whether the log has messages of a topic's partitions here of about an interval."""
        name = self._topic_of(timeline)
        return self._log.has(name, self._assignment.of(name), interval)

    def _topic_of(self, timeline: str) -> str:
        """Return the topic of a timeline: with a key, whose name follows, the longest that the name begins with."""
        if self._settings.key is None:
            return timeline
        known = (name for name in tuple(self._topics) if timeline.startswith(f"{name}."))
        return max(known, key=len, default=timeline)

    def _topic(self, name: str) -> Topic:
        return Topic(name, self._settings, self._schemas, outages=self._outages)

    def _run(self, emit: Emit) -> None:
        begun = False
        try:
            while not self._stopping.is_set():
                try:
                    if not begun:
                        self._assignment.begin()
                        begun = True
                    self._consume(emit)
                except confluent_kafka.KafkaException as error:
                    self._failed(error)
                    self._clock.wait(self._stopping, _RETRY_S)
                except Exception as error:  # noqa: BLE001 - logged with its traceback
                    self._failures.failed("consuming", error)
                    self._clock.wait(self._stopping, _RETRY_S)
        finally:
            self._consumer.close()
            if self._schemas is not None:
                self._schemas.close()

    def _consume(self, emit: Emit) -> None:
        committed = looked = self._clock.monotonic()
        while not self._stopping.is_set():
            self._look(emit)
            self._held.resume()
            if self._clock.monotonic() >= looked + _LOOK_S:
                looked = self._clock.monotonic()
                self._shared.forget_old()
                try:
                    self._look_for_ends(emit)
                except confluent_kafka.KafkaException as error:  # others are still read
                    self._failed(error)
            messages = self._consumer.consume(_AT_ONCE, _WAIT_S)
            if messages:
                self._take(messages, emit)
                self._failures.recovered("consuming")
            if self._clock.monotonic() >= committed + _COMMIT_S or self._stopping.is_set():
                committed = self._clock.monotonic()
                self._assignment.commit()
        self._assignment.commit(wait=True)

    def _look(self, emit: Emit) -> None:
        """Learn the fields of new topics, so that their past can be read before their first message arrives."""
        for name in {name for name, _ in self.assigned} - self._looked_at:
            self._looked_at.add(name)
            topic = self._topics.setdefault(name, self._topic(name))
            try:
                for number in self._assignment.of(name):
                    last = self._log.last(name, number)
                    topic.learn(list(map(_value, last)), list(map(_key, last)) if topic.keyed_by_message else None)
            except NoRegistry:
                pass  # already logged; the fields are learned from later messages
            except SisockError as error:
                self._failed(error.message)
            for timeline in topic.timelines:
                self._declare(timeline, emit)

    def _declare(self, timeline: Timeline, emit: Emit) -> None:
        known = self._declared.get(timeline.name)
        if known is not timeline and known != timeline:
            emit.add(timeline)
            self._declared[timeline.name] = timeline

    def _look_for_ends(self, emit: Emit) -> None:
        """Emit watermarks that advance because partitions were read to their end."""
        for name, progress in self._assignment.progress.items():
            topic = self._topics.get(name)
            if topic is None or not topic.timelines or name in self._held:
                continue
            self._assignment.look_for_end(name)
            final = progress.finalized_until
            for timeline in topic.timelines:
                if final > self._watermarks.get(timeline.name, -math.inf):
                    self._watermarks[timeline.name] = final
                    emit(timeline.nothing(final))

    def _take(self, messages: list[Any], emit: Emit) -> None:
        if any(map(_error, messages)):
            for message in (m for m in messages if m.error()):
                self._failed(message.error())
            messages = [message for message in messages if not message.error()]
        if messages:
            self._brokers.recovered(self._servers)
        now = self._clock.now()
        for (name, number), part in self._by_partition(messages):
            if name in self._held:
                self._held.put_back(name, number, part[0].offset())
                continue
            topic = self._topics.get(name) or self._topics.setdefault(name, self._topic(name))
            progress = self._assignment.progress[name]
            try:
                self._emit(topic, _samples(topic, part, now), progress, number, now, emit)
            except NoRegistry:
                self._held.hold(name, self.assigned)
                self._held.put_back(name, number, part[0].offset())
                continue
            for index in topic.poison:
                self._warn_of(part[index])
            first, last = part[0].offset(), part[-1].offset()
            self._assignment.positions[name, number] = last + 1
            topic.counters.add("skipped", progress.on_offsets(number, first, last) - len(part))
            topic.counters.add("messages", len(part))

    def _emit(
        self, topic: Topic, batches: Iterator[Batch], progress: Progress, number: int, now: float, emit: Emit
    ) -> None:
        """Emit the samples of a partition, each batch with the watermark once all of them are stored."""
        for batch in batches:
            self._declare(topic.timeline(batch.timeline), emit)
            progress.on_samples(number, min(float(batch.t[np.isfinite(batch.t)].max(initial=-math.inf)), now))
            final = progress.finalized_until
            self._watermarks[batch.timeline] = final
            emit(replace(batch, finalized_until=final) if math.isfinite(final) else batch)

    def _by_partition(self, messages: list[Any]) -> Iterator[tuple[tuple[str, int], list[Any]]]:
        """Yield the messages of each partition, as they follow each other; where it can be, without looking at each."""
        if len(self.assigned) == 1:
            yield next(iter(self.assigned)), messages
        else:
            for where, group in groupby(messages, _partition):
                yield where, list(group)

    def _warn_of(self, message: Any) -> None:
        """Log that a message cannot be read."""
        self._unreadable.warning(
            "unreadable",
            "a message cannot be read as %s and is skipped: topic %s, partition %d, offset %d",
            *(self._settings.format, message.topic(), message.partition(), message.offset()),
        )

    def _failed(self, error: object) -> None:
        """Report a failure of the brokers: an exception, a KafkaError or a text."""
        self._brokers.failed(self._servers, text_of(error))
