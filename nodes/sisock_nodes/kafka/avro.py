"""Avro: schemas of a registry, and messages written by them, to objects."""

import json
import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from sisock.errors import BadData, MissingExtra
from sisock.metrics import Counters
from sisock_nodes.kafka.decoding import repaired
from sisock_nodes.kafka.registry import SchemaRegistry
from sisock_nodes.kafka.schemas import PREFIX, Read

try:
    from fastavro import parse_schema, schemaless_reader
    from fastavro.read import LOGICAL_READERS
    from fastavro.schema import SchemaParseException, UnknownType
except ModuleNotFoundError as error:
    raise MissingExtra("format avro needs fastavro; run: pip install 'sisock-nodes[kafka-schemas]'") from error

# Raised by fastavro for bytes of another schema.
_WRONG = (EOFError, LookupError, ValueError, TypeError, ArithmeticError, struct.error)
_SECONDS = {
    "date": 86400.0,
    "time-millis": 1e3,
    "timestamp-millis": 1e3,
    "local-timestamp-millis": 1e3,
    "time-micros": 1e6,
    "timestamp-micros": 1e6,
    "local-timestamp-micros": 1e6,
    "timestamp-nanos": 1e9,
    "local-timestamp-nanos": 1e9,
}
# By names of our own, so that other users of fastavro in the process keep theirs.
_OURS = {
    f"{kind}-sisock-{name}": (lambda value, *_, n=n: value * n)
    if name == "date"
    else (lambda value, *_, n=n: value / n)
    for name, n in _SECONDS.items()
    for kind in ("int", "long")
}


def _number(value: bytes, schema: Mapping[str, Any], *_: Any) -> float:
    return float(int.from_bytes(value, "big", signed=True) / 10 ** schema.get("scale", 0))


class _Rewriting:
    """A schema whose values come as numbers, texts and flags: one in itself, with readers of ours for logical types.

    Refused are schemas by which a few bytes could keep the process busy for ever or end it: those that contain
    themselves (fastavro follows them on the C stack) and lists of items that take no bytes.
    """

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._defined: set[str] = set()
        self._within: list[str] = []
        self.has_bytes = False

    def of(self, schema: Any) -> Any:
        """Return a part of the schema, rewritten."""
        if isinstance(schema, list):
            return [self.of(each) for each in schema]
        if isinstance(schema, str):
            return self._by_name(schema)
        kind = schema["type"]
        if kind in ("record", "error"):
            return self._record(schema)
        if kind in ("array", "map"):
            inner = "items" if kind == "array" else "values"
            if kind == "array" and self._is_empty(schema[inner]):
                raise BadData("it has a list of items that take no bytes")
            return {"type": kind, inner: self.of(schema[inner])}
        return self._scalar(kind, schema.get("logicalType"), schema)

    def _by_name(self, name: str) -> Any:
        if name in self._within:
            raise BadData(f"{name} contains itself")
        if name in self._named and name not in self._defined:
            return self.of(self._named[name])
        self.has_bytes |= name == "bytes"
        return name

    def _record(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        name = schema["name"]
        self._defined.add(name)
        self._within.append(name)
        fields = [{"name": field["name"], "type": self.of(field["type"])} for field in schema["fields"]]
        self._within.pop()
        return {"type": "record", "name": name, "fields": fields}

    def _scalar(self, kind: Any, logical: str | None, schema: Mapping[str, Any]) -> Any:
        if kind in ("fixed", "enum"):
            self._defined.add(schema["name"])
            plain = {key: schema[key] for key in ("type", "name", "size", "symbols") if key in schema}
        elif isinstance(kind, str) and kind not in self._named:
            plain = {"type": kind}
        else:
            return self.of(kind)
        if logical == "decimal" and kind in ("bytes", "fixed"):
            return {**plain, "logicalType": "sisock-decimal", "scale": schema.get("scale", 0)}
        if f"{kind}-sisock-{logical}" in _OURS:
            return {**plain, "logicalType": f"sisock-{logical}"}
        self.has_bytes |= kind in ("bytes", "fixed")
        return plain

    def _is_empty(self, schema: Any) -> bool:
        schema = self._named.get(schema, schema) if isinstance(schema, str) else schema
        if not isinstance(schema, dict):
            return bool(schema == "null")
        if schema["type"] == "record":
            inner = schema["name"] not in self._within
            return inner and all(self._is_empty(field["type"]) for field in schema["fields"])
        return bool(schema["type"] == "null" or (schema["type"] == "fixed" and schema["size"] == 0))


class _Reader:
    """Reads the messages of one schema."""

    def __init__(self, schema: Any, *, has_bytes: bool) -> None:
        self._schema, self.has_bytes = schema, has_bytes

    def __call__(self, value: bytes, counters: Counters) -> list[dict[str, Any]]:
        try:
            found = self._read(value, "strict")
        except UnicodeDecodeError:
            found = None
        except _WRONG as error:
            raise BadData(f"this is not of its schema: {error!r}") from error
        if found is None:
            try:
                found = repaired(self._read(value, "surrogateescape"), counters)
            except _WRONG as error:
                raise BadData(f"this is not of its schema: {error!r}") from error
        if type(found) is dict:
            return [found]
        if type(found) is list and all(type(each) is dict for each in found):
            return found
        raise BadData("this is not a record")

    def _read(self, value: bytes, errors: str) -> Any:
        stream = BytesIO(value)
        stream.seek(PREFIX)
        found = schemaless_reader(stream, self._schema, None, handle_unicode_errors=errors)
        if stream.tell() != len(value):
            raise BadData("this is longer than its schema describes")
        return found


def avro_reader(number: int, registry: SchemaRegistry) -> Read:
    """Return how messages of a schema are read.

    Raises
    ------
    BadData
        If there is no such schema, or it cannot be used.
    NoRegistry
        If the registry is unreachable.
    """
    schema = registry.schema(number)
    named: dict[str, Any] = {}
    try:
        _define(schema, registry, named, set())
        rewriting = _Rewriting(named)
        plain = rewriting.of(_parsed(schema, named))
        LOGICAL_READERS.update(_OURS)
        LOGICAL_READERS.update({"bytes-sisock-decimal": _number, "fixed-sisock-decimal": _number})
        return _Reader(parse_schema(plain), has_bytes=rewriting.has_bytes)
    except (SchemaParseException, UnknownType, ValueError, LookupError, TypeError, RecursionError) as error:
        if isinstance(error, BadData):
            raise
        raise BadData(f"its schema cannot be used: {error!r}") from error


def _parsed(schema: Any, named: dict[str, Any]) -> Any:
    if schema.schema_type not in (None, "AVRO"):
        raise BadData(f"its schema is {schema.schema_type}, not Avro")
    text = schema.schema_str.strip()
    return parse_schema(json.loads(text if text[:1] in '{["' else f'"{text}"'), named)


def _define(schema: Any, registry: SchemaRegistry, named: dict[str, Any], done: set[str]) -> None:
    """Collect the types that a schema has from others, of which each may have some from others in turn."""
    for name, referenced in registry.references(schema):
        if name not in done:
            done.add(name)
            _define(referenced, registry, named, done)
            _parsed(referenced, named)
