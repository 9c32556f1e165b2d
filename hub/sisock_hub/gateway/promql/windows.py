"""Reductions over many overlapping windows of one array, without a loop over windows or samples."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sisock.fields import FloatArray

Indices = NDArray[np.intp]
Flags = NDArray[np.bool_]


class Windows(NamedTuple):
    """The samples in each window ``(lower, upper]``; left-open, as in Prometheus 3.

    Attributes
    ----------
    lower, upper : ndarray of float64, shape (m,)
        UNIX seconds.
    begin, end : ndarray of intp, shape (m,)
        The samples of window i are ``[begin[i]:end[i]]``.
    """

    lower: FloatArray
    upper: FloatArray
    begin: Indices
    end: Indices

    @property
    def counts(self) -> Indices:
        """Number of samples in each window: ndarray of intp, shape (m,)."""
        return self.end - self.begin


def windows(t: FloatArray, upper: FloatArray, span_s: float) -> Windows:
    """Return the windows that end at `upper` and are `span_s` seconds long, over samples at the ascending times `t`."""
    lower = upper - span_s
    return Windows(lower, upper, np.searchsorted(t, lower, side="right"), np.searchsorted(t, upper, side="right"))


def reduce_over(operation: np.ufunc, values: FloatArray, begin: Indices, end: Indices, empty: float) -> FloatArray:
    """Return ``operation.reduce(values[begin[i]:end[i]])`` for every i.

    Nothing is subtracted, so that a large value, an infinity or NaN spoils only the windows that it lies in.

    Parameters
    ----------
    operation : ufunc
        Associative: add, fmin, fmax.
    values : ndarray of float64, shape (n,)
    begin, end : ndarray of intp, shape (m,)
        ``0 <= begin <= end <= n``.
    empty : float
        The operation's neutral element; the result for empty windows.

    Returns
    -------
    ndarray of float64, shape (m,)
    """
    result = np.full(len(begin), empty)
    edges = np.unique(np.concatenate([begin, end]))
    edges = edges[edges < len(values)]
    if not len(edges):
        return result
    # Windows are joined from pieces between all edges, and from pairs, fours, eights of neighbouring pieces.
    pieces = operation.reduceat(values, edges)
    here, length = np.searchsorted(edges, begin), np.searchsorted(edges, end) - np.searchsorted(edges, begin)
    width = 1
    while True:
        odd = np.flatnonzero(length & 1)
        result[odd] = operation(result[odd], pieces[here[odd]])
        here[odd] += width
        length >>= 1
        if not length.any():
            return result
        pieces = operation(pieces[:-width], pieces[width:])
        width *= 2
