"""Downsampling of samples that the gateway has received."""

from collections.abc import Mapping

import numpy as np

from sisock.downsample import Method, downsampled, keeps_last, stride_between
from sisock.fields import Column, FloatArray


def limit_points(
    t: FloatArray, columns: Mapping[str, Column], max_points: int | None, method: Method
) -> tuple[FloatArray, dict[str, Column]]:
    """Return samples, downsampled to at most `max_points`.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        UNIX seconds, in any order.
    columns : mapping of str to ndarray, each of shape (n,)
    max_points : int or None
        None keeps all.
    method : Method
    """
    kept = dict(columns)
    if max_points is None or len(t) <= max_points:
        return t, kept
    if np.any(np.diff(t) < 0.0):
        order = np.argsort(t, kind="stable")
        t, kept = t[order], {name: values[order] for name, values in kept.items()}
    stride = stride_between(float(t[0]), float(t[-1]), max_points, method)
    t, kept, _ = downsampled(t, kept, stride, method, keep_last=keeps_last(max_points))
    return t, kept
