"""Replies and batches as values that every WAMP serializer carries, and back.

Lists are for anyone; packed arrays are for those who know them: ``{dtype, shape, data}``, with NumPy's type
string, little-endian. In lists, what JSON cannot carry (NaN and the infinities) is null.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sisock.downsample import Method, downsampled, keeps_last, stride_for
from sisock.errors import BadAnswer, BadRequest
from sisock.fields import Batch, Column, Downsampled, Epochs, Field, Reply, Samples, as_batch, as_column
from sisock.times import FARTHEST_S

Encoding = Literal["list", "packed"]

# Bytes that one value takes at the most, by serializer: a float64 in JSON is up to 24 digits and a comma.
_WIDEST_JSON, _WIDEST_BINARY = 26, 9
_PLAIN = frozenset((str, int, bool, type(None), bytes))
# What a column of objects may have.
_VALUES = (str, int, float, bool, type(None), np.number, np.bool_)


def pack(array: Column) -> dict[str, Any] | list[Any]:
    """Return a column as a packed array; strings stay lists."""
    if array.dtype.kind not in "iufb":
        return as_list(array)
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {"dtype": little.dtype.str, "shape": list(little.shape), "data": little.tobytes()}


def unpack(value: Any) -> Column:
    """Return the column that a list or a packed array stands for; null in a list of numbers is NaN.

    Raises
    ------
    BadAnswer
        If a packed array is not what it says it is.
    """
    if isinstance(value, Mapping):
        try:
            dtype = np.dtype(value["dtype"])
            if dtype.kind not in "iufb":
                raise BadAnswer(f"a packed array has dtype {value['dtype']!r}; known are integers, floats and bools")
            return np.frombuffer(value["data"], dtype).reshape(value["shape"])
        except (KeyError, TypeError, ValueError, SyntaxError) as error:  # NumPy reads some dtypes as Python
            raise BadAnswer(f"a packed array cannot be read: {error}") from error
    return column(value)


def column(values: Any) -> Column:
    """Return a sequence of numbers, bools or strings as a column; None among numbers becomes NaN."""
    if not isinstance(values, np.ndarray):
        values = list(values)
        if values and isinstance(values[0], str) and set(map(type, values)) == {str}:
            # NumPy would make every text as wide as the longest before it takes them as objects.
            return np.array(values, object)
    array = as_column(values)
    if array.dtype.kind != "O" or not any(value is None for value in array):
        return array
    if all(value is None or isinstance(value, int | float | np.number) for value in array):
        return np.array([math.nan if value is None else value for value in array], np.float64)
    return array


def as_list(array: Column) -> list[Any]:
    """Return a column as plain values, None for what is not finite."""
    # Counting is quicker than `all`, which matters to the many small batches of feeds.
    if array.dtype.kind == "f" and np.count_nonzero(np.isfinite(array)) < array.size:
        boxed = array.astype(object)
        boxed[~np.isfinite(array)] = None
        return boxed.tolist()  # type: ignore[no-any-return]
    return array.tolist()  # type: ignore[no-any-return]


def plain(value: Any) -> Any:  # noqa: PLR0911 - a case for each kind
    """Return `value` with NumPy's arrays and scalars replaced by what serializers know."""
    # By exact type first: every answer of every node passes here, and checks against abstract classes are slow.
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is dict:
        return {
            key if type(key) is str else str(key): item if type(item) in _PLAIN else plain(item)
            for key, item in value.items()
        }
    if isinstance(value, Mapping):
        return plain(dict(value))
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(as_list(value))
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def answer_of(reply: Reply) -> dict[str, Any]:
    """Return a reply in the form of the contract's ``get_data``, its arrays still arrays."""
    data: dict[str, Any] = {name: np.empty(0) for name in reply.empty}
    timelines: dict[str, Any] = {}
    for name, samples in reply.timelines.items():
        data.update(samples.columns)
        timelines[name] = {"t": samples.t, "finalized_until": samples.finalized_until, "field": list(samples.columns)}
        for key in ("gaps", "dropped", "late", "reset"):
            if value := getattr(samples, key):
                timelines[name][key] = value
        if how := samples.downsample:
            first = {"first": list(how.first)} if how.first else {}
            timelines[name]["downsample"] = {"method": how.method, "stride": how.stride, **first}
        if samples.units:
            timelines[name]["units"] = samples.units
        if samples.epochs:
            timelines[name]["epochs"] = {
                field: [epoch_content(*each) for each in epochs] for field, epochs in samples.epochs.items()
            }
    return {"data": data, "timeline": timelines}


def epoch_content(since: float, then: Field) -> dict[str, Any]:
    """Return what a field was from a time on, as it is sent."""
    return {"from": since, "type": then.type, "units": then.units}


# What a timeline states of samples that are lost.
_LOSSES = ("gaps", "dropped", "late")


def guard(answer: Any, asked: Collection[str]) -> dict[str, Any] | Literal[False]:
    """Check what a node's own code answered, and return it with a column for every field that was asked for.

    Raises
    ------
    BadAnswer
        If it is neither False nor a mapping with ``data`` and ``timeline``, values or times are no columns, or a field
        has another length than its timeline.
    """
    if answer is False:
        return False
    if not isinstance(answer, Mapping) or not isinstance(answer.get("data"), Mapping):
        raise BadAnswer(f"get_data returned {type(answer).__name__}; give False or a dict with data and timeline")
    data = {
        str(name): _sound(f"field {name!r}", values) if values is not None else np.empty(0)
        for name, values in answer["data"].items()
    }
    for name in asked:
        data.setdefault(name, np.empty(0))
    timelines: dict[str, dict[str, Any]] = {}
    for name, timeline in (answer.get("timeline") or {}).items():
        if not isinstance(timeline, Mapping) or "t" not in timeline:
            raise BadAnswer(f"get_data returned timeline {name!r} without its times `t`")
        t = _sound(f"the times of timeline {name!r}", timeline["t"])
        if t.dtype.kind not in "iuf":
            raise BadAnswer(f"get_data returned the times of timeline {name!r} as {t.dtype}; give UNIX seconds")
        if len(t) and not -FARTHEST_S <= t.min() <= t.max() <= FARTHEST_S:  # NaN is neither
            raise BadAnswer(f"get_data returned times of timeline {name!r} that cannot be: {t.min()} to {t.max()}")
        if not isinstance(timeline.get("finalized_until"), int | float | np.number | None):
            raise BadAnswer(f"get_data returned timeline {name!r} with a `finalized_until` that is no number")
        if len(t) or any(timeline.get(key) for key in _LOSSES):
            timelines[str(name)] = {"finalized_until": None, **timeline, "t": t}
    lengths = {len(timeline["t"]) for timeline in timelines.values()} - {0}
    for name, values in data.items():
        own = [len(tl["t"]) for tl in timelines.values() if name in (tl.get("field") or ())]
        fitting = set(own) or lengths
        if len(values) and len(values) not in fitting:
            expected = " or ".join(map(str, sorted(fitting))) or "none"
            raise BadAnswer(f"get_data returned {len(values)} values for field {name!r}, its timeline has {expected}")
    if not any(len(values) for values in data.values()):
        timelines = {name: timeline for name, timeline in timelines.items() if not len(timeline["t"])}
    return {"data": data, "timeline": timelines}


def _sound(what: str, values: Any) -> Column:
    """Return values as a column of what a field may have: numbers of at most 64 bits, bools and strings."""
    try:
        array = column(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadAnswer(f"get_data returned {what} as what is no column: {error}") from error
    if array.ndim != 1:
        raise BadAnswer(f"get_data returned {what} with shape {array.shape}; give one value for each time")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if array.dtype.kind == "O":
        odd = [kind.__name__ for kind in set(map(type, array.tolist())) if not issubclass(kind, _VALUES)]
        if odd:
            raise BadAnswer(f"get_data returned {what} with values of type {min(odd)}; give numbers, bools or strings")
    elif array.dtype.kind not in "iufb":
        raise BadAnswer(f"get_data returned {what} as {array.dtype}; give numbers, bools or strings")
    return array


def guard_fields(answer: Any) -> Sequence[dict[str, Any]]:
    """Return what a node's own `get_fields` returned, if it is two dicts.

    Raises
    ------
    BadAnswer
        If it is not.
    """
    if not (isinstance(answer, list | tuple) and len(answer) == 2 and all(isinstance(a, dict) for a in answer)):
        raise BadAnswer(f"get_fields returned {type(answer).__name__}, not two dicts")
    return answer


def is_downsampled(answer: Mapping[str, Any], min_stride: float) -> bool:
    """Whether every timeline of a guarded answer states that its samples are at least `min_stride` apart."""
    return all(_has_stride(timeline, min_stride) for timeline in answer["timeline"].values())


def _has_stride(timeline: Mapping[str, Any], min_stride: float) -> bool:
    how = timeline.get("downsample")
    if not isinstance(how, Mapping) or "stride" not in how:
        return False
    return how["stride"] is None or bool(how["stride"] >= min_stride)  # None: all in one bin


def thinned(
    answer: Mapping[str, Any],
    method: Method,
    min_stride: float,
    max_points: int | None,
    timeline_of: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a guarded answer with fewer samples; each timeline says how, under ``downsample``.

    Timelines that say so already stay as they are.

    Parameters
    ----------
    answer : mapping
    method : Method
    min_stride : float
        Seconds, 0 or more.
    max_points : int or None
        Most samples that may be left on a timeline; the stride is widened until they are.
    timeline_of : mapping of field name to timeline name, optional
        For answers whose timelines do not name their fields.

    Raises
    ------
    BadAnswer
        If nothing says which of several timelines a field is on.
    """
    data, timelines = dict(answer["data"]), {}
    placed = _placed(answer, timeline_of or {})
    for name, timeline in answer["timeline"].items():
        if _has_stride(timeline, min_stride):
            timelines[name] = timeline
            continue
        t, columns = _ascending(timeline["t"], {field: data[field] for field in placed[name]})
        stride = max(min_stride, stride_for(t, max_points, method) if max_points else 0.0)
        t, columns, fell_back = downsampled(t, columns, stride, method, keep_last=keeps_last(max_points))
        data.update(columns)
        how = {"method": method, "stride": stride}
        timelines[name] = {**timeline, "t": t, "downsample": {**how, "first": fell_back} if fell_back else how}
    return {"data": data, "timeline": timelines}


def with_stride(reply: Reply, method: Method, min_stride: float, max_points: int | None) -> Reply:
    """Return a reply with fewer samples, where it does not state that it is downsampled.

    Nodes that are written from the wire contract alone ignore what they do not know of a request. Parameters as in
    `thinned`.
    """
    timelines = {}
    for name, samples in reply.timelines.items():
        how = samples.downsample
        if (how is not None and how.stride >= min_stride) or not len(samples.t):
            timelines[name] = samples
            continue
        t, columns = _ascending(samples.t, samples.columns)
        stride = max(min_stride, stride_for(t, max_points, method) if max_points else 0.0)
        t, columns, fell_back = downsampled(t, columns, stride, method, keep_last=keeps_last(max_points))
        timelines[name] = replace(
            samples, t=t, columns=columns, downsample=Downsampled(method, stride, tuple(fell_back))
        )
    return replace(reply, timelines=timelines)


def _placed(answer: Mapping[str, Any], timeline_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the fields with samples that are on each timeline."""
    timelines = answer["timeline"]
    placed: dict[str, list[str]] = {name: [] for name in timelines}
    named = {field: name for name, timeline in timelines.items() for field in timeline.get("field") or ()}
    for field, values in answer["data"].items():
        if not len(values):
            continue
        where = named.get(field) or timeline_of.get(field, "")
        if where not in timelines:
            fitting = [name for name, timeline in timelines.items() if len(timeline["t"]) == len(values)]
            if len(fitting) != 1:
                raise BadAnswer(
                    f"neither get_data nor get_fields says which of {len(timelines)} timelines field {field!r} is on; "
                    "ask for one field at a time"
                )
            where = fitting[0]
        if len(timelines[where]["t"]) != len(values):
            raise BadAnswer(f"get_data returned {len(values)} values for field {field!r}, other than its timeline has")
        placed[where].append(field)
    return placed


def _ascending(t: Column, columns: dict[str, Column]) -> tuple[Column, dict[str, Column]]:
    """Return samples in the order of their times, which nodes of other makes do not always keep."""
    if not np.any(np.diff(t) < 0):
        return t, columns
    order = np.argsort(t, kind="stable")
    return t[order], {field: values[order] for field, values in columns.items()}


def values_in(answer: Mapping[str, Any]) -> int:
    """Return how many values, times included, a guarded answer holds."""
    return sum(map(len, answer["data"].values())) + sum(len(tl["t"]) for tl in answer["timeline"].values())


def text_sizes(values: Column) -> NDArray[np.int64]:
    """Return the bytes that each text of a column takes in UTF-8, and one for what is around it."""
    texts: list[str] = values.tolist()
    if set(map(type, texts)) != {str}:
        texts = list(map(str, texts))
    if not "".join(texts).isascii():
        return np.fromiter((len(text.encode(errors="replace")) + 1 for text in texts), np.int64, len(texts))
    return np.fromiter(map(len, texts), np.int64, len(texts)) + 1


def size_of(answer: Mapping[str, Any]) -> int:
    """Return the bytes of the values, times included, in a guarded answer; texts as in UTF-8, each with one more."""
    columns = [*answer["data"].values(), *(timeline["t"] for timeline in answer["timeline"].values())]
    return sum(int(text_sizes(values).sum()) if values.dtype.kind == "O" else values.nbytes for values in columns)


def batch_size(batch: Batch) -> int:
    """Return the bytes that a batch occupies in memory; each text has 56 of its own and a reference."""
    columns = (batch.t, *batch.columns.values())
    return sum(
        values.nbytes + int(text_sizes(values).sum()) + 56 * len(values) if values.dtype.kind == "O" else values.nbytes
        for values in columns
    )


def widest(answer: Mapping[str, Any], encoding: Encoding, serializer: str) -> int:
    """Return an upper bound of the bytes that a guarded answer takes in a message."""
    json = serializer == "json"
    total = 4096
    columns = [(name, values) for name, values in answer["data"].items()]
    columns += [(name, timeline["t"]) for name, timeline in answer["timeline"].items()]
    for name, values in columns:
        total += 200 + 6 * len(name)
        if values.dtype.kind in "iufb" and encoding == "packed":
            total += values.nbytes * 4 // 3 + 4 if json else values.nbytes
        elif values.dtype.kind in "iufb":
            total += len(values) * (_WIDEST_JSON if json else _WIDEST_BINARY)
        else:
            total += sum(6 * len(str(value)) + 8 for value in values)
    for timeline in answer["timeline"].values():
        total += 64 * len(timeline.get("gaps") or ()) + sum(6 * len(f) + 8 for f in timeline.get("field") or ())
        total += sum(6 * (len(name) + len(units or "")) + 16 for name, units in (timeline.get("units") or {}).items())
        for name, epochs in (timeline.get("epochs") or {}).items():
            total += 6 * len(name) + 8 + sum(100 + 6 * len(each["units"] or "") for each in epochs)
    return total


def encode(answer: Mapping[str, Any], encoding: Encoding = "list") -> dict[str, Any]:
    """Return a guarded answer as wire values."""
    turn = pack if encoding == "packed" else as_list
    return {
        "data": {name: turn(values) for name, values in answer["data"].items()},
        "timeline": {
            name: {key: turn(value) if key == "t" else plain(value) for key, value in timeline.items()}
            for name, timeline in answer["timeline"].items()
        },
    }


def decode(answer: Any, timeline_of: Mapping[str, str] | None = None) -> Reply:
    """Return the reply that wire values stand for.

    Parameters
    ----------
    answer : mapping
        What ``get_data`` answered; False is for the caller to handle.
    timeline_of : mapping of field name to timeline name, optional
        From ``get_fields``, for nodes whose timelines do not name their fields.

    Raises
    ------
    BadAnswer
        If it is not of the contract.
    """
    checked = guard({"data": _unpacked(answer), "timeline": _unpacked_times(answer)}, ())
    assert checked is not False  # noqa: S101 - it is a mapping
    found: dict[str, Samples] = {}
    placed: set[str] = set()
    for name, timeline in checked["timeline"].items():
        t = timeline["t"]
        names = timeline.get("field")
        if names is None:
            names = [field for field in checked["data"] if (timeline_of or {}).get(field, name) == name]
        columns = {f: checked["data"][f] for f in names if f in checked["data"] and len(checked["data"][f]) == len(t)}
        placed.update(columns)
        gaps = [(float(a), float(b)) for a, b in timeline.get("gaps") or ()]
        found[name] = Samples(
            np.asarray(t, np.float64),
            columns,
            timeline["finalized_until"],
            gaps,
            int(timeline.get("dropped") or 0),
            int(timeline.get("late") or 0),
            _downsampled(timeline.get("downsample")),
            _epochs(timeline.get("epochs")),
            {
                str(field): units
                for field, units in (timeline.get("units") or {}).items()
                if isinstance(units, str | None)
            },
            int(timeline.get("reset") or 0),
        )
    return Reply(found, tuple(name for name in checked["data"] if name not in placed))


def _downsampled(how: Any) -> Downsampled | None:
    if not how:
        return None
    stride = math.inf if how["stride"] is None else how["stride"]
    return Downsampled(how["method"], stride, tuple(how.get("first", ())))


def _epochs(epochs: Any) -> Epochs:
    return {name: epochs_of(name, known) for name, known in (epochs or {}).items()}


def epochs_of(name: str, known: Any) -> list[tuple[float, Field]]:
    """Return since when a field was what, from how it is sent."""
    return [(float(each["from"]), Field(name, each["type"], each["units"])) for each in known]


def _unpacked(answer: Any) -> dict[str, Column]:
    if not isinstance(answer, Mapping) or not isinstance(answer.get("data"), Mapping):
        raise BadAnswer(f"get_data answered {type(answer).__name__}, not a mapping with data and timeline")
    return {name: unpack(values) for name, values in answer["data"].items()}


def _unpacked_times(answer: Mapping[str, Any]) -> dict[str, Any]:
    timelines = answer.get("timeline") or {}
    return {name: {**timeline, "t": unpack(timeline["t"])} for name, timeline in timelines.items()}


def event_of(batch: Batch, encoding: Encoding = "list") -> dict[str, Any]:
    """Return a batch as the one argument of a feed's event; what is 0 or nothing is left out."""
    turn = pack if encoding == "packed" else as_list
    more = {"gap_from": batch.gap_from, "dropped": batch.dropped, "reset": batch.reset, "since": batch.since}
    return {
        "t": turn(batch.t),
        "data": {name: turn(values) for name, values in batch.columns.items()},
        "seq": batch.seq,
        "finalized_until": batch.finalized_until,
        **{key: value for key, value in more.items() if value},
    }


def batch_of(timeline: str, event: Any) -> Batch:
    """Return the batch that a feed's event stands for.

    Raises
    ------
    BadAnswer
        If it is not of the contract.
    """
    try:
        columns = {name: unpack(values) for name, values in event["data"].items()}
        more = {key: event[key] for key in ("finalized_until", "gap_from", "dropped", "reset", "since") if key in event}
        return as_batch(timeline, unpack(event["t"]), columns, seq=int(event["seq"]), **more)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(f"an event of feed {timeline!r} cannot be read: {error!r}") from error


def check_fields(field: Any, most: int) -> Sequence[str]:
    """Return the names in a request's field list, once each.

    Raises
    ------
    BadRequest
        If it is not a list of strings, or has more than `most` names.
    """
    if isinstance(field, str) or not isinstance(field, Sequence):
        raise BadRequest(f"field is {type(field).__name__}; give a list of field names")
    if len(field) > most:
        raise BadRequest(f"{len(field)} fields asked for at once; at most {most} are answered, so ask in parts")
    if wrong := [name for name in field if not isinstance(name, str)]:
        raise BadRequest(f"field names are strings, not {wrong[0]!r}")
    return list(dict.fromkeys(field))
