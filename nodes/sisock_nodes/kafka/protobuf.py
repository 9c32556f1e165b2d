"""Protocol Buffers: descriptors of a registry, and messages written by them, to objects."""

import base64
import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from sisock.errors import BadData, MissingExtra
from sisock.metrics import Counters
from sisock_nodes.kafka.registry import SchemaRegistry
from sisock_nodes.kafka.schemas import PREFIX, Read
from sisock_nodes.records.texts import as_utf8

try:
    # The client's module puts the files of google.protobuf, google.type and confluent into the default pool, from which
    # schemas may import them without a reference.
    import confluent_kafka.schema_registry.protobuf  # noqa: F401
    from google.protobuf import descriptor_pool, json_format
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import DecodeError
    from google.protobuf.message_factory import GetMessageClass
except ModuleNotFoundError as error:
    raise MissingExtra("format protobuf needs protobuf; run: pip install 'sisock-nodes[kafka-schemas]'") from error

# Raised by DescriptorPool.Add for files that contradict each other.
_CANNOT_BE = (TypeError, KeyError, ValueError, DecodeError)
_FORM = "serialized"
_DEEPEST = 32
# Kinds of values in a message, by the last bits of their tags; groups are not known.
_VARINT, _SIZED, _FIXED = 0, 2, {1: 8, 5: 4}
_BYTES = "google.protobuf.BytesValue"
_WRAPPED = ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")

Convert = Callable[[Any], Any]


class _Plan:
    """How a message of one type becomes an object.

    Fields without presence are always there; those with presence, and lists, only when they are set.
    """

    def __init__(self, descriptor: Any, plans: dict[str, "_Plan"]) -> None:
        plans[descriptor.full_name] = self
        self.has_bytes = False
        self._plain: list[str] = []
        self._converted: list[tuple[str, Convert]] = []
        self._present: list[tuple[str, Convert | None]] = []
        self._lists: list[str] = []
        self._maps: list[tuple[str, Convert | None]] = []
        for field in descriptor.fields:
            self._add(field, plans)
        names = self._plain
        get = attrgetter(*names) if names else lambda message: ()
        self._get: Convert = (lambda message: (get(message),)) if len(names) == 1 else get

    def _add(self, field: Any, plans: dict[str, "_Plan"]) -> None:
        name, inner = field.name, field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            field = inner.fields_by_name["value"]
            self._maps.append((name, _conversion(field, plans)))
        elif field.is_repeated:
            self._lists.append(name)
        elif field.has_presence:
            self._present.append((name, _conversion(field, plans)))
        elif convert := _conversion(field, plans):
            self._converted.append((name, convert))
        else:
            self._plain.append(name)
        inner = field.message_type
        self.has_bytes |= field.type == field.TYPE_BYTES or (inner is not None and inner.full_name == _BYTES)

    def __call__(self, message: Any) -> dict[str, Any]:
        found = dict(zip(self._plain, self._get(message), strict=True))
        for name, convert in self._converted:
            found[name] = convert(getattr(message, name))
        for name, each in self._present:
            if message.HasField(name):
                value = getattr(message, name)
                found[name] = value if each is None else each(value)
        for name in self._lists:
            if len(getattr(message, name)):
                found[name] = []  # it is counted, and left out
        for name, each in self._maps:
            entries = getattr(message, name).items()
            found[name] = {str(key): value if each is None else each(value) for key, value in entries}
        return found


def _conversion(field: Any, plans: dict[str, _Plan]) -> Convert | None:
    """Return a function that converts a field's value to a number, text, bool or object; None if it is one."""
    if field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return lambda number: names.get(number, str(number))
    inner = field.message_type
    if inner is None:
        return None
    return _KNOWN.get(inner.full_name) or plans.get(inner.full_name) or _Plan(inner, plans)


def _number(decimal: Any) -> float:
    """Return the value of a Decimal of Confluent's; NaN for one that no float64 comes near."""
    unscaled = int.from_bytes(decimal.value, "big", signed=True)
    if abs(decimal.scale) > 400:
        return math.nan
    try:
        return float(unscaled / 10**decimal.scale if decimal.scale >= 0 else unscaled * 10**-decimal.scale)
    except OverflowError:
        return math.nan


_KNOWN: dict[str, Convert] = {
    **{
        f"google.protobuf.{kind}": lambda moment: moment.seconds + moment.nanos / 1e9
        for kind in ("Timestamp", "Duration")
    },
    **{f"google.protobuf.{kind}Value": attrgetter("value") for kind in _WRAPPED},
    **{f"google.protobuf.{kind}": json_format.MessageToDict for kind in ("Struct", "Value", "ListValue")},
    "confluent.type.Decimal": _number,
}


class _Reader:
    """Reads the messages of one schema, which may have several types of them."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._plans: dict[str, _Plan] = {}
        self._types: dict[tuple[int, ...], tuple[Callable[[], Any], _Plan]] = {}

    @property
    def has_bytes(self) -> bool:
        """Whether a value may be bytes, which are left out."""
        return any(plan.has_bytes for plan in self._plans.values())

    def __call__(self, value: bytes, counters: Counters) -> list[dict[str, Any]]:
        indexes, at = _indexes(value)
        known = self._types.get(indexes)
        if known is None:
            descriptor = self._descriptor(indexes)
            known = self._types[indexes] = GetMessageClass(descriptor), self._plan(descriptor)
        make, plan = known
        message = make()
        try:
            try:
                message.ParseFromString(value[at:])
            except DecodeError:
                whole, bad = with_whole_texts(value[at:], message.DESCRIPTOR)
                if not bad:
                    raise
                message.ParseFromString(whole)
                counters.add("bad_bytes", bad)
            return [plan(message)]
        except (DecodeError, json_format.Error, ValueError, RecursionError) as error:
            raise BadData(f"this is not of its schema: {error}") from error

    def _plan(self, descriptor: Any) -> _Plan:
        return self._plans.get(descriptor.full_name) or _Plan(descriptor, self._plans)

    def _descriptor(self, indexes: tuple[int, ...]) -> Any:
        types = [self._file.message_types_by_name[each] for each in _names(self._file)]
        descriptor = None
        for index in indexes:
            if not 0 <= index < len(types):
                raise BadData(f"its schema has no message {indexes}")
            descriptor = types[index]
            types = list(descriptor.nested_types)
        return descriptor


def _names(file: Any) -> list[str]:
    """Return the names of the messages of a file, in order of declaration."""
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    return [each.name for each in proto.message_type]


def with_whole_texts(data: bytes, descriptor: Any, depth: int = 0) -> tuple[bytes, int]:
    """Return a message whose texts are UTF-8, and how many of their bytes were not; see `as_utf8`.

    Raises
    ------
    BadData
        If it is not a message, has groups, or is nested too deep.
    """
    found, at, bad = bytearray(), 0, 0
    while at < len(data):
        start = at
        tag, at = _unsigned(data, at)
        kind, field = tag & 7, descriptor.fields_by_number.get(tag >> 3)
        if kind == _VARINT:
            _, at = _unsigned(data, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif kind == _SIZED and depth < _DEEPEST:
            size, begin = _unsigned(data, at)
            at, inner, wrong = begin + size, data[begin : begin + size], 0
            if field is not None and field.type == field.TYPE_STRING:
                inner, wrong = as_utf8(inner)
            elif field is not None and field.type == field.TYPE_MESSAGE:
                inner, wrong = with_whole_texts(inner, field.message_type, depth + 1)
            if wrong:
                found += _as_varint(tag) + _as_varint(len(inner)) + inner
                bad, start = bad + wrong, at
        else:
            raise BadData("this is not a message of Protobuf, or nested too deep")
        if at > len(data):
            raise BadData("this ends within a value")
        found += data[start:at]
    return bytes(found), bad


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift, byte in enumerate(data[at : at + 10]):
        number |= (byte & 0x7F) << 7 * shift
        if not byte & 0x80:
            return number, at + shift + 1
    raise BadData("this ends within a number")


def _as_varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _indexes(value: bytes) -> tuple[tuple[int, ...], int]:
    """Return which of the messages of a schema this is, and where it begins.

    References
    ----------
    Confluent's wire format: how many, and each of them, as zigzag varints; a 0 alone stands for the first message.
    """
    if value[PREFIX : PREFIX + 1] == b"\0":
        return (0,), PREFIX + 1
    count, at = _varint(value, PREFIX)
    if not 0 < count <= _DEEPEST:
        raise BadData(f"{count} is not a valid depth of a message")
    indexes = []
    for _ in range(count):
        index, at = _varint(value, at)
        indexes.append(index)
    return tuple(indexes), at


def _varint(value: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift, byte in enumerate(value[at : at + 5]):
        number |= (byte & 0x7F) << 7 * shift
        if not byte & 0x80:
            return (number >> 1) ^ -(number & 1), at + shift + 1
    raise BadData("this ends within its index")


def protobuf_reader(number: int, registry: SchemaRegistry) -> Read:
    """Return how messages of a schema are read.

    Raises
    ------
    BadData
        If there is no such schema, or it cannot be used.
    NoRegistry
        If the registry is unreachable.
    """
    schema = registry.schema(number, _FORM)
    pool = descriptor_pool.DescriptorPool()
    name = f"schema-{number}.proto"
    try:
        _add(name, schema, registry, pool, set())
        return _Reader(pool.FindFileByName(name))
    except BadData:
        raise
    except _CANNOT_BE as error:
        raise BadData(f"its schema cannot be used: {error}") from error


def _add(name: str, schema: Any, registry: SchemaRegistry, pool: Any, done: set[str]) -> None:
    """Put a file into a pool, after those that it imports."""
    if schema.schema_type != "PROTOBUF":
        raise BadData(f"its schema is {schema.schema_type or 'AVRO'}, not Protobuf")
    try:
        proto = FileDescriptorProto.FromString(base64.b64decode(schema.schema_str, validate=True))
    except (ValueError, DecodeError) as error:
        said = f"the registry has {name} as text only and does not compile it (format={_FORM}); register the descriptor"
        raise BadData(said) from error
    proto.name = name
    for each, referenced in registry.references(schema, _FORM):
        if each not in done:
            done.add(each)
            _add(each, referenced, registry, pool, done)
    for each in proto.dependency:
        _add_known(each, pool, done)
    pool.Add(proto)


def _add_known(name: str, pool: Any, done: set[str]) -> None:
    """Put a file into a pool that every reader of Protobuf has."""
    if name in done:
        return
    done.add(name)
    proto = FileDescriptorProto()
    try:
        descriptor_pool.Default().FindFileByName(name).CopyToProto(proto)
    except KeyError as error:
        raise BadData(f"{name} is imported, but neither referenced nor known") from error
    for each in proto.dependency:
        _add_known(each, pool, done)
    pool.Add(proto)
