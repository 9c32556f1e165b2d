"""Results as Prometheus' JSON, made from arrays without a Python object per sample."""

import math
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import orjson

from sisock.fields import FloatArray
from sisock_hub.gateway.promql.series import Series

# Between these, Prometheus writes numbers without an exponent, and so does orjson between the inner ones.
_SMALLEST, _GREATEST = 1e-6, 1e21
_PLAIN_FROM, _PLAIN_BELOW = 1e-4, 1e16


def matrix(series: Sequence[Series]) -> bytes:
    """Return the ``data`` of a query over a range."""
    return _data(
        b"matrix", b",".join(b'{"metric":%s,"values":%s}' % (_labels(s), points(s.t, s.values)) for s in series)
    )


def vector(series: Sequence[Series]) -> bytes:
    """Return the ``data`` of a query at one time."""
    return _data(
        b"vector", b",".join(b'{"metric":%s,"value":%s}' % (_labels(s), points(s.t, s.values)[1:-1]) for s in series)
    )


def scalar(time: float, value: float) -> bytes:
    """Return the ``data`` of a constant at one time, in UNIX seconds."""
    return b'{"resultType":"scalar","result":%s}' % points(np.array([time]), np.array([value]))[1:-1]


def success(data: bytes, warnings: Sequence[str] = ()) -> bytes:
    """Return the answer around `data`, which is JSON."""
    listed = b',"warnings":' + orjson.dumps(list(warnings)) if warnings else b""
    return b'{"status":"success","data":%s%s}' % (data, listed)


def failure(kind: str, message: str) -> bytes:
    """Return the answer to an error."""
    return orjson.dumps({"status": "error", "errorType": kind, "error": message})


def points(t: FloatArray, values: FloatArray) -> bytes:
    """Return ``[[seconds,"value"],...]``.

    Parameters
    ----------
    t, values : ndarray of float64, shape (n,)
        UNIX seconds, and values; NaN and infinities are written in the form of Prometheus.
    """
    if not len(t):
        return b"[]"
    size = np.abs(values)
    plain = ((size >= _PLAIN_FROM) & (size < _PLAIN_BELOW)) | (size == 0)
    pairs = np.column_stack([t, np.where(plain, values, np.nan)])
    text = orjson.dumps(pairs, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2]
    # [a,b],[c,d] becomes [a,"b"],[c,"d"]; whole numbers lose their fraction.
    text = text.replace(b"],[", b'"]|[').replace(b",", b',"').replace(b"|", b",") + b'"'
    text = text.replace(b'.0"', b'"').replace(b'.0,"', b',"')
    if not plain.all():
        # Each of them is a null so far.
        others = [number(value).encode() for value in values[~plain].tolist()]
        text = b"".join(chain.from_iterable(zip_longest(text.split(b"null"), others, fillvalue=b"")))
    return b"[[%s]]" % text


def number(value: float) -> str:
    """Return a value in the form of Prometheus.

    References
    ----------
    ``MarshalFloat`` in util/jsonutil/marshal.go of Prometheus.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value and not _SMALLEST <= abs(value) < _GREATEST:
        return np.format_float_scientific(value, trim="-", exp_digits=2)
    return np.format_float_positional(value, trim="-")


def _labels(series: Series) -> bytes:
    return orjson.dumps(dict(series.labels), option=orjson.OPT_SORT_KEYS)


def _data(kind: bytes, result: bytes) -> bytes:
    return b'{"resultType":"%s","result":[%s]}' % (kind, result)


def plain(data: Any) -> bytes:
    """Return lists, dicts and texts as JSON."""
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
