"""One topic: its messages to samples."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from sisock.fields import Batch, FloatArray, Timeline, as_text
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock_nodes.kafka.decoding import from_json, from_msgpack
from sisock_nodes.kafka.settings import KafkaSettings
from sisock_nodes.records.keys import Keyed
from sisock_nodes.records.layout import Layout
from sisock_nodes.records.objects import ObjectReader
from sisock_nodes.records.reader import RecordReader
from sisock_nodes.records.settings import RecordSettings

if TYPE_CHECKING:
    from sisock_nodes.kafka.schemas import SchemaDecoder

_Samples = Sequence[dict[str, Any]] | NDArray[Any]

# Resolution of UNIX seconds in float64, and how many partitions share a stamp without a common time.
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


class _Records(RecordReader):
    """A reader of records that knows its timeline."""

    def __init__(
        self, settings: RecordSettings, name: str, max_ahead_s: float, counters: Counters, outages: OutageLog | None
    ) -> None:
        super().__init__(settings, name, max_ahead_s, counters, outages, "record.time.scale")
        self.timeline = Timeline(name, settings.fields(f"{name}."), lateness_s=math.inf, follows_clock=False)


class Topic:
    """The messages of a topic, as samples of one timeline, or of one for each key.

    Parameters
    ----------
    name : str
        Of the topic and of its timeline; fields are called ``<name>.<value>``. With a key, its name follows a dot.
    settings : KafkaSettings
    schemas : SchemaDecoder, optional
        What reads messages of the formats that have schemas.
    only : frozenset of str, optional
        The names of the only timelines that are read, where the topic has a key.
    outages : OutageLog, optional
        Where it is reported that all samples are refused.

    Attributes
    ----------
    counters : Counters
        Those of the reader, and ``messages``, ``empty``, ``poison`` (messages that cannot be read and are left out) and
        ``skipped`` (offsets that were not there any more, or never).
    poison : list of int
        Which of the messages handed to `read` last cannot be read.
    """

    def __init__(
        self,
        name: str,
        settings: KafkaSettings,
        schemas: "SchemaDecoder | None" = None,
        only: frozenset[str] | None = None,
        outages: OutageLog | None = None,
    ) -> None:
        self.name, self._settings, self._schemas = name, settings, schemas
        self._outages = outages
        self.poison: list[int] = []
        self._last_stamp: dict[int, tuple[float, int]] = {}  # by partition, and the first offset that had it
        self.counters = Counters("messages", "empty", "poison", "skipped", "bad_bytes")
        self._by_timeline: dict[str, _Records | ObjectReader] = {}
        self._key = settings.key
        only = None if only is None else frozenset(each.removeprefix(f"{name}.") for each in only)
        self._keyed: Keyed[_Records | ObjectReader] | None = None
        self._only: _Records | ObjectReader | None = None
        if self._key is None:
            self._only = self._reader()
        else:
            self._keyed = Keyed(self._key.limit, self._reader, self.counters, only)

    def _reader(self, key: str = "") -> "_Records | ObjectReader":
        """Make the reader of a timeline, of a key if there are any."""
        settings, name = self._settings, f"{self.name}.{key}" if key else self.name
        if settings.record is not None:
            records = _Records(settings.record, name, settings.max_ahead, self.counters, self._outages)
            self._by_timeline[name] = records
            return records
        about = dict(settings.values)
        if key:
            about |= {each.removeprefix(f"{key}."): what for each, what in about.items() if each.startswith(f"{key}.")}
        objects = self._by_timeline[name] = ObjectReader(
            name,
            settings.time,
            about,
            math.inf,
            settings.max_ahead,
            missing=settings.missing,
            without=self._key.values if self._key else (),
            declared=not key,
            counters=self.counters,
            outages=self._outages,
        )
        return objects

    @property
    def stamped(self) -> bool:
        """Whether the time stamps of messages are needed."""
        record = self._settings.record
        if record is None:
            return not self._settings.time.fields
        return not record.timed_by or record.time.origin == "start"

    @property
    def keyed_by_message(self) -> bool:
        """Whether the keys of messages are needed."""
        return self._key is not None and self._key.message

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The timelines that are known so far, with the fields that are known so far."""
        return [reader.timeline for reader in tuple(self._by_timeline.values()) if reader.timeline.fields]

    def timeline(self, name: str) -> Timeline:
        """Return a timeline by its name."""
        return self._by_timeline[name].timeline

    def learn(self, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None) -> None:
        """Learn the fields from some messages, without making samples of them."""
        if self._settings.record is not None and not self._keyed:
            return
        there = [i for i, value in enumerate(values) if value is not None]
        # Messages are counted when they are read.
        samples, counts, _ = self._decoded(cast("list[bytes]", [values[i] for i in there]), Counters())
        for reader, index in self._groups(samples, counts, keys and [keys[i] for i in there]):
            if isinstance(reader, ObjectReader):
                objects = cast("Sequence[dict[str, Any]]", samples)
                reader.learn(objects if index is None else [objects[i] for i in index])

    def read(
        self,
        values: Sequence[bytes | None],
        stamps: Stamps | None,
        now: float,
        keys: Sequence[bytes | None] | None = None,
    ) -> Iterator[Batch]:
        """Yield the samples in some messages of a partition.

        Parameters
        ----------
        values : sequence of bytes
            None for messages without a value, which delete a key.
        stamps : Stamps or None
            None if they are not `stamped`.
        now : float
            UNIX seconds.
        keys : sequence of bytes or None
            None if they are not `keyed_by_message`.

        Raises
        ------
        NoRegistry
            If a schema cannot be asked for; nothing was yielded or counted then.
        """
        count, self.poison = len(values), []
        there = None
        if None in values:
            there = [i for i, value in enumerate(values) if value is not None]
            values, keys = [values[i] for i in there], keys and [keys[i] for i in there]
            stamps = stamps and stamps.of(np.array(there))
        if values:
            samples, counts, self.poison = self._decoded(cast("list[bytes]", values), self.counters)
            t = self._times(stamps, counts, now)
            for reader, index in self._groups(samples, counts, keys) if len(samples) else ():
                if index is None:
                    yield from reader.read(samples, t, now)
                elif isinstance(samples, np.ndarray):
                    yield from reader.read(samples[index], t[index], now)
                else:
                    yield from reader.read([samples[i] for i in index], t[index], now)
        self.counters.add("poison", len(self.poison))
        if there is not None:
            self.counters.add("empty", count - len(there))
            self.poison = [there[i] for i in self.poison]

    def _groups(
        self, samples: _Samples, counts: NDArray[np.int64], keys: Sequence[bytes | None] | None
    ) -> Iterator[tuple[Any, NDArray[np.intp] | None]]:
        """Yield the readers of some samples, and which of them are of each; None for all.

        Parameters
        ----------
        samples : sequence
            Objects, or records.
        counts : ndarray of int64
            How many of them are of each message.
        keys : sequence of bytes or None
            Of the messages.
        """
        if self._key is None or self._keyed is None:
            yield self._only, None
            return
        parts: list[list[str]] = []
        if keys is not None:
            texts = ["" if key is None else key.decode(errors="surrogateescape") for key in keys]
            parts.append([text for text, count in zip(texts, counts.tolist(), strict=True) for _ in range(count)])
        for name in self._key.values:
            if isinstance(samples, np.ndarray):
                parts.append(self._key_column(samples, name))
            else:
                path = name.split(".")
                parts.append([_key_text(value_at(each, name, path)) for each in samples])
        yield from self._keyed.groups(zip(*parts, strict=True))

    def _key_column(self, records: NDArray[Any], name: str) -> list[str]:
        record = cast("RecordSettings", self._settings.record)
        return [as_text(value) for value in record.layout.column(records, record.input_names.index(name)).tolist()]

    def _times(self, stamps: Stamps | None, counts: NDArray[np.int64], now: float) -> FloatArray:
        """Return when the samples in some messages were, of which each has so many, by the stamps of the messages.

        Stamps are of milliseconds: equal ones are distinguished by offset and by partition. The same messages have the
        same times whenever they are read.
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

    def _decoded(self, values: list[bytes], counters: Counters) -> tuple[_Samples, NDArray[np.int64], list[int]]:
        """Return the objects or records in some messages, how many are in each, and which cannot be read."""
        if self._settings.record is not None:
            return _records(self._settings.record.layout, values)
        if self._schemas is not None:
            found, numbers, poison = self._schemas.decoded(values, counters)
            return found, np.array(numbers, np.int64), poison
        decode = from_json if self._settings.format == "json" else from_msgpack
        if self._settings.format == "json":
            try:  # all at once is twice as quick
                found = orjson.loads(b"[" + b",".join(values) + b"]")
            except ValueError:
                found = []
            if len(found) == len(values) and set(map(type, found)) == {dict}:
                return found, np.ones(len(found), np.int64), []
        objects: list[dict[str, Any]] = []
        counts, poison = [], []
        for i, value in enumerate(values):
            try:
                parts = decode(value, counters)
            except ValueError:
                parts = None
            parts = [parts] if isinstance(parts, dict) else parts
            if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
                poison.append(i)
                parts = []
            objects += parts
            counts.append(len(parts))
        return objects, np.array(counts, np.int64), poison


def _records(layout: Layout, values: list[bytes]) -> tuple[NDArray[Any], NDArray[np.int64], list[int]]:
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    counts = np.where(lengths % layout.size == 0, lengths // layout.size, 0)
    poison = np.flatnonzero(counts == 0).tolist()
    if poison:
        values = [value for value, count in zip(values, counts.tolist(), strict=True) if count]
    return layout.records(b"".join(values)), counts, poison


def value_at(each: Mapping[str, Any], name: str, path: Sequence[str]) -> Any:
    """Return the value of an object by its name with dots, None where there is none."""
    if name in each:
        return each[name]
    value: Any = each
    for key in path:
        value = value.get(key) if type(value) is dict else None
    return value


def _key_text(value: Any) -> str:
    return as_text(value) if type(value) in (str, int, float, bool) else ""
