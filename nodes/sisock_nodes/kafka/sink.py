"""Publishing to topics: what waits is on disk until a broker has acknowledged it."""

import errno
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import orjson

from sisock.fields import Batch, Column, Timeline
from sisock.metrics import Counters
from sisock.spool import Place, Spool
from sisock_nodes.kafka.client import Troubles, confluent_kafka, opened, text_of
from sisock_nodes.kafka.sink_settings import KafkaSinkSettings

# Bytes of a message, about; and of what is handed to librdkafka at once.
_MESSAGE, _AT_ONCE = 500_000, 8_000_000
_RETRY_S, _LONGEST_S = 1.0, 30.0
_CODES = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H"}
_CODES |= {"u1": "B", "b1": "?"}

# What is wrong with a message itself, or with the name of its topic: it would be so again.
_HOPELESS = (
    confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE,
    confluent_kafka.KafkaError.INVALID_MSG,
    confluent_kafka.KafkaError.INVALID_MSG_SIZE,
    confluent_kafka.KafkaError.INVALID_RECORD,
    confluent_kafka.KafkaError.TOPIC_EXCEPTION,
)

log = logging.getLogger(__name__)


class KafkaSink:
    """All that a node stores, as messages of a topic for each timeline.

    Parameters
    ----------
    settings : KafkaSinkSettings
    node : str
    folder : Path
        Where messages wait.

    Raises
    ------
    BadRequest
        If librdkafka does not take the settings, or the folder cannot be used.
    """

    def __init__(self, settings: KafkaSinkSettings, node: str, folder: Path) -> None:
        self.counters = Counters("delivered", "rejected", "errors", "unwritten")
        self._settings, self._node = settings, node
        self._spool = Spool(folder, settings.limit)
        self._acknowledged: set[Place] = set()  # behind something that is not
        self._rejecting: set[str] = set()  # topics
        self._pause_s = _RETRY_S
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._troubles = Troubles(f"publishing to Kafka at {settings.servers}", "messages wait on disk", self.counters)
        self._producer = opened(confluent_kafka.Producer, settings.librdkafka(), self._troubles)

    def start(self) -> None:
        """Begin to deliver, first what an earlier run left."""
        self._thread = threading.Thread(target=self._run, name="kafka sink", daemon=True)
        self._thread.start()

    def add(self, timeline: Timeline) -> None:
        """Hear of a timeline; its messages say what they hold."""

    def put(self, batch: Batch) -> None:
        """Have a batch wait on disk."""
        try:
            for part in _parts(batch):
                value, headers = _encoded(part, self._settings.format)
                stamp = max(0, int(part.t[0] * 1000))
                self._spool.append(msgpack.packb([batch.timeline, stamp, headers, value]))
        except OSError as error:
            self.counters.add("unwritten")
            self._troubles.failed(f"what is to be published cannot be written to disk: {error.strerror}")
        self._wake.set()

    def status(self) -> Mapping[str, Any]:
        """Return the counts of messages, and the bytes that wait."""
        counts = self.counters.as_dict() | self._spool.counters.as_dict()
        return {"sink": "kafka", "waiting": self._spool.frames, "bytes": self._spool.size, "counters": counts}

    def stop(self) -> None:
        """Deliver no more; what is not acknowledged is delivered in the next run."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10.0)
        self._spool.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if not self._deliver():
                    self._wake.wait(_RETRY_S)
                    self._wake.clear()
            except Exception as error:
                self._troubles.failed(f"{type(error).__name__}: {error}")
                log.debug("publishing failed", exc_info=True)
                self._stopping.wait(_RETRY_S)

    def _topic(self, timeline: str) -> str:
        topic = self._settings.topic.format(node=self._node, timeline=timeline)
        return re.sub(r"[^A-Za-z0-9._-]", "_", topic)[:249]

    def _deliver(self) -> bool:
        """Deliver what waits, or a part of it; whether there was anything."""
        outstanding, delivered, last, open_places = 0, 0, None, set[Place]()
        self._acknowledged = {place for place in self._acknowledged if place > self._spool.done}  # or it was dropped

        def done(place: Place, topic: str, error: Any) -> None:
            nonlocal outstanding, delivered
            outstanding -= 1
            if error is None:
                delivered += 1
            elif error.code() in _HOPELESS:
                self.counters.add("rejected")
                if topic not in self._rejecting:
                    self._rejecting.add(topic)
                    log.error(
                        "topic %s does not take a message, which is given up: %s (said once)", topic, text_of(error)
                    )
            else:
                self._troubles.failed(error)
                return
            open_places.discard(place)
            self._acknowledged.add(place)

        for place, frame in self._spool.waiting(_AT_ONCE, self._acknowledged):
            timeline, stamp, headers, value = msgpack.unpackb(frame)
            topic = self._topic(timeline)
            about = {"key": timeline, "timestamp": stamp, "headers": list(headers.items())}
            outstanding, last = outstanding + 1, place
            open_places.add(place)
            while True:
                try:
                    self._producer.produce(
                        topic, value, **about, on_delivery=lambda error, _, at=place, to=topic: done(at, to, error)
                    )
                except BufferError:
                    self._producer.poll(0.1)
                    if self._stopping.is_set():
                        return False
                except confluent_kafka.KafkaException as error:  # larger than a message may be at all
                    done(place, topic, error.args[0])
                    break
                else:
                    break
        while outstanding and not self._stopping.is_set():
            self._producer.poll(0.1)
        if last is None or outstanding:
            return False
        # Those before the first that is not acknowledged; what comes after it is not sent again in this run.
        first = min(open_places, default=None)
        over = sorted(place for place in self._acknowledged if (place < first if first else place <= last))
        if over:
            self._spool.delivered(over[-1], len(over))
            self._acknowledged.difference_update(over)
        self.counters.add("delivered", delivered)
        if first:
            self._stopping.wait(self._pause_s)
            self._pause_s = min(2.0 * self._pause_s, _LONGEST_S)
        else:
            self._pause_s = _RETRY_S
            self._troubles.works()
        return True


def _parts(batch: Batch) -> Iterator[Batch]:
    """Yield a batch in parts that fit a message."""
    row = 8 + sum(16 if values.dtype.kind == "O" else values.itemsize for values in batch.columns.values())
    step = max(1, _MESSAGE // row)
    for start in range(0, len(batch), step):
        part = slice(start, start + step)
        yield Batch(batch.timeline, batch.t[part], {name: values[part] for name, values in batch.columns.items()})


def _encoded(batch: Batch, how: str) -> tuple[bytes, dict[str, str]]:
    """Return a message's value, and headers that say what it is."""
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
    told = {"format": "struct", "byte_format": byte_format, "input_names": orjson.dumps(names).decode()}
    return records.tobytes(), told


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
