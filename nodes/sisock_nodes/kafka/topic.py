"""One topic: its messages to samples."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgpack
import numpy as np
import orjson
from numpy.typing import NDArray

from sisock.fields import Batch, FloatArray, Timeline
from sisock.metrics import Counters
from sisock_nodes.kafka.settings import KafkaSettings
from sisock_nodes.records.objects import ObjectReader
from sisock_nodes.records.reader import RecordReader

if TYPE_CHECKING:
    from sisock_nodes.kafka.schemas import SchemaDecoder

# The least by which float64 tells UNIX seconds apart, and how many partitions share a stamp without a common time.
_STEP_S, _PARTITIONS = 2.0**-22, 16


class Stamps(NamedTuple):
    """When messages of a partition were written or made.

    Attributes
    ----------
    partition : int
    offsets : ndarray of int64, shape (n,)
    t : ndarray of float64, shape (n,)
        UNIX seconds.
    """

    partition: int
    offsets: NDArray[np.int64]
    t: FloatArray

    def of(self, messages: NDArray[Any]) -> "Stamps":
        """Return those of some of the messages, by number or by a mask."""
        return Stamps(self.partition, self.offsets[messages], self.t[messages])


class Topic:
    """The messages of a topic, as samples of one timeline.

    Parameters
    ----------
    name : str
        Of the topic and of its timeline; fields are called ``<name>.<value>``.
    settings : KafkaSettings
    schemas : SchemaDecoder, optional
        What reads messages of the formats that have schemas.

    Attributes
    ----------
    counters : Counters
        Those of the reader, and ``messages``, ``empty``, ``poison`` (messages that cannot be read and are left out) and
        ``skipped`` (offsets that were not there any more, or never).
    poison : list of int
        Which of the messages handed to `read` last cannot be read.
    """

    def __init__(self, name: str, settings: KafkaSettings, schemas: "SchemaDecoder | None" = None) -> None:
        self.name, self._settings, self._schemas = name, settings, schemas
        self.poison: list[int] = []
        self._last_stamp: dict[int, tuple[float, int]] = {}  # by partition, and the first offset that had it
        self._records = self._objects = None
        if settings.record is not None:
            self._records = RecordReader(settings.record, name, settings.max_ahead)
            fields = settings.record.fields(f"{name}.")
            self._timeline = Timeline(name, fields, lateness_s=math.inf, follows_clock=False)
            self.counters: Counters = self._records.counters
        else:
            self._objects = ObjectReader(name, settings.time, settings.values, math.inf, settings.max_ahead)
            self.counters = self._objects.counters
        for count in ("messages", "empty", "poison", "skipped"):
            self.counters.add(count, 0)

    @property
    def stamped(self) -> bool:
        """Whether the time stamps of messages are needed."""
        by = self._settings.record.timed_by if self._settings.record else self._settings.time.field
        origin = self._settings.record.time.origin if self._settings.record else "epoch"
        return by is None or origin == "start"

    @property
    def timeline(self) -> Timeline:
        """Its timeline, with the fields that are known so far."""
        return self._timeline if self._objects is None else self._objects.timeline

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The one timeline, as soon as it has a field."""
        return (self.timeline,) if self.timeline.fields else ()

    def learn(self, values: Sequence[bytes | None]) -> None:
        """Learn the fields from some messages, without making samples of them."""
        if self._objects is not None:
            objects, _ = self._decoded([value for value in values if value is not None])
            self._objects.learn(objects)

    def read(self, values: Sequence[bytes | None], stamps: Stamps | None, now: float) -> Iterator[Batch]:
        """Yield the samples in some messages of a partition.

        Parameters
        ----------
        values : sequence of bytes
            None for messages without a value, which delete a key.
        stamps : Stamps or None
            None if they are not `stamped`.
        now : float
            UNIX seconds.

        Raises
        ------
        NoRegistry
            If a schema cannot be asked for; nothing was yielded or counted then.
        """
        count, self.poison = len(values), []
        there = None
        if None in values:
            there = [i for i, value in enumerate(values) if value is not None]
            values = [values[i] for i in there]
            stamps = stamps and stamps.of(np.array(there))
        if values:
            yield from self._samples(cast("list[bytes]", values), stamps, now)
        self.counters.add("poison", len(self.poison))
        if there is not None:
            self.counters.add("empty", count - len(there))
            self.poison = [there[i] for i in self.poison]

    def _samples(self, values: list[bytes], stamps: Stamps | None, now: float) -> Iterator[Batch]:
        if self._records is not None:
            size = self._records.layout.size
            lengths = np.fromiter(map(len, values), np.int64, len(values))
            whole = (lengths % size == 0) & (lengths > 0)
            if not whole.all():
                self.poison = np.flatnonzero(~whole).tolist()
                values = [value for value, good in zip(values, whole.tolist(), strict=True) if good]
                lengths = lengths[whole]
                stamps = stamps and stamps.of(whole)
            if values:
                records = self._records.layout.records(b"".join(values))
                yield from self._records.read(records, self._times(stamps, lengths // size, now), now)
        elif self._objects is not None:
            objects, counts = self._decoded(values)
            yield from self._objects.read(objects, self._times(stamps, np.array(counts), now), now)

    def _times(self, stamps: Stamps | None, counts: NDArray[np.int64], now: float) -> FloatArray:
        """Return when the samples in some messages were, of which each has so many, by the stamps of the messages.

        Stamps are of milliseconds: what has the same is told apart by offset, and by partition. Who reads the same
        messages again gets the same times.
        """
        if stamps is None or not len(counts):
            return np.full(int(counts.sum()), now)
        t, offsets, number = stamps.t, stamps.offsets, np.arange(len(counts))
        last, base = self._last_stamp.get(stamps.partition, (math.nan, 0))
        new = np.r_[t[0] != last or offsets[0] < base, t[1:] != t[:-1]]
        bases = offsets[np.maximum.accumulate(np.where(new, number, 0))]
        bases[np.cumsum(new) == 0] = base
        self._last_stamp[stamps.partition] = float(t[-1]), int(bases[-1])
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        ranks = np.repeat((offsets - bases) * counts, counts) + within
        return np.asarray(np.repeat(t, counts) + (ranks * _PARTITIONS + stamps.partition % _PARTITIONS) * _STEP_S)

    def _decoded(self, values: list[bytes]) -> tuple[list[dict[str, Any]], list[int]]:
        """Return the objects in some messages, and how many are in each."""
        if self._schemas is not None:
            found, counts, self.poison = self._schemas.decoded(values, self.counters)
            return found, counts
        decode = _parsed if self._settings.format == "json" else _unpacked
        if self._settings.format == "json":
            try:  # all at once is twice as quick
                found = orjson.loads(b"[" + b",".join(values) + b"]")
            except ValueError:
                found = []
            if len(found) == len(values) and set(map(type, found)) == {dict}:
                return found, [1] * len(found)
        objects: list[dict[str, Any]] = []
        counts = []
        for i, value in enumerate(values):
            try:
                parts = decode(value)
            except ValueError:
                parts = None
            parts = [parts] if isinstance(parts, dict) else parts
            if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
                self.poison.append(i)
                parts = []
            objects += parts
            counts.append(len(parts))
        return objects, counts


def _parsed(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except ValueError:
        # Python's own json writes NaN and Infinity bare, which is no JSON but costs only itself.
        if b"NaN" not in value and b"Infinity" not in value:
            raise
    try:
        return json.loads(value)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _unpacked(value: bytes) -> Any:
    try:
        return msgpack.unpackb(value, strict_map_key=True)
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise ValueError(str(error)) from error
