"""Replies to questions: parsed from what a node's own code returns or a client receives, measured, encoded.

Answers from elsewhere become a `Reply` here, and are validated once by that.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sisock.downsample import Method, downsampled, keeps_last, stride_for
from sisock.errors import BadAnswer
from sisock.fields import Column, Downsampled, Reply, Samples
from sisock.serializable import to_serializable
from sisock.times import FARTHEST_S
from sisock.wamp.wire import Encoding, encode_column, epoch_content, epochs_of, text_sizes, unpack

# Bytes that one value takes at the most, by serializer: a float64 in JSON is up to 24 digits and a comma.
_WIDEST_JSON, _WIDEST_BINARY = 26, 9
# Types that a column of objects may have.
_VALUES = (str, int, float, bool, type(None), np.number, np.bool_)
# Types that a watermark may have.
_NUMBERS = (int, float, np.number, type(None))
_NOTHING: Column = np.empty(0)
# Keys of a timeline under which lost samples are stated.
_LOSSES = ("gaps", "dropped", "late")
_COUNTED = (*_LOSSES, "reset")
_ALWAYS = frozenset(("t", "finalized_until"))
_KNOWN = _ALWAYS | {"field", *_COUNTED, "downsample", "units", "epochs"}


def validate_answer(answer: Any, asked: Iterable[str] = (), *, arrays: bool = False) -> Reply | Literal[False]:
    """Return the reply that an answer of ``get_data`` stands for, of a node's own code or from the wire.

    Parameters
    ----------
    answer : mapping or False
        ``data`` and ``timeline``; columns are lists, NumPy's arrays or packed arrays.
    asked : iterable of str
        Fields that are part of the reply in any case.
    arrays : bool
        Whether samples may be arrays of numbers.

    Returns
    -------
    Reply or False
        False, which is "beyond the node's allowance", as it is.

    Raises
    ------
    BadAnswer
        If it is neither False nor a mapping with ``data`` and ``timeline``, values or times are not valid columns, or
        a field has another length than its timeline.
    """
    if answer is False:
        return False
    if not isinstance(answer, Mapping) or not isinstance(answer.get("data"), Mapping):
        raise BadAnswer(f"get_data returned {type(answer).__name__}; give False or a dict with data and timeline")
    data = {
        str(name): as_valid_column(f"field {name!r}", values, arrays=arrays) if values is not None else _NOTHING
        for name, values in answer["data"].items()
    }
    stated, times = {}, {}
    for name, timeline in (answer.get("timeline") or {}).items():
        t = _times(name, timeline)
        if len(t) or any(timeline.get(key) for key in _LOSSES):
            stated[str(name)], times[str(name)] = timeline, t
    names = {name: _names(timeline.get("field")) for name, timeline in stated.items()}
    _check_lengths(data, times, names)
    if not any(map(len, data.values())):
        times = {name: t for name, t in times.items() if not len(t)}
    timelines = {
        name: _samples(stated[name], t, names[name], _columns(data, t, names[name], len(times)))
        for name, t in times.items()
    }
    for samples in timelines.values():
        for field in samples.columns:
            data.pop(field, None)
    empty = [field for field, values in data.items() if not len(values)]
    empty += [field for field in asked if field not in answer["data"]]
    return Reply(timelines, tuple(empty), {field: values for field, values in data.items() if len(values)})


def as_valid_column(what: str, values: Any, *, arrays: bool = False) -> Column:
    """Return values as a column of what a field may have: numbers of at most 64 bits, bools and strings.

    With `arrays`, also arrays of such numbers.

    Raises
    ------
    BadAnswer
        If they are anything else.
    """
    try:
        array = unpack(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadAnswer(f"get_data returned {what}, which is not a valid column: {error}") from error
    if array.ndim != 1 and not (arrays and array.dtype.kind in "iuf"):
        raise BadAnswer(f"get_data returned {what} with shape {array.shape}; give one value for each time")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if array.dtype.kind == "O":
        invalid = [kind.__name__ for kind in set(map(type, array.tolist())) if not issubclass(kind, _VALUES)]
        if invalid:
            raise BadAnswer(
                f"get_data returned {what} with values of type {min(invalid)}; give numbers, bools or strings"
            )
    elif array.dtype.kind not in "iufb":
        raise BadAnswer(f"get_data returned {what} as {array.dtype}; give numbers, bools or strings")
    return array


def _times(name: str, timeline: Any) -> Column:
    """Return the times of a timeline, in the dtype in which they are stated."""
    if not isinstance(timeline, Mapping) or "t" not in timeline:
        raise BadAnswer(f"get_data returned timeline {name!r} without its times `t`")
    t = as_valid_column(f"the times of timeline {name!r}", timeline["t"])
    if t.dtype.kind not in "iuf":
        raise BadAnswer(f"get_data returned the times of timeline {name!r} as {t.dtype}; give UNIX seconds")
    if len(t) and not -FARTHEST_S <= t.min() <= t.max() <= FARTHEST_S:  # NaN is neither
        raise BadAnswer(f"get_data returned times of timeline {name!r} that cannot be: {t.min()} to {t.max()}")
    if not isinstance(timeline.get("finalized_until"), _NUMBERS):
        raise BadAnswer(f"get_data returned timeline {name!r} with a `finalized_until` that is not a number")
    return t


def _names(field: Any) -> tuple[str, ...] | None:
    """Return the fields that a timeline states to have; None where it does not."""
    return None if field is None else (field,) if isinstance(field, str) else tuple(field)


def _check_lengths(
    data: Mapping[str, Column], times: Mapping[str, Column], names: Mapping[str, tuple[str, ...] | None]
) -> None:
    lengths = {len(t) for t in times.values()} - {0}
    own: dict[str, set[int]] = {}
    for name, t in times.items():
        for field in names[name] or ():
            own.setdefault(field, set()).add(len(t))
    for field, values in data.items():
        fitting = own.get(field, lengths)
        if len(values) and len(values) not in fitting:
            expected = " or ".join(map(str, sorted(fitting))) or "none"
            raise BadAnswer(f"get_data returned {len(values)} values for field {field!r}, its timeline has {expected}")


def _columns(
    data: Mapping[str, Column], t: Column, names: tuple[str, ...] | None, timelines: int
) -> dict[str, Column] | None:
    """Return the columns of a timeline; None where it is one of several and does not state its fields."""
    if names is None and timelines > 1:
        return None
    fields = data if names is None else [name for name in names if name in data]
    return {field: data[field] for field in fields if len(data[field]) == len(t)}


def _samples(
    stated: Mapping[str, Any], t: Column, names: tuple[str, ...] | None, columns: dict[str, Column] | None
) -> Samples:
    """Return the samples of a timeline of an answer, with all that it states of them."""
    if stated.keys() <= _ALWAYS:
        return Samples(t, columns or {}, stated.get("finalized_until"), names_fields=False)
    how = stated.get("downsample")
    # Keys that are 0 or empty are sent as well if the node's own code has them; ours are left out.
    other = {key: value for key, value in stated.items() if key not in _KNOWN or (key not in _ALWAYS and not value)}
    if names is not None and names != tuple(columns or ()):
        other["field"] = names  # those that were not asked for are stated as well
    return Samples(
        t,
        columns or {},
        stated.get("finalized_until"),
        [(float(a), float(b)) for a, b in stated.get("gaps") or ()],
        int(stated.get("dropped") or 0),
        int(stated.get("late") or 0),
        Downsampled(how["method"], _stride(how), tuple(how.get("first") or ())) if how else None,
        {str(field): epochs_of(str(field), known) for field, known in (stated.get("epochs") or {}).items()},
        {str(field): units for field, units in (stated.get("units") or {}).items() if isinstance(units, str | None)},
        int(stated.get("reset") or 0),
        names is not None,
        other,
    )


def _stride(how: Mapping[str, Any]) -> float:
    return math.inf if how["stride"] is None else float(how["stride"])  # all in one bin


def placed(reply: Reply, timeline_of: Mapping[str, str]) -> Reply:
    """Return a reply whose fields are on the timelines that ``get_fields`` names, or else on the one that fits."""
    columns: dict[str, dict[str, Column]] = {name: dict(each.columns) for name, each in reply.timelines.items()}
    unplaced: dict[str, Column] = {}
    for field, values in reply.unplaced.items():
        named = timeline_of.get(field)
        fitting = [name for name, samples in reply.timelines.items() if len(samples.t) == len(values)]
        if named in columns:
            fitting = [name for name in fitting if name == named]
        (columns[fitting[0]] if len(fitting) == 1 else unplaced)[field] = values
    timelines = {name: replace(each, columns=columns[name]) for name, each in reply.timelines.items()}
    return Reply(timelines, reply.empty, unplaced)


def has_stride(reply: Reply, min_stride: float) -> bool:
    """Whether every timeline states that its samples are at least `min_stride` apart."""
    return all(_has_stride(samples, min_stride) for samples in reply.timelines.values())


def _has_stride(samples: Samples, min_stride: float) -> bool:
    return samples.downsample is not None and samples.downsample.stride >= min_stride


def downsample_reply(reply: Reply, method: Method, min_stride: float, max_points: int | None) -> Reply:
    """Return a reply with fewer samples; timelines that state to be downsampled stay as they are.

    Parameters
    ----------
    reply : Reply
    method : Method
    min_stride : float
        Seconds, 0 or more.
    max_points : int or None
        Most samples that may be left on a timeline; the stride is widened until they are.

    Raises
    ------
    BadAnswer
        If a field is on none of the timelines, see `placed`.
    """
    if reply.unplaced:
        raise BadAnswer(
            f"neither get_data nor get_fields states on which of {len(reply.timelines)} timelines field "
            f"{min(reply.unplaced)!r} is; ask for one field at a time"
        )
    timelines = dict(reply.timelines)
    for name, samples in timelines.items():
        if _has_stride(samples, min_stride):
            continue
        t, columns = _ascending(samples.t, samples.columns)
        stride = max(min_stride, stride_for(t, max_points, method) if max_points else 0.0)
        t, columns, fell_back = downsampled(t, columns, stride, method, keep_last=keeps_last(max_points))
        how = Downsampled(method, stride, tuple(fell_back))
        timelines[name] = replace(samples, t=t, columns=columns, downsample=how)
    return replace(reply, timelines=timelines)


def _ascending(t: Column, columns: dict[str, Column]) -> tuple[Column, dict[str, Column]]:
    """Return samples in the order of their times, which third parties' nodes do not always keep."""
    if not np.any(np.diff(t) < 0):
        return t, columns
    order = np.argsort(t, kind="stable")
    return t[order], {field: values[order] for field, values in columns.items()}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a reply is.

    Attributes
    ----------
    bytes : int
        Of the values, times included; texts as in UTF-8, each with one more.
    numbers, number_bytes : int
        How many values are numbers or bools, and their bytes.
    texts : int
        How many are not.
    content : float
        Most bytes of all that is not a value, in a message; infinite where that is unknown.
    """

    bytes: int
    numbers: int
    number_bytes: int
    texts: int
    content: float

    def at_most(self, encoding: Encoding, serializer: str) -> float:
        """Return an upper bound of the bytes that the reply takes in a message."""
        is_json = serializer == "json"
        if encoding == "packed":
            numbers = self.number_bytes * 4 // 3 if is_json else self.number_bytes
        else:
            numbers = self.numbers * (_WIDEST_JSON if is_json else _WIDEST_BINARY)
        # JSON escapes what is not ASCII, with 6 bytes for each one of UTF-8 at the most.
        return self.content + numbers + 6 * (self.bytes - self.number_bytes) + 8 * self.texts


def measure(reply: Reply) -> Size:
    """Return how large a reply is."""
    total = numbers = number_bytes = texts = 0
    content = 4096.0
    columns = [*reply.unplaced.items()]
    for name, samples in reply.timelines.items():
        columns += [(name, samples.t), *samples.columns.items()]
        content += _content(samples)
    for name in reply.empty:
        content += 204 + 6 * len(name)
    for name, values in columns:
        content += 204 + 6 * len(name)
        if values.dtype.kind == "O":
            total += int(text_sizes(values).sum())
            texts += len(values)
        else:
            number_bytes += values.nbytes
            numbers += values.size
    return Size(total + number_bytes, numbers, number_bytes, texts, content)


def _content(samples: Samples) -> float:
    total = 0
    if samples.other:
        if not samples.other.keys() <= _KNOWN:
            return math.inf
        total += sum(6 * len(field) + 8 for field in samples.other.get("field") or ())
    total += 64 * len(samples.gaps) + sum(6 * len(field) + 8 for field in samples.columns)
    total += sum(6 * (len(field) + len(units or "")) + 16 for field, units in samples.units.items())
    if samples.downsample:
        total += sum(6 * len(field) + 8 for field in samples.downsample.first)
    for field, epochs in samples.epochs.items():
        total += 6 * len(field) + 8 + sum(100 + 6 * len(then.units or "") for _, then in epochs)
    return total


def encode(reply: Reply, encoding: Encoding = "list") -> dict[str, Any]:
    """Return a reply as wire values."""
    data = dict.fromkeys(reply.empty, encode_column(_NOTHING, encoding)) if reply.empty else {}
    for samples in reply.timelines.values():
        data |= {field: encode_column(values, encoding) for field, values in samples.columns.items()}
    data |= {field: encode_column(values, encoding) for field, values in reply.unplaced.items()}
    timelines = {
        name: {"finalized_until": to_serializable(samples.finalized_until), "t": encode_column(samples.t, encoding)}
        | statement(samples)
        for name, samples in reply.timelines.items()
    }
    return {"data": data, "timeline": timelines}


def statement(samples: Samples) -> dict[str, Any]:
    """Return the keys of a timeline other than its times, as wire values; those that are 0 or empty are left out."""
    content = dict(samples.other)
    if samples.names_fields:
        content.setdefault("field", list(samples.columns))
    for key in _COUNTED:
        if value := getattr(samples, key):
            content[key] = value
    if how := samples.downsample:
        content["downsample"] = {
            "method": how.method,
            "stride": how.stride,
            **({"first": how.first} if how.first else {}),
        }
    if samples.units:
        content["units"] = samples.units
    if samples.epochs:
        content["epochs"] = {field: [epoch_content(*each) for each in known] for field, known in samples.epochs.items()}
    return to_serializable(content) if content else content


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
    reply = validate_answer(answer, arrays=True)
    if reply is False:
        raise BadAnswer("get_data answered False, which has no samples")
    reply = placed(reply, timeline_of or {}) if reply.unplaced else reply
    timelines = {name: replace(each, t=np.asarray(each.t, np.float64)) for name, each in reply.timelines.items()}
    return Reply(timelines, (*reply.empty, *reply.unplaced))
