"""Whether a batch fits its timeline, and the error where it does not."""

import numpy as np

from sisock.errors import BadData, BadRequest
from sisock.fields import Batch, Column, Timeline
from sisock.times import iso

_KINDS = {"number": "iuf", "bool": "b", "string": "O"}


def as_overwritten(t: float, name: str, before: object, after: object) -> str:
    """Return the warning about two samples with one time."""
    values = " and with ".join(
        str(value) if isinstance(value, np.generic) else repr(value) for value in (before, after)
    )
    return (
        f"at {iso(t)} there are two samples, with {values} for {name!r}; the last one is kept, and further ones are "
        "counted as overwritten and not logged. If they are of different sensors or devices, name what distinguishes "
        "them: `pivot` of a table, `key` of a topic; if their times are finer, take them from several columns or "
        "values: `time.columns` of a table, `time_index: [0, 1]` of records, `time.field: [a, b]` of objects"
    )


def refuse_arrays(timeline: Timeline, where: str) -> None:
    """Raise BadRequest if a field of a timeline has arrays; `where` does not hold them, and is how to do without."""
    for field in timeline.fields:
        if field.shape:
            raise BadRequest(
                f"timeline {timeline.name!r}: samples of field {field.name!r} are arrays of shape {field.shape}, which "
                f"are kept in memory and published only so far; leave out {where}, or the field"
            )


def fitting(batch: Batch, timeline: Timeline) -> dict[str, Column]:
    """Return the batch's columns in the timeline's order, as anybody takes them; BadData if they do not fit."""
    columns, n = batch.columns, len(batch.t)
    if len(columns) != len(timeline.fields):
        raise _other_fields(batch, timeline)
    fitting: dict[str, Column] = {}
    for field in timeline.fields:
        try:
            values = columns[field.name]
        except KeyError:
            raise _other_fields(batch, timeline) from None
        if values.dtype.kind not in _KINDS[field.type]:
            raise BadData(f"timeline {timeline.name!r}: field {field.name!r} is a {field.type}, not {values.dtype}")
        if values.shape[1:] != field.shape:
            raise BadData(
                f"timeline {timeline.name!r}: samples of field {field.name!r} have shape {values.shape[1:]}, and it is "
                f"declared with {field.shape}"
            )
        if len(values) != n:
            raise BadData(f"timeline {timeline.name!r}: field {field.name!r} has {len(values)} values for {n} times")
        if field.type == "string":
            values = _clean(values, f"timeline {timeline.name!r}: field {field.name!r}")
        elif values.dtype.itemsize > 8:
            values = values.astype(np.float64)
        fitting[field.name] = values
    return fitting


def _other_fields(batch: Batch, timeline: Timeline) -> BadData:
    names = {field.name for field in timeline.fields}
    missing, unknown = sorted(names - batch.columns.keys()), sorted(batch.columns.keys() - names)
    return BadData(
        f"timeline {timeline.name!r}: batch "
        + " and ".join(
            f"{what} {', '.join(map(repr, which[:10]))}"
            for what, which in (("lacks", missing), ("has the unknown", unknown))
            if which
        )
    )


def _clean(values: Column, what: str) -> Column:
    """Return texts that can be encoded: a lone surrogate becomes a question mark."""
    texts = values.tolist()
    if odd := [kind.__name__ for kind in set(map(type, texts)) if not issubclass(kind, str)]:
        raise BadData(f"{what} is a string, and has values of type {min(odd)}")
    joined = "".join(texts)
    if joined.isascii() or joined.isprintable():  # which a surrogate is not
        return values
    clean = np.empty(len(texts), object)
    clean[:] = [text.encode(errors="replace").decode() for text in texts]
    return clean
