"""Retention: removing segments that are too old, and the oldest ones while all take too much."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sisock.history.entry import Entry
from sisock.history.folder import remove_segment
from sisock.history.manifest import Manifest
from sisock.history.opened import Opened
from sisock.history.segment_set import SegmentSet
from sisock.history.writer import TimelineWriter
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.settings import HistorySettings
from sisock.times import Clock, Interval

# Seconds for which the files of what was replaced or removed stay, for those who are reading them.
_GRACE_S = 60.0
# Part of `keep` that retention removes in a day of running on account of a clock that nothing confirms.
_SHARE, _DAY_S = 0.1, 86400.0
# Seconds of running after which a clock that is synchronised is believed by retention.
_SYNCHRONISED_S = 3600.0
_EVER = Interval(-math.inf, math.inf)


class Keeper:
    """Removes segments that are not kept any longer.

    Parameters
    ----------
    path : Path
        The folder of the history.
    settings : HistorySettings
    manifest : Manifest
    opened : Opened
    clock : Clock
    outages : OutageLog
        Where a retention that waits for the clock to be confirmed is reported.
    counters : Counters
    """

    def __init__(
        self,
        path: Path,
        settings: HistorySettings,
        manifest: Manifest,
        opened: Opened,
        clock: Clock,
        outages: OutageLog,
        counters: Counters,
    ) -> None:
        self._path, self._settings, self._manifest, self._opened = path, settings, manifest, opened
        self._clock, self._outages, self._counters = clock, outages, counters
        self._began, self._confirmed, self._continuous_until = clock.monotonic(), False, math.inf
        self._removed: list[tuple[float, Path]] = []  # and when

    def begin(self, writers: Iterable[TimelineWriter]) -> None:
        """Look until when there are samples without a hole that is longer than a tenth of `keep`."""
        spans = sorted(span for writer in writers for _, span in writer.stored.spans())
        until = spans[0].end if spans else math.inf
        for span in spans:
            if span.start - until > _SHARE * self._settings.keep_s:
                break
            until = max(until, span.end)
        self._continuous_until = until

    def confirm_clock(self) -> None:
        """Have retention go by the clock as it is."""
        self._confirmed = True

    def expire(self, writers: Mapping[str, TimelineWriter], now: float) -> None:
        """Remove segments that are too old, and the oldest ones while all take too much."""
        spans = [
            (span.end, name, entry)
            for name, writer in writers.items()
            for entry, span in writer.stored.spans()
            if entry.id != writer.writing
        ]
        size = sum(entry.bytes for writer in writers.values() for entry in writer.stored.entries)
        trusted = self._retention_time(now)
        self._report_retention(min((end for end, _, _ in spans), default=math.inf), now, trusted)
        now = trusted
        doomed: dict[str, list[Entry]] = {}
        for end, name, entry in sorted(spans, key=lambda each: each[0]):
            if end >= now - self._settings.keep_s and size <= self._settings.max_size:
                break
            size -= entry.bytes
            doomed.setdefault(name, []).append(entry)
        for name, entries in doomed.items():
            writer = writers[name]
            self._counters.add("expired", sum(writer.stored.of(entry).count(_EVER) for entry in entries))
            self.remove(writer, entries, deferrable=True)  # or a disk that is full would stay so
            if span := writer.stored.span():
                self._manifest.expire(writer.number, span.start)

    def remove(self, writer: TimelineWriter, entries: Sequence[Entry], *, deferrable: bool = False) -> None:
        """Remove segments; `deferrable` where it need not be on the disk at once."""
        stored = writer.stored
        self._manifest.finalize(writer.number, writer.final, deferrable=deferrable)
        self._manifest.remove([entry.id for entry in entries], deferrable=deferrable)
        with writer.lock:
            writer.unsealed -= sum(entry.bytes for entry in entries if entry.state == "open")
            writer.show()
        self.drop(stored, entries)

    def drop(self, stored: SegmentSet, entries: Iterable[Entry]) -> None:
        """Have the files of segments removed, once nobody reads them any more."""
        now = self._clock.monotonic()
        self._removed += [(now, stored.path(entry)) for entry in entries]

    def unlink(self, now: float) -> None:
        """Remove the files that were dropped a while before `now`, by the monotonic clock."""
        while self._removed and self._removed[0][0] < now - _GRACE_S:
            _, path = self._removed.pop(0)
            self._opened.forget(path)
            remove_segment(path)
            self._manifest.gone([int(path.stem)])

    def _retention_time(self, now: float) -> float:
        """Return the time that retention by age goes by.

        Until the clock is confirmed, it is at most a tenth of `keep` for each day begun ahead of the samples.
        """
        ran = self._clock.monotonic() - self._began
        self._confirmed = self._confirmed or (ran >= _SYNCHRONISED_S and self._clock.synchronised() is True)
        share = _SHARE * self._settings.keep_s * (1 + ran // _DAY_S)
        return now if self._confirmed else min(now, self._continuous_until + share + ran)

    def _report_retention(self, oldest: float, now: float, trusted: float) -> None:
        """Report that retention waits, if there is something that it would remove by the clock alone."""
        key = f"the retention of {self._path}"
        if trusted < now and oldest < now - self._settings.keep_s:
            if not self._outages.failing(key):
                ahead = (now - self._continuous_until) / 86400.0
                self._outages.failed(
                    key,
                    f"the clock is {ahead:.1f} days ahead of the samples; a tenth of `keep` a day is removed on its "
                    "account until it is synchronised. If the clock is wrong, set it and restart the node; if it is "
                    "right, confirm it: sisock call NODE confirm_clock",
                )
        else:
            self._outages.recovered(key)
