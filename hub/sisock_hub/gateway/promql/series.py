"""Labelled samples: the input and the result of an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass

from sisock.fields import FloatArray

__all__ = ["NAME", "FloatArray", "Series", "Track"]

NAME = "__name__"
"""The label that holds the metric's name."""


@dataclass(frozen=True, slots=True)
class Track:
    """The samples of one series.

    Attributes
    ----------
    labels : mapping of str to str
        With the metric's name as ``__name__``.
    t : ndarray of float64, shape (n,)
        UNIX seconds, ascending.
    values : ndarray of float64, shape (n,)
    stride_s : float
        Stride of the downsampling in seconds; 0 if there was none.
    """

    labels: Mapping[str, str]
    t: FloatArray
    values: FloatArray
    stride_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Series:
    """A series of the answer.

    Attributes
    ----------
    labels : mapping of str to str
    t : ndarray of float64, shape (n,)
        UNIX seconds: the requested times at which there is a value.
    values : ndarray of float64, shape (n,)
    """

    labels: Mapping[str, str]
    t: FloatArray
    values: FloatArray
