"""Tables on disk as sources: existing rows, then appended ones."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sisock.errors import BadData
from sisock.fields import FloatArray, Timeline
from sisock.metrics import Counters
from sisock.outage import Health, LimitedLog, OutageLog
from sisock.source import Emit, InThread
from sisock.times import FARTHEST_S, Clock, UnitGuess
from sisock_nodes.records.refusals import Refusals
from sisock_nodes.table.columns import Cells, read_rows
from sisock_nodes.table.follow import Chunk, FileFollower
from sisock_nodes.table.header import Headers, delimiter_of, header_of
from sisock_nodes.table.pivot import Pivot
from sisock_nodes.table.rows import as_utf8, read_header, whole_rows
from sisock_nodes.table.series import Series
from sisock_nodes.table.settings import TableSettings, TimeSettings
from sisock_nodes.table.times import read_times

# Bytes at the beginning, and at the end, from which the columns' types are found.
_SAMPLE = 1 << 20

log = logging.getLogger(__name__)


def _time_setting(guess: UnitGuess) -> str:
    if guess.name == "milliseconds":
        return "Set time.format to unix_ms"
    return f"Set time.format to unix, and time.scales to [{guess.scale:g}]"


class TableSource(InThread):
    """The rows of a table, or of several that are read as one; looks again and again whether it has grown.

    Parameters
    ----------
    name : str
        Of the timeline.
    prefix : str
        Before each column's name, to make the field's.
    files : callable
        Lists the files, in the order in which they are read.
    settings : TableSettings
    clock : Clock
    """

    def __init__(
        self, name: str, prefix: str, files: Callable[[], list[Path]], settings: TableSettings, clock: Clock
    ) -> None:
        super().__init__("table")
        self.counters = Counters(
            *("rows", "bad_rows", "short_rows", "extra_cells", "headers", "bad_times", "nonexistent_times"),
            *("bad_values", "filled", "bad_bytes", "unclosed_quotes", "unpivoted"),
            *("read_anew", "abandoned", "failures"),
        )
        self._files, self._settings, self._clock = files, settings, clock
        self._outages = OutageLog(clock, log)
        self._notices = LimitedLog(log, kinds=1000)
        self._followed: dict[Path, FileFollower] = {}
        self._listed: frozenset[Path] = frozenset()
        self._names: dict[Path, list[str]] = {}
        self._known: dict[str, Timeline] = {}
        first = files()[0]
        names = header_of(first, settings)
        time = settings.time
        self._time = time if time.names else TimeSettings(**{**time.model_dump(), "column": names[0]})
        for column in self._time.names:
            if column not in names:
                raise BadData(f"{first}: has no column {column!r} for the time; it has: {', '.join(names)}")
        for column in settings.pivots:
            if column not in names or column in self._time.names:
                raise BadData(f"{first}: has no column {column!r} to pivot by; it has: {', '.join(names)}")
        value = settings.value_column
        if value is not None and (value not in names or value in (*self._time.names, *settings.pivots)):
            raise BadData(f"{first}: has no column {value!r} for the values of `pivot`; it has: {', '.join(names)}")
        for column in sorted(settings.fields.keys() - set(names)) if value is None else ():
            if not settings.pivots or column.rpartition(".")[2] not in names:
                raise BadData(f"{first}: has no column {column!r}, which `fields` describes")
        self._headers = Headers(self._time)
        self._pivot = Pivot(name, prefix, settings, self._time, self.counters, self._notices)
        self._learn(first, names)
        self._refusals = Refusals(self._outages, f"table {name or first}", [time.scale], _time_setting)

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The timelines that are known so far."""
        return [series.timeline for series in list(self._pivot.series.values())]

    def status(self) -> Health:
        """Return whether the files can be read."""
        return self._outages.health()

    def _learn(self, file: Path, names: list[str]) -> None:
        """Learn timelines, columns and types from the beginning of a file, and from its end."""
        delimiter = delimiter_of(file, self._settings)
        with file.open("rb") as opened:
            opened.readline()
            parts = [opened.read(_SAMPLE)]
            if (begin := os.fstat(opened.fileno()).st_size - _SAMPLE) > opened.tell():
                opened.seek(begin)
                opened.readline()
                parts.append(opened.read(_SAMPLE))
        for part in parts:
            rows = as_utf8(whole_rows(part, delimiter, patient=False).data)[0]
            for header, data in self._headers.segments(rows, names, delimiter):
                named = read_header(header, delimiter) if header else names
                table = read_rows(data, named, delimiter).table
                for series, index in self._pivot.split(table):
                    series.learn(self._pivot.measured(table if index is None else table.take(index)))
        self._known = {series.timeline.name: series.timeline for series in self._pivot.series.values()}

    def _run(self, emit: Emit) -> None:
        while not self._stop.is_set():
            try:
                self._follow(self._files())
            except OSError as error:
                self._failed("the table", error)
            for file, follower in list(self._followed.items()):
                self._read(file, follower, emit)
            self._clock.wait(self._stop, self._settings.reread)
        for follower in self._followed.values():
            follower.close()

    def _follow(self, files: Sequence[Path]) -> None:
        """Follow these files, as listed; the rest of others is read before them."""
        others = {file: follower for file, follower in self._followed.items() if file not in files}
        followed = {}
        for file in files:
            follower = self._followed.get(file) or self._renamed(file, others)
            if follower is None:
                follower = FileFollower(file, delimiter_of(file, self._settings), self._clock, self.counters)
            followed[file] = follower
        self._followed, self._listed = {**others, **followed}, frozenset(files)
        self._outages.recovered("the table")

    def _renamed(self, file: Path, others: dict[Path, FileFollower]) -> FileFollower | None:
        """Return the follower of a file that was at another path before."""
        stat = file.stat()
        for before, follower in others.items():
            if follower.identity == (stat.st_dev, stat.st_ino):
                follower.path = file
                self._names[file] = self._names.pop(before, [])
                return others.pop(before)
        return None

    def _read(self, file: Path, follower: FileFollower, emit: Emit) -> None:
        try:
            for chunk in follower.chunks():
                try:
                    self._take(file, chunk, emit)
                except Exception:
                    # A chunk that was not taken as a whole is read again; samples that were stored replace themselves.
                    follower.read_again()
                    self._forget_times()
                    raise
                if self._stop.is_set():
                    return
        except FileNotFoundError as error:
            if file in self._listed:
                self._failed(str(file), error)
            else:  # a file of a folder that was removed
                self._followed.pop(file).close()
                self._outages.recovered(str(file))
        except Exception as error:  # noqa: BLE001 - logged by _failed, with its traceback where it is unexpected
            self._failed(str(file), error)
        else:
            self._outages.recovered(str(file))

    def _failed(self, what: str, error: Exception) -> None:
        self.counters.add("failures")
        self._outages.failed(what, error, "outage")

    def _forget_times(self) -> None:
        for series in self._pivot.series.values():
            series.forget_times()

    def _take(self, file: Path, chunk: Chunk, emit: Emit) -> None:
        """Emit the samples of some rows of a file."""
        delimiter = delimiter_of(file, self._settings)
        data = chunk.data
        if chunk.again:
            self._forget_times()
        if chunk.first:
            line = data[: data.find(b"\n") + 1 or len(data)]
            self._names[file] = self._first_names(file, line, delimiter)
            if self._headers.is_here(line, delimiter):
                data = data[len(line) :]
        for header, rows in self._headers.segments(data, self._names[file], delimiter):
            if header is not None:
                self._names[file] = read_header(header, delimiter)
                self.counters.add("headers")
            self._emit_rows(file, read_rows(rows, self._names[file], delimiter), emit, provisional=chunk.provisional)

    def _first_names(self, file: Path, line: bytes, delimiter: str) -> list[str]:
        """Return the names of the columns of a file that begins with a line, which may be a row like those before."""
        if self._headers.is_here(line, delimiter):
            return read_header(line, delimiter)
        # A log that is cut while it is written begins without a header.
        if (names := self._names.get(file)) and self._headers.has_time(line, names, delimiter):
            return names
        columns = ", ".join(map(repr, self._time.names))
        raise BadData(f"it begins with {line[:100]!r}, which has no column {columns} for the time; put a header there")

    def _emit_rows(self, file: Path, cells: Cells, emit: Emit, *, provisional: bool) -> None:
        table = cells.table
        if provisional and (cells.short or not len(table)):
            return  # its time may not be all there
        if cells.short or cells.extra:
            self.counters.add("short_rows", cells.short)
            self.counters.add("extra_cells", cells.extra)
            self._notices.warning(
                "cells",
                "%s: %d rows are short of cells, and %d cells are beyond the header",
                file,
                cells.short,
                cells.extra,
            )
        t, is_local = read_times(table, self._time)
        good = np.abs(t) <= FARTHEST_S
        if not provisional:
            self._refusals.saw(t, good, self._clock.now())
        if not good.all():
            self.counters.add("bad_times", int((~good).sum()))
            text = " ".join(str(table[name][int(np.argmin(good))]) for name in self._time.names)
            self._notices.warning(
                "times",
                "%s: rows are left out, %d of them now; %r is not a time in the format %r, which `time.format` sets",
                *(file, int((~good).sum()), text, self._time.format),
            )
            table, t, is_local = table.filter(pa.array(good)), t[good], is_local[good]
        for series, index in self._pivot.split(table, count=not provisional):
            part = (t, is_local, table) if index is None else (t[index], is_local[index], table.take(index))
            self._emit_series(file, series, *part, emit, provisional=provisional)

    def _emit_series(
        self,
        file: Path,
        series: Series,
        t: FloatArray,
        is_local: NDArray[np.bool_],
        table: pa.Table,
        emit: Emit,
        *,
        provisional: bool,
    ) -> None:
        if is_local.any():
            local = slice(None) if is_local.all() else is_local
            t[local] = series.times.to_utc(t[local], provisional=provisional)
            if not (good := np.isfinite(t)).all():
                self.counters.add("nonexistent_times", int((~good).sum()))
                text = " ".join(str(table[name][int(np.argmin(good))]) for name in self._time.names)
                self._notices.warning(
                    "nonexistent",
                    "%s: a row is left out; %r does not exist in %s, whose clocks are set forward then",
                    *(file, text, self._time.timezone),
                )
                t, table = t[good], table.filter(pa.array(good))
        if not len(t):
            return
        batch, misfits, filled = series.batch(t, self._pivot.measured(table))
        self.counters.add("filled", filled)
        for each in misfits:
            self.counters.add("bad_values", each.count)
            self._notices.warning(
                ("values", each.field.name),
                "%s: %r is not a %s for %r, and missing there; such texts are in a separate field",
                *(file, each.example, each.field.type, each.field.name),
            )
        if self._known.get(series.timeline.name) != series.timeline:
            emit.add(series.timeline)
            self._known[series.timeline.name] = series.timeline
        emit(batch)
        self.counters.add("rows", len(batch))
