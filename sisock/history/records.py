"""Records of a manifest besides segments: gaps and losses, and how the clock ran."""

import math
from collections.abc import Iterable, Sequence

from sisock.history.changes import ChangeLog
from sisock.history.clock import ClockEpoch
from sisock.times import Interval

# Losses are counted by spans of so many seconds.
_SPAN_S = 60.0
_MOST_GAPS = 10_000
_MOST_CLOCK_EPOCHS = 100


class Records(ChangeLog):
    """Gaps and losses of timelines, clock epochs and clock jumps."""

    _clock_jumps: list[tuple[float, float]] | None = None

    def _load(self) -> None:
        self._clock_jumps = None
        super()._load()

    def add_gap(self, timeline: int, start: float, end: float) -> None:
        """Write down, once, that a source was silent or lossy; a gap of one sample ends right behind it."""
        end = end if end > start else math.nextafter(start, math.inf)
        self._change([("gap", [timeline, start, end])], deferrable=True)

    def gaps(self, timeline: int, interval: Interval) -> list[tuple[float, float]]:
        """Return the gaps that reach into an interval, both ends included, the newest 10,000 at most."""
        return self._all(
            "SELECT start, end FROM (SELECT rowid, start, end FROM gaps WHERE timeline = ? AND end >= ? AND start < ? "
            "ORDER BY rowid DESC LIMIT ?) ORDER BY start",
            *(timeline, interval.start, interval.end, _MOST_GAPS),
        )

    def add_losses(self, timeline: int, at: float, dropped: int = 0, late: int = 0) -> None:
        """Count samples that are lost, at about that time."""
        self._change([("losses", [timeline, _span(at), dropped, late])], deferrable=True)

    def spans_of_losses(self, timeline: int, interval: Interval) -> list[tuple[int, int, int]]:
        """Return minute, dropped and late of an interval."""
        return self._all(
            "SELECT span, dropped, late FROM losses WHERE timeline = ? AND span BETWEEN ? AND ?",
            *(timeline, *map(_span, interval)),
        )

    def restore_losses(self, timeline: int, spans: Iterable[Sequence[int]]) -> None:
        """Count what a segment knows of lost samples, unless it is counted already."""
        self._change([("known_losses", [timeline, *span]) for span in spans], deferrable=True)

    def losses(self, timeline: int, interval: Interval) -> tuple[int, int]:
        """Return how many samples were dropped and how many late, in an interval, to the minute."""
        row = self._all(
            "SELECT coalesce(sum(dropped), 0), coalesce(sum(late), 0) FROM losses "
            "WHERE timeline = ? AND span BETWEEN ? AND ?",
            *(timeline, *map(_span, interval)),
        )[0]
        return int(row[0]), int(row[1])

    def expire(self, timeline: int, oldest: float) -> None:
        """Forget the gaps and losses of a timeline that lie before `oldest`."""
        self._change(
            [("expire_gaps", [timeline, oldest]), ("expire_losses", [timeline, _span(oldest)])]
            if self._one("SELECT 1 FROM gaps WHERE timeline = ? AND end < ?", timeline, oldest)
            or self._one("SELECT 1 FROM losses WHERE timeline = ? AND span < ?", timeline, _span(oldest))
            else [],
            deferrable=True,
        )

    def clock_epochs(self) -> list[ClockEpoch]:
        """Return how the clock ran, the newest 100 epochs at most, in the order in which they began."""
        rows = self._all("SELECT * FROM clock_epochs ORDER BY id")
        return [
            ClockEpoch(number, wall, monotonic, boot, None if known is None else bool(known), ahead_until)
            for number, wall, monotonic, boot, known, ahead_until in rows
        ]

    def write_clock_epoch(self, epoch: ClockEpoch) -> None:
        """Write down a clock epoch, or what is known of it now."""
        known = None if epoch.synchronised is None else int(epoch.synchronised)
        row = [epoch.id, epoch.wall, epoch.monotonic, epoch.boot, known, epoch.ahead_until]
        self._change([("clock_epoch", row), ("expire_clock_epochs", [epoch.id - _MOST_CLOCK_EPOCHS])], deferrable=True)

    def add_clock_jump(self, at: float, seconds: float) -> None:
        """Write down that the clock jumped."""
        self._change([("jump", [at, seconds])], deferrable=True)
        self._clock_jumps = None

    def clock_jumps(self) -> list[tuple[float, float]]:
        """Return when the clock jumped and by how many seconds, the newest 100 at most."""
        newest = "SELECT at, seconds FROM (SELECT * FROM clock_jumps ORDER BY at DESC LIMIT 100) ORDER BY at"
        if self._clock_jumps is None or not self._writable:  # then another process may write them
            self._clock_jumps = self._all(newest)
        return self._clock_jumps


def _span(at: float) -> int:
    """Return the span of losses that a time lies in."""
    return int(max(-1e17, min(at, 1e17)) // _SPAN_S)
