"""Fewer samples than a timeline has, from its summaries where they are on disk and many."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from sisock.bins import joined
from sisock.downsample import METHODS, Method, downsampled, first, keeps_last, samples_of
from sisock.errors import TooLarge
from sisock.fields import Epochs
from sisock.history.blocks import Block, as_answered, concatenated
from sisock.history.snapshot import Snapshot


def downsample_snapshot(
    snapshot: Snapshot, stride: float, method: Method, max_points: int | None, most: float, *, has_numbers: bool
) -> tuple[list[Block], Sequence[str]]:
    """Return the samples of a snapshot that a method keeps, and the fields that fell back to ``first``.

    Parameters
    ----------
    snapshot : Snapshot
    stride : float
        Seconds.
    method : Method
    max_points : int or None
        What the stride was chosen for.
    most : float
        Samples above which an answer is not brought together.
    has_numbers : bool
        Whether any of the fields is a number.

    Raises
    ------
    TooLarge
        If that needs more samples than can be brought together in memory, or has more than `most`.
    """
    how = METHODS[method]
    if not how.needs_stride or not has_numbers:
        with_last = how.keeps_last and max_points is not None
        pieces = list(_first(snapshot.pieces(at_once=False), stride, most, with_last=with_last))
        return pieces, snapshot.names if how.needs_stride else ()
    if how.needs_all_samples:
        t, columns = concatenated(list(snapshot.pieces()))
        t, columns, fell_back = downsampled(t, as_answered(columns), stride, method)
        return [(t, columns)], fell_back
    edges, bins, n = changes(snapshot.epochs), [], 0
    for piece in snapshot.bins(stride, method, edges):
        bins.append(piece)
        n += len(piece)
        check_number(n - len(bins), most)  # two pieces may have parts of one bin
    bins = [piece for piece in bins if piece.columns]
    if not bins:
        return [(np.empty(0), {})], ()
    t, columns, fell_back = samples_of(joined(bins, edges), method, keep_last=keeps_last(max_points))
    return [(t, columns)], fell_back


def changes(epochs: Epochs) -> list[float]:
    """Return when units changed, in order of time."""
    return sorted({b[0] for known in epochs.values() for a, b in pairwise(known) if a[1].units != b[1].units})


def check_number(rows: int, most: float) -> None:
    """Raise TooLarge if an answer has too many samples of a timeline."""
    if rows > most:
        raise TooLarge(f"an answer would have more than {int(most)} samples of a timeline; ask for fewer, or for less")


def _first(pieces: Iterator[Block], stride: float, most: float, *, with_last: bool = False) -> Iterator[Block]:
    """Yield of pieces that follow each other the first sample, then each next one at least `stride` later.

    With `with_last`, also the last sample of all.
    """
    after, last, n = -math.inf, None, 0
    for t, columns in pieces:
        kept = first(t, stride, after)
        if len(kept):
            after, n = float(t[kept[-1]]), n + len(kept)
            check_number(n, most)
            yield t[kept], {name: values[kept] for name, values in columns.items()}
        if len(t):
            last = t[-1:], {name: values[-1:] for name, values in columns.items()}
    if with_last and last is not None and last[0][0] > after:
        check_number(n + 1, most)
        yield last
