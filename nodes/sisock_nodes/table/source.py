"""Tables on disk as sources: what is there, then what is appended."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sisock.errors import BadData, SisockError
from sisock.fields import FloatArray, Timeline
from sisock.metrics import Counters
from sisock.outage import Health, LimitedLog, OutageLog
from sisock.source import Emit, InThread, Reporting, Source
from sisock.times import FARTHEST_S, Clock, UnitGuess
from sisock_nodes.records.keys import KeyNames
from sisock_nodes.records.learned import ValueSettings
from sisock_nodes.records.refusals import Refusals
from sisock_nodes.records.values import MissingMarks
from sisock_nodes.table.awaited import AwaitedTable
from sisock_nodes.table.columns import Cells, read_rows
from sisock_nodes.table.follow import Chunk, FileFollower
from sisock_nodes.table.rows import as_utf8, cells_of, lines_with, read_header, segments, whole_rows
from sisock_nodes.table.series import Series
from sisock_nodes.table.settings import TableSettings, TimeSettings
from sisock_nodes.table.times import read_times

# Bytes at the beginning, and at the end, from which the columns' types are found.
_SAMPLE = 1 << 20

log = logging.getLogger(__name__)


def table_sources(settings: TableSettings, clock: Clock) -> Sequence[Source]:
    """Return a source for each table at the settings' path.

    Raises
    ------
    BadData
        If there is none, or none has a header that can be used.
    """
    path = settings.path
    if not path.exists():
        raise BadData(f"there is no file or folder {path}; set `path` to the table")
    if path.is_file():
        return [TableSource(path.stem, "", lambda: [path], settings, clock)]
    files = _tables_in(path)
    if not files:
        raise BadData(f"folder {path} has no *.csv or *.tsv files")
    return _together(files, settings, clock) if settings.together else _apart(files, settings, clock)


def _apart(files: Sequence[Path], settings: TableSettings, clock: Clock) -> Sequence[Source]:
    """Return a source for each file; one that cannot be used yet costs itself."""
    made: dict[Path, Source] = {}
    failed: dict[Path, Exception] = {}
    for file in files:
        try:
            made[file] = _table_of(file, settings, clock)
        except (OSError, BadData) as error:
            failed[file] = error
    if not made:
        raise _unusable(failed)
    for file, why in failed.items():
        again = partial(_table_of, file, settings, clock)
        made[file] = AwaitedTable(file.stem, again, why, settings.reread, clock)
    return [made[file] for file in files]


def _table_of(file: Path, settings: TableSettings, clock: Clock) -> Reporting:
    return TableSource(file.stem, f"{file.stem}.", lambda: [file], settings, clock)


def _together(files: Sequence[Path], settings: TableSettings, clock: Clock) -> Sequence[Source]:
    """Return a source for the files of each header, and one for each file that has none yet."""
    groups: dict[tuple[str, ...], Path] = {}
    failed: dict[Path, Exception] = {}
    for file in files:
        try:
            groups.setdefault(tuple(_header(file, settings)), file)
        except (OSError, BadData) as error:
            failed[file] = error
    if not groups:
        raise _unusable(failed)

    def later(file: Path) -> Reporting | None:
        header = tuple(_header(file, settings))
        if groups.setdefault(header, file) != file:
            return None  # the source of that header has it by now
        return TableSource(file.stem, f"{file.stem}.", _alike(settings.path, header, settings), settings, clock)

    made: list[Source] = [
        TableSource(
            first.stem,
            f"{first.stem}." if len(groups) > 1 else "",
            _alike(settings.path, header, settings),
            settings,
            clock,
        )
        for header, first in groups.items()
    ]
    waiting = [
        AwaitedTable(file.stem, partial(later, file), why, settings.reread, clock) for file, why in failed.items()
    ]
    return [*made, *waiting]


def _unusable(failed: dict[Path, Exception]) -> BadData:
    """Return the error of a folder none of whose tables can be used: that of the first."""
    file, error = next(iter(failed.items()))
    return error if isinstance(error, BadData) else BadData(f"{file} cannot be read: {error}")


def _tables_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in (".csv", ".tsv"))


def _alike(folder: Path, header: tuple[str, ...], settings: TableSettings) -> Callable[[], list[Path]]:
    """Return what lists the files with that header; each file is looked into once."""
    headers: dict[Path, tuple[str, ...]] = {}

    def files() -> list[Path]:
        found = _tables_in(folder)
        for file in found:
            if file not in headers:
                try:
                    headers[file] = tuple(_header(file, settings))
                except (SisockError, FileNotFoundError):
                    continue  # still being begun, or gone already
        return [file for file in found if headers.get(file) == header]

    return files


def _delimiter(file: Path, settings: TableSettings) -> str:
    return settings.delimiter or ("\t" if file.suffix.lower() == ".tsv" else ",")


def _header(file: Path, settings: TableSettings) -> list[str]:
    with file.open("rb") as opened:
        line = opened.readline(1 << 20)
    try:
        return read_header(line, _delimiter(file, settings))
    except BadData as error:
        raise BadData(f"{file}: {error.message}") from error


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
        self._name, self._prefix, self._files, self._settings, self._clock = name, prefix, files, settings, clock
        self._marks, self._keys = MissingMarks(settings.missing), KeyNames(settings.pivot_limit)
        self._outages = OutageLog(clock, log)
        self._notices = LimitedLog(log, kinds=1000)
        self._followed: dict[Path, FileFollower] = {}
        self._listed: frozenset[Path] = frozenset()
        self._names: dict[Path, list[str]] = {}
        self._series: dict[str, Series] = {}
        self._known: dict[str, Timeline] = {}
        first = files()[0]
        names = _header(first, settings)
        time = settings.time
        self._time = time if time.names else TimeSettings(**{**time.model_dump(), "column": names[0]})
        for column in self._time.names:
            if column not in names:
                raise BadData(f"{first}: has no column {column!r} for the time; it has: {', '.join(names)}")
        for column in settings.pivots:
            if column not in names or column in self._time.names:
                raise BadData(f"{first}: has no column {column!r} to pivot by; it has: {', '.join(names)}")
        for column in sorted(settings.fields.keys() - set(names)):
            if not settings.pivots or column.rpartition(".")[2] not in names:
                raise BadData(f"{first}: has no column {column!r}, which `fields` describes")
        self._learn(first, names)
        self._refusals = Refusals(self._outages, f"table {name or first}", [time.scale], _time_setting)

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The timelines that are known so far."""
        return [series.timeline for series in list(self._series.values())]

    def status(self) -> Health:
        """Return whether the files can be read."""
        return self._outages.health()

    def _learn(self, file: Path, names: list[str]) -> None:
        """Learn timelines, columns and types from the beginning of a file, and from its end."""
        delimiter = _delimiter(file, self._settings)
        with file.open("rb") as opened:
            opened.readline()
            parts = [opened.read(_SAMPLE)]
            if (begin := os.fstat(opened.fileno()).st_size - _SAMPLE) > opened.tell():
                opened.seek(begin)
                opened.readline()
                parts.append(opened.read(_SAMPLE))
        for part in parts:
            rows = as_utf8(whole_rows(part, delimiter, patient=False).data)[0]
            for header, data in self._segments(rows, names, delimiter):
                named = read_header(header, delimiter) if header else names
                table = read_rows(data, named, delimiter).table
                for series, index in self._by_series(table):
                    series.learn(self._measured(table if index is None else table.take(index)))
        self._known = {series.timeline.name: series.timeline for series in self._series.values()}

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
        """Follow these files, in their order; what is left of others is read before them."""
        others = {file: follower for file, follower in self._followed.items() if file not in files}
        followed = {}
        for file in files:
            follower = self._followed.get(file) or self._renamed(file, others)
            if follower is None:
                follower = FileFollower(file, _delimiter(file, self._settings), self._clock, self.counters)
            followed[file] = follower
        self._followed, self._listed = {**others, **followed}, frozenset(files)
        self._outages.recovered("the table")

    def _renamed(self, file: Path, others: dict[Path, FileFollower]) -> FileFollower | None:
        """Return who follows the file already that is at a new path now, if it was at another before."""
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
                    # Nothing that was not taken as a whole is passed over; what was taken already is known.
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
        for series in self._series.values():
            series.forget_times()

    def _take(self, file: Path, chunk: Chunk, emit: Emit) -> None:
        """Emit the samples of some rows of a file."""
        delimiter = _delimiter(file, self._settings)
        data = chunk.data
        if chunk.again:
            self._forget_times()
        if chunk.first:
            line = data[: data.find(b"\n") + 1 or len(data)]
            self._names[file] = self._first_names(file, line, delimiter)
            if self._is_header(line, delimiter):
                data = data[len(line) :]
        for header, rows in self._segments(data, self._names[file], delimiter):
            if header is not None:
                self._names[file] = read_header(header, delimiter)
                self.counters.add("headers")
            self._emit_rows(file, read_rows(rows, self._names[file], delimiter), emit, provisional=chunk.provisional)

    def _first_names(self, file: Path, line: bytes, delimiter: str) -> list[str]:
        """Return the names of the columns of a file that begins with a line, which may be a row like those before."""
        if self._is_header(line, delimiter):
            return read_header(line, delimiter)
        # A log that is cut while its writer goes on begins without a header.
        if (names := self._names.get(file)) and self._has_time(line, names, delimiter):
            return names
        columns = ", ".join(map(repr, self._time.names))
        raise BadData(f"it begins with {line[:100]!r}, which has no column {columns} for the time; put a header there")

    def _segments(self, data: bytes, names: Sequence[str], delimiter: str) -> Iterator[tuple[bytes | None, bytes]]:
        """Yield rows that have one header, and that header where it is among them."""
        found = []
        for begin, end in lines_with(data, self._time.names[0], delimiter):
            line = data[begin:end]
            if self._is_header(line, delimiter) and not self._has_time(line, names, delimiter):
                found.append((begin, end))
        return segments(data, found)

    def _is_header(self, line: bytes, delimiter: str) -> bool:
        cells = cells_of(line, delimiter)
        return set(self._time.names) <= set(cells)

    def _has_time(self, line: bytes, names: Sequence[str], delimiter: str) -> bool:
        if not set(self._time.names) <= set(names):
            return False
        t, _ = read_times(read_rows(line, names, delimiter).table, self._time)
        return bool(np.isfinite(t).any())

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
                "%s: rows are left out, %d of them now; %r is no time in the format %r, which `time.format` sets",
                *(file, int((~good).sum()), text, self._time.format),
            )
            table, t, is_local = table.filter(pa.array(good)), t[good], is_local[good]
        for series, index in self._by_series(table, count=not provisional):
            part = (t, is_local, table) if index is None else (t[index], is_local[index], table.take(index))
            self._emit_series(file, series, *part, emit, provisional=provisional)

    def _by_series(self, table: pa.Table, *, count: bool = False) -> Iterator[tuple[Series, NDArray[np.intp] | None]]:
        """Yield each timeline that some rows are of, and the numbers of its rows; None for all."""
        if not self._settings.pivots:
            yield self._made(""), None
            return
        if not len(table):
            return
        columns = [pc.utf8_trim_whitespace(table[name]) for name in self._settings.pivots if name in table.column_names]
        codes = np.zeros(len(table), np.intp)
        for column in columns:
            encoded = column.combine_chunks().dictionary_encode()
            codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
            _, codes = np.unique(codes, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        for index in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            key = [column[int(index[0])].as_py() for column in columns]
            if name := self._keys.name(key):
                yield self._made(name), index
            elif count:
                self.counters.add("unpivoted", len(index))
                self._notices.warning(
                    "pivot",
                    "rows of %s are left out, since there are over %d others; raise `pivot_limit` to serve them",
                    *(" ".join(map(repr, key)), self._settings.pivot_limit),
                )

    def _made(self, key: str) -> Series:
        if key not in self._series:
            name, prefix = (f"{self._name}.{key}", f"{self._prefix}{key}.") if key else (self._name, self._prefix)
            about = partial(self._about, key)
            self._series[key] = Series(name, prefix, about, self._marks, self._time.timezone)
        return self._series[key]

    def _about(self, key: str, column: str) -> ValueSettings:
        fields = self._settings.fields
        return fields.get(f"{key}.{column}") or fields.get(column) or ValueSettings()

    def _measured(self, table: pa.Table) -> pa.Table:
        """Return the columns that are fields."""
        return table.drop_columns(
            [name for name in (*self._time.names, *self._settings.pivots) if name in table.column_names]
        )

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
        batch, misfits, filled = series.batch(t, self._measured(table))
        self.counters.add("filled", filled)
        for each in misfits:
            self.counters.add("bad_values", each.count)
            self._notices.warning(
                ("values", each.field.name),
                "%s: %r is no %s for %r, and missing there; such texts are in a field of their own",
                *(file, each.example, each.field.type, each.field.name),
            )
        if self._known.get(series.timeline.name) != series.timeline:
            emit.add(series.timeline)
            self._known[series.timeline.name] = series.timeline
        emit(batch)
        self.counters.add("rows", len(batch))
