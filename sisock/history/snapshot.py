"""A timeline at one moment: in an archive, on the disk and in memory, which follow each other in time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sisock.bins import Bins, binned
from sisock.downsample import METHODS, Method
from sisock.errors import TooLarge
from sisock.fields import Epochs
from sisock.history.blocks import Block, as_answered, cut
from sisock.history.ring import View
from sisock.times import Interval

if TYPE_CHECKING:  # it takes pyarrow, which a history in memory does without
    from sisock.history.segment_set import SegmentSet

# Samples that are brought together in memory at the most, for one answer.
_MOST_AT_ONCE = 50_000_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Fields of a timeline in an interval, at one moment.

    Attributes
    ----------
    timeline : str
    names : sequence of str
        Of the fields.
    interval : Interval
    reset : int
        The number of the newest reset.
    final : float
        What was final before the samples were looked at; minus infinity while nothing was.
    view : View
        The samples that are in memory.
    stored : SegmentSet or None
        The segments on the disk. Samples in memory were on it before, so none are missing between the two.
    past : Block
        What the source has from before both.
    epochs : Epochs
        Since when type and units of the fields were what.
    """

    timeline: str
    names: Sequence[str]
    interval: Interval
    reset: int
    final: float
    view: View
    stored: "SegmentSet | None"
    past: Block
    epochs: Epochs

    def pieces(self, *, at_once: bool = True) -> Iterator[Block]:
        """Yield the samples, in pieces that follow each other in time.

        Raises
        ------
        TooLarge
            If there are more than can be brought together in memory, which they are to be `at_once`.
        """
        yield from self._of_the_past()
        older = self._older()
        if self.stored and older:
            if at_once and self.stored.at_most(older) > _MOST_AT_ONCE and self.stored.count(older) > _MOST_AT_ONCE:
                raise TooLarge(
                    f"timeline {self.timeline!r} has over {_MOST_AT_ONCE} samples in this interval; ask for a shorter "
                    f"one, or for max_points with {', '.join(k for k, each in METHODS.items() if each.reduce)}"
                )
            yield from self.stored.rows(self.names, older)
        yield from self.view.pieces

    def bins(self, stride: float, method: Method, edges: Sequence[float]) -> Iterator[Bins]:
        """Yield the samples summarized by bins, none of which reaches over an edge; two pieces may share a bin."""
        older = self._older()
        if self.stored and older:
            yield from self.stored.bins(self.names, older, stride, method)
        for piece in (*self._of_the_past(), *self.view.pieces):
            for t, columns in cut(piece, edges):
                yield binned(t, as_answered(columns), stride, METHODS[method].statistics)

    def _older(self) -> Interval | None:
        """Return the part of the interval that is not in memory."""
        older = Interval(self.interval.start, min(self.interval.end, self.view.floor))
        return older if older.start < older.end else None

    def _of_the_past(self) -> Iterator[Block]:
        t, columns = self.past
        if len(t):
            yield t, {name: columns[name] for name in self.names if name in columns}
