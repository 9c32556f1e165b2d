"""Decimation: which samples stay. Pure functions of arrays; whoever owns the data takes the samples."""

import numpy as np
from numpy.typing import NDArray

from sisock.fields import FloatArray


def first(t: FloatArray, min_stride: float) -> NDArray[np.intp]:
    """Return the indices of the first sample, then of each next one at least `min_stride` later.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending times in seconds.
    min_stride : float
        Seconds, 0 or more.

    Returns
    -------
    ndarray of intp, shape (m,)
        Ascending indices into `t`; successive chosen times are at least `min_stride` apart.
    """
    n = len(t)
    if n == 0 or min_stride <= 0 or np.all(np.diff(t) >= min_stride):
        return np.arange(n, dtype=np.intp)
    most = int((t[-1] - t[0]) / min_stride) + 1
    kept = [0]
    if most * 8 < n:  # few samples stay: look each of them up
        while (nxt := _at_least(t, kept[-1], min_stride)) < n:
            kept.append(nxt)
    else:  # many stay: find every sample's successor in one pass, then follow them
        successors = np.searchsorted(t, t + min_stride, side="left")
        # t + stride is rounded; what it let through may be an ulp too near.
        short = successors < n
        near = np.flatnonzero(short)[t[successors[short]] - t[short] < min_stride]
        successors[near] += 1
        follow = successors.tolist()
        here = follow[0]
        while here < n:
            kept.append(here)
            here = follow[here]
    return np.asarray(kept, dtype=np.intp)


def _at_least(t: FloatArray, i: int, min_stride: float) -> int:
    j = int(np.searchsorted(t, t[i] + min_stride, side="left"))
    while j < len(t) and t[j] - t[i] < min_stride:
        j += 1
    return j
