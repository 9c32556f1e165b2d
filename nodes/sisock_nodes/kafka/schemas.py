"""Messages with the number of their schema in front, as Confluent's serializers write them, to objects.

The client's own deserializers are not used, only what they are made of: for Avro it walks through the schema for each
message (a third of the speed), and for Protobuf it wants a class that was compiled before.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sisock.errors import BadData
from sisock.metrics import Counters
from sisock.outage import LimitedLog
from sisock.times import Clock
from sisock_nodes.kafka.errors import NoRegistry
from sisock_nodes.kafka.registry import SchemaRegistry

PREFIX = 5
"""Bytes in front: 0, and the number of the schema, big-endian."""
UNKNOWN_S = 10.0
"""How long a schema that is not in the registry is not asked for again, in seconds."""
# Numbers in bytes that are not messages are unlimited; existing schemas are few.
_MOST_UNUSABLE = 1000
_MOST_LOGGED = 20

Read = Callable[[bytes, Counters], list[dict[str, Any]]]
"""Returns the objects in a message, or raises BadData; counts ``bad_bytes`` of texts that are not UTF-8."""
log = logging.getLogger(__name__)


class SchemaDecoder:
    """Reads each message by the schema that it was written with.

    Parameters
    ----------
    registry : SchemaRegistry
    reader : callable
        Takes a number and the registry, and returns how messages of that schema are read; it raises BadData for a
        schema that cannot be used.
    clock : Clock
    """

    def __init__(self, registry: SchemaRegistry, reader: Callable[[int, SchemaRegistry], Read], clock: Clock) -> None:
        self._registry, self._reader, self._clock = registry, reader, clock
        self._known: dict[bytes, Read] = {}
        self._unusable: dict[bytes, float] = {}
        self._awaited: set[bytes] = set()
        self._unusable_log = LimitedLog(log, per_kind=_MOST_LOGGED)
        self._lock = threading.Lock()  # the past is read in other threads than what comes

    def decoded(self, values: Sequence[bytes], counters: Counters) -> tuple[list[dict[str, Any]], list[int], list[int]]:
        """Return the objects in some messages, how many are in each, and which messages cannot be read.

        Parameters
        ----------
        values : sequence of bytes
        counters : Counters
            Of their topic: ``bytes``, values that are bytes and are left out.

        Raises
        ------
        NoRegistry
            If a schema that is not known yet cannot be asked for; nothing was counted then.
        """
        prefixes = [value[:PREFIX] for value in values]
        different = set(prefixes)
        self._catch_up(different)
        objects: list[dict[str, Any]] = []
        counts, poison, left_out = [], [], 0
        for i, (prefix, value) in enumerate(zip(prefixes, values, strict=True)):
            read = self._known.get(prefix)
            try:
                parts = read(value, counters) if read else None
            except BadData:
                parts = None
            if parts is None:
                poison.append(i)
                parts = []
            objects += parts
            counts.append(len(parts))
        if any(getattr(self._known.get(prefix), "has_bytes", False) for prefix in different):
            left_out = sum(map(without_bytes, objects))
        counters.add("bytes", left_out)
        return objects, counts, poison

    def is_ready(self) -> bool:
        """Whether all schemas are known that were asked for in vain."""
        try:
            self._catch_up()
        except NoRegistry:
            return False
        return True

    def _catch_up(self, more: Iterable[bytes] = ()) -> None:
        with self._lock:
            self._awaited.update(more)
            while self._awaited:
                prefix = self._awaited.pop()
                try:
                    self._learn(prefix)
                except NoRegistry:
                    self._awaited.add(prefix)
                    raise

    def close(self) -> None:
        """Let go of the registry."""
        self._registry.close()

    def _learn(self, prefix: bytes) -> None:
        """Find out how messages with a prefix are read, unless that is known already."""
        if prefix in self._known or len(prefix) < PREFIX or prefix[0] != 0:
            return
        if self._unusable.get(prefix, 0.0) > (now := self._clock.monotonic()):
            return
        if len(self._unusable) >= _MOST_UNUSABLE:
            self._unusable.clear()
        number = int.from_bytes(prefix[1:], "big")
        try:
            self._known[prefix] = self._reader(number, self._registry)
        except BadData as error:
            self._unusable[prefix] = now + UNKNOWN_S
            self._unusable_log.warning("schema", "messages of schema %d cannot be read: %s", number, error)


def without_bytes(each: dict[str, Any]) -> int:
    """Remove values that are bytes from an object, and return how many there were."""
    found = [key for key, value in each.items() if type(value) is bytes]
    for key in found:
        del each[key]
    return len(found) + sum(without_bytes(value) for value in each.values() if type(value) is dict)
