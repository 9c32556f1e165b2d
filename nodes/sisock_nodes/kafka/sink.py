"""Publishing to topics: messages wait on disk until a broker has acknowledged them."""

import errno
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import orjson

from sisock.errors import BadRequest
from sisock.fields import Batch, Column, Timeline
from sisock.metrics import Counters
from sisock.outage import Health, LimitedLog, OutageLog
from sisock.spool import Place, Spool
from sisock.times import SYSTEM_CLOCK, Clock
from sisock.worker import Worker
from sisock_nodes.kafka.client import confluent_kafka, opened, text_of
from sisock_nodes.kafka.delivery import Delivery
from sisock_nodes.kafka.sink_settings import KafkaSinkSettings

_MESSAGE = 500_000  # bytes, about
# Seconds between looks for what is due, and that are waited for acknowledgements.
_LOOK_S, _POLL_S = 1.0, 0.1
# Suffix of the folder in which the messages for one topic wait; counters of lost messages.
_SUFFIX, _LOST = ".topic", ("dropped", "damaged", "unmarked")
_CODES = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H"}
_CODES |= {"u1": "B", "b1": "?"}

# Errors of a message itself, or of the name of its topic: they are permanent.
_HOPELESS = (
    confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE,
    confluent_kafka.KafkaError.INVALID_MSG,
    confluent_kafka.KafkaError.INVALID_MSG_SIZE,
    confluent_kafka.KafkaError.INVALID_RECORD,
    confluent_kafka.KafkaError.TOPIC_EXCEPTION,
)

# Errors of the topic alone, which may be corrected.
_OF_TOPIC = (
    confluent_kafka.KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - librdkafka's own codes are called so
    confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART,
    confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED,
    confluent_kafka.KafkaError.POLICY_VIOLATION,
)

log = logging.getLogger(__name__)


class KafkaSink:
    """Publishes all samples that a node stores, as messages of a topic for each timeline.

    Messages for a topic that refuses them wait separately, so that they hold up no other topic.

    Parameters
    ----------
    settings : KafkaSinkSettings
    node : str
    folder : Path
        Where messages wait.
    clock : Clock, optional

    Raises
    ------
    BadRequest
        If librdkafka does not take the settings, or the folder cannot be used.
    """

    def __init__(self, settings: KafkaSinkSettings, node: str, folder: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self.counters = Counters("delivered", "rejected", "errors", "unwritten", *_LOST)
        self._settings, self._node, self._folder, self._clock = settings, node, folder, clock
        self._outages = OutageLog(self._clock, log)
        self._disk = f"the disk of {folder}, where messages wait,"
        self._main = Delivery(Spool(folder, settings.limit), self._clock)
        self._separate: dict[str, Delivery] = {}  # by topic; replaced, never changed, since other threads look at it
        self._rejections = LimitedLog(log)
        self._wake = threading.Event()
        self._worker = Worker("kafka sink", self._run, patience_s=10.0, wake=self._wake.set)
        self._stopping = self._worker.stopping
        self._brokers = OutageLog(self._clock, log, partial(self.counters.add, "errors"))
        self._publishing = f"publishing to Kafka at {settings.servers}"
        self._producer = opened(confluent_kafka.Producer, settings.librdkafka(), self._failed)
        for left in sorted(folder.glob(f"*{_SUFFIX}")):
            self._open_separate(left.name.removesuffix(_SUFFIX))

    def start(self) -> None:
        """Start to deliver, first the messages that an earlier run left."""
        self._worker.start()

    def add(self, timeline: Timeline) -> None:
        """Ignore the declaration of a timeline: each message describes its contents."""

    def put(self, batch: Batch) -> None:
        """Have a batch wait on disk."""
        try:
            for part in _parts(batch):
                value, headers = _encoded(part, self._settings.format)
                stamp = max(0, int(part.t[0] * 1000))
                self._main.spool.append(msgpack.packb([batch.timeline, stamp, headers, value]))
        except OSError as error:
            self.counters.add("unwritten")
            self._outages.failed(self._disk, f"{error.strerror}; batches are not published, and counted as unwritten")
        else:
            self._outages.recovered(self._disk)
        self._hold_limit()
        self._wake.set()

    def status(self) -> Mapping[str, Any]:
        """Return the counts of messages, the bytes that wait, and the topics that refuse messages."""
        spools = self._spools
        counts = Counter(self.counters.as_dict())
        counts["spooled"] = spools[0].counters["spooled"]
        for spool in spools:
            counts.update({name: spool.counters[name] for name in _LOST})
        return {
            "sink": "kafka",
            "waiting": sum(spool.frames for spool in spools),
            "bytes": sum(spool.size for spool in spools),
            "refusing": sorted(self._separate),
            "counters": dict(counts),
        }

    def health(self) -> Health:
        """Return `degraded` while messages cannot be written to the disk."""
        return self._outages.health()

    def stop(self) -> None:
        """Stop delivering; messages that are not acknowledged are delivered in the next run."""
        self._worker.stop()
        for spool in self._spools:
            spool.close()

    @property
    def _deliveries(self) -> list[Delivery]:
        return [self._main, *self._separate.values()]

    @property
    def _spools(self) -> list[Spool]:
        return [delivery.spool for delivery in self._deliveries]

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if not self._deliver():
                    self._clock.wait(self._wake, _LOOK_S)
                    self._wake.clear()
            except confluent_kafka.KafkaException as error:
                self._failed(error)
                self._clock.wait(self._stopping, _LOOK_S)
            except Exception as error:  # noqa: BLE001 - logged with its traceback
                self._brokers.failed(self._publishing, error)
                self._clock.wait(self._stopping, _LOOK_S)

    def _deliver(self) -> bool:
        """Send the messages that are due, poll for results, and return whether any message is under way."""
        for delivery in self._deliveries:
            if delivery.is_due:
                self._begin(delivery)
        under_way = [delivery for delivery in self._deliveries if delivery.sent]
        if under_way:
            self._producer.poll(_POLL_S)
        for delivery in under_way:
            if delivery.is_over:
                self._end(delivery)
        return bool(under_way)

    def _begin(self, delivery: Delivery) -> None:
        for place, frame in delivery.round():
            timeline, stamp, headers, value = msgpack.unpackb(frame)
            topic = self._topic(timeline)
            if delivery.topic is None and topic in self._separate:  # behind what waits there already
                delivery.on_result(place, (topic, None))
                continue
            about = {"key": timeline, "timestamp": stamp, "headers": list(headers.items())}
            on_result = partial(self._on_result, delivery, place, topic)
            self._produce(topic, value, about, on_result)

    def _produce(self, topic: str, value: bytes, about: Mapping[str, Any], on_result: Callable[[Any], None]) -> None:
        """Pass a message to librdkafka as soon as that has room for it."""
        while not self._stopping.is_set():
            try:
                self._producer.produce(topic, value, **about, on_delivery=lambda error, _: on_result(error))
            except BufferError:
                self._producer.poll(_POLL_S)
            except confluent_kafka.KafkaException as error:  # larger than a message may be at all
                on_result(error.args[0])
                return
            else:
                return

    def _on_result(self, delivery: Delivery, place: Place, topic: str, error: Any) -> None:
        """Record the result of sending a message."""
        if error is None:
            self.counters.add("delivered")
        elif error.code() in _HOPELESS:
            self.counters.add("rejected")
            self._rejections.warning(topic, "topic %s refuses a message, which is given up: %s", topic, text_of(error))
        else:
            delivery.on_result(place, (topic, error))
            return
        delivery.on_result(place)

    def _end(self, delivery: Delivery) -> None:
        for place, (topic, error) in sorted(delivery.failed.items()):
            if delivery.topic is not None:
                self.counters.add("errors")
            elif error is None or error.code() in _OF_TOPIC:
                self._set_separate(delivery, place, topic, error)
            else:
                self._failed(error)
        if delivery.topic is None and not delivery.failed:
            self._brokers.recovered(self._publishing)
        delivery.end()
        if delivery.topic is not None and not delivery.spool.frames:
            self._close_separate(delivery.topic)

    def _failed(self, error: object) -> None:
        """Report a failure of the brokers: an exception, a KafkaError or a text."""
        self._brokers.failed(self._publishing, f"{text_of(error)}; messages wait on disk")

    def _set_separate(self, delivery: Delivery, place: Place, topic: str, error: Any) -> None:
        """Move a message that was refused, or that follows such ones, to the spool of its topic."""
        if error is not None:
            self._brokers.failed(f"topic {topic}", f"{text_of(error)}; its messages wait separately")
        try:
            if topic not in self._separate:
                self._open_separate(topic)
            self._separate[topic].spool.append(delivery.sent[place])
        except (OSError, BadRequest) as why:  # it stays where it is
            self._failed(f"messages that topic {topic} refuses cannot be written to disk: {why}")
            return
        delivery.on_result(place)
        self._hold_limit()

    def _open_separate(self, topic: str) -> None:
        spool = Spool(self._folder / f"{topic}{_SUFFIX}", self._settings.limit)
        self._separate = self._separate | {topic: Delivery(spool, self._clock, topic)}

    def _close_separate(self, topic: str) -> None:
        spool = self._separate[topic].spool
        self._separate = {name: delivery for name, delivery in self._separate.items() if name != topic}
        for name in _LOST:
            self.counters.add(name, spool.counters[name])
        spool.remove()
        self._brokers.recovered(f"topic {topic}")

    def _hold_limit(self) -> None:
        """Drop the oldest messages of the largest spool while all together exceed the limit."""
        while self._separate and sum(spool.size for spool in self._spools) > self._settings.limit:
            if not max(self._spools, key=lambda spool: spool.size).drop_oldest():
                return

    def _topic(self, timeline: str) -> str:
        topic = self._settings.topic.format(node=self._node, timeline=timeline)
        return re.sub(r"[^A-Za-z0-9._-]", "_", topic)[:249]


def _parts(batch: Batch) -> Iterator[Batch]:
    """Yield a batch in parts that fit a message."""
    row = 8 + sum(16 if values.dtype.kind == "O" else values.itemsize for values in batch.columns.values())
    step = max(1, _MESSAGE // row)
    for start in range(0, len(batch), step):
        part = slice(start, start + step)
        yield Batch(batch.timeline, batch.t[part], {name: values[part] for name, values in batch.columns.items()})


def _encoded(batch: Batch, how: str) -> tuple[bytes, dict[str, str]]:
    """Return a message's value, and headers that describe its format."""
    names = ["t", *batch.columns]
    if how != "struct":
        lists = [batch.t.tolist(), *(_plain(values) for values in batch.columns.values())]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]
        return (orjson.dumps(rows) if how == "json" else msgpack.packb(rows)), {"format": how}
    columns = [_fixed(values) for values in batch.columns.values()]
    dtype = np.dtype([("t", "<f8"), *((f"value {i}", values.dtype) for i, values in enumerate(columns))])
    records = np.empty(len(batch), dtype)
    records["t"] = batch.t
    for i, values in enumerate(columns):
        records[f"value {i}"] = values
    byte_format = "<d" + "".join(_code(values.dtype) for values in columns)
    headers = {"format": "struct", "byte_format": byte_format, "input_names": orjson.dumps(names).decode()}
    return records.tobytes(), headers


def _plain(values: Column) -> list[Any]:
    if values.dtype.kind == "f":
        return [value if value == value and abs(value) != np.inf else None for value in values.tolist()]  # noqa: PLR0124
    return values.tolist()  # type: ignore[no-any-return]


def _fixed(values: Column) -> Column:
    """Return a column of values of one size, little-endian; texts are as long as the longest of them."""
    if values.dtype.kind == "O":
        return np.array([str(value).encode(errors="replace") or b"\0" for value in values], np.bytes_)
    return values.astype(values.dtype.newbyteorder("<"))


def _code(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "S":
        return f"{dtype.itemsize}s"
    code = _CODES.get(dtype.str[1:])
    if code is None:
        raise OSError(errno.EINVAL, f"{dtype} has no place in a struct")
    return code
