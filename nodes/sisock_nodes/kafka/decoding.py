"""Messages of JSON and MessagePack to objects; a malformed message costs no other."""

import json
from typing import Any

import msgpack
import orjson

from sisock.metrics import Counters
from sisock_nodes.records.texts import as_utf8, as_whole

_BOM = b"\xef\xbb\xbf"
# Digits of an integer that Python reads quickly; more are a float, perhaps an infinite one.
_DIGITS = 4000


def from_json(value: bytes, counters: Counters) -> Any:
    """Return the objects in a message of JSON.

    Bare NaN and Infinity, which Python's own json writes, are numbers; control characters in texts are what they are;
    bytes that are not UTF-8 are counted as ``bad_bytes`` and read as `as_utf8` reads them.

    Raises
    ------
    ValueError
        If it is not JSON.
    """
    try:
        return orjson.loads(value)
    except ValueError:
        text, bad = as_utf8(value.removeprefix(_BOM))
    try:
        found = json.loads(text, strict=False, parse_int=_integer)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    counters.add("bad_bytes", bad)
    return repaired(found, counters)


def from_msgpack(value: bytes, counters: Counters) -> Any:
    """Return the objects in a message of MessagePack.

    Time stamps are UNIX seconds, keys become texts; texts that are not UTF-8 are counted as
    ``bad_bytes`` and read as `as_utf8` reads them.

    Raises
    ------
    ValueError
        If it is not MessagePack.
    """
    try:
        return msgpack.unpackb(value, strict_map_key=True, timestamp=1)
    except (msgpack.UnpackException, ValueError, TypeError):
        pass
    try:
        found = msgpack.unpackb(value, strict_map_key=False, timestamp=1, unicode_errors="surrogateescape")
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise ValueError(str(error)) from error
    return repaired(found, counters)


def repaired(found: Any, counters: Counters) -> Any:
    """Return decoded objects with texts, keys included, that can be written anywhere; see `as_whole`.

    Raises
    ------
    ValueError
        If it is nested too deep.
    """
    try:
        found, bad = _repaired(found)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    counters.add("bad_bytes", bad)
    return found


def _repaired(found: Any) -> tuple[Any, int]:
    if type(found) is str:
        return as_whole(found)
    if type(found) is dict:
        items = [(_repaired(key if type(key) is str else _key(key)), _repaired(value)) for key, value in found.items()]
        return {key: value for (key, _), (value, _) in items}, sum(a + b for (_, a), (_, b) in items)
    if type(found) is list:
        parts = [_repaired(each) for each in found]
        return [part for part, _ in parts], sum(bad for _, bad in parts)
    return found, 0


def _key(key: Any) -> str:
    return key.decode(errors="surrogateescape") if type(key) is bytes else str(key)


def _integer(digits: str) -> float:
    return int(digits) if len(digits) < _DIGITS else float(digits)
