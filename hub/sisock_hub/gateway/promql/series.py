"""Labelled samples: what goes into an evaluation, and what comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sisock.fields import FloatArray

__all__ = ["NAME", "FloatArray", "Series", "Track"]

NAME = "__name__"
"""The label that holds the metric's name."""


@dataclass(frozen=True, slots=True)
class Track:
    """What a node gave for one series.

    Attributes
    ----------
    labels : mapping of str to str
        With the metric's name as ``__name__``.
    t : ndarray of float64, shape (n,)
        UNIX seconds, ascending.
    values : ndarray of float64, shape (n,)
    stride_s : float
        Seconds by which the samples were thinned out; 0 when they are all there.
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
        UNIX seconds: those of the times asked for at which there is a value.
    values : ndarray of float64, shape (n,)
    """

    labels: Mapping[str, str]
    t: FloatArray
    values: FloatArray
