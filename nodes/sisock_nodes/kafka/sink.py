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
from sisock.spool import Spool
from sisock_nodes.kafka.client import Troubles, confluent_kafka, opened
from sisock_nodes.kafka.sink_settings import KafkaSinkSettings

# Bytes of a message, about; and of what is handed to librdkafka at once.
_MESSAGE, _AT_ONCE = 500_000, 8_000_000
_RETRY_S = 1.0
_CODES = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H"}
_CODES |= {"u1": "B", "b1": "?"}

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
        self.counters = Counters("delivered", "errors", "unwritten")
        self._settings, self._node = settings, node
        self._spool = Spool(folder, settings.limit)
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        config = {
            "bootstrap.servers": settings.servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.kbytes": 65536,
            "message.timeout.ms": 60_000,
            **settings.config,
        }
        self._troubles = Troubles(f"publishing to Kafka at {settings.servers}", "messages wait on disk", self.counters)
        self._producer = opened(confluent_kafka.Producer, config, self._troubles)

    def start(self) -> None:
        """Begin to deliver, first what an earlier run left."""
        self._thread = threading.Thread(target=self._run, name="kafka sink", daemon=True)
        self._thread.start()

    def add(self, timeline: Timeline) -> None:
        """Hear of a timeline; its messages say what they hold."""

    def put(self, batch: Batch) -> None:
        """Have a batch wait on disk."""
        topic = self._settings.topic.format(node=self._node, timeline=batch.timeline)
        topic = re.sub(r"[^A-Za-z0-9._-]", "_", topic)[:249]
        try:
            for part in _parts(batch):
                value, headers = _encoded(part, self._settings.format)
                stamp = max(0, int(part.t[0] * 1000))
                self._spool.append(msgpack.packb([topic, batch.timeline, stamp, headers, value]))
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

    def _deliver(self) -> bool:
        """Deliver what waits, or a part of it; whether there was anything."""
        outstanding, failed = 0, 0
        until, frames = None, 0

        def done(error: Any, _message: Any) -> None:
            nonlocal outstanding, failed
            outstanding -= 1
            if error is not None:
                failed += 1
                self._troubles.failed(error)

        for place, frame in self._spool.waiting(_AT_ONCE):
            topic, key, stamp, headers, value = msgpack.unpackb(frame)
            about = {"key": key, "timestamp": stamp, "headers": list(headers.items()), "on_delivery": done}
            while True:
                try:
                    self._producer.produce(topic, value, **about)
                except BufferError:
                    self._producer.poll(0.1)
                    if self._stopping.is_set():
                        return False
                else:
                    break
            outstanding += 1
            until, frames = place, frames + 1
        while outstanding and not self._stopping.is_set():
            self._producer.poll(0.1)
        if until is None or outstanding:
            return False
        if failed:
            self._stopping.wait(_RETRY_S)
            return True  # all of them once more: a message may arrive twice, but none is missing
        self._spool.delivered(until, frames)
        self.counters.add("delivered", frames)
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
