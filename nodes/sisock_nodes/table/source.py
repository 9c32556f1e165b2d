"""Tables on disk as sources: what is there, then what is appended."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sisock.errors import BadData, SisockError
from sisock.fields import Batch, Field, Timeline
from sisock.metrics import Counters
from sisock.source import Emit, Source
from sisock.times import Clock
from sisock_nodes.table.columns import guess_type, read_header, read_rows, to_column, to_times, whole_rows
from sisock_nodes.table.settings import ColumnSettings, TableSettings

# One batch at the most: large enough that an ordinary table, in whatever order, is sorted as a whole.
_PIECE = 64 << 20
# A last line without its line break is taken once nothing was written for so long.
_SETTLED_S = 60.0

log = logging.getLogger(__name__)


def table_sources(settings: TableSettings, clock: Clock) -> Sequence[Source]:
    """Return a source for each table at the settings' path.

    Raises
    ------
    BadData
        If there is none, or one has no header that can be used.
    """
    path = settings.path
    if not path.exists():
        raise BadData(f"there is no file or folder {path}; set `path` to the table")
    if path.is_file():
        return [TableSource(path.stem, "", lambda: [path], settings, clock)]
    files = _tables_in(path)
    if not files:
        raise BadData(f"folder {path} has no *.csv or *.tsv files")
    if not settings.together:
        return [
            TableSource(file.stem, f"{file.stem}.", lambda file=file: [file], settings, clock)  # type: ignore[misc]
            for file in files
        ]
    groups: dict[tuple[str, ...], Path] = {}
    for file in files:
        groups.setdefault(tuple(_header(file, settings)), file)
    return [
        TableSource(
            first.stem, f"{first.stem}." if len(groups) > 1 else "", _alike(path, header, settings), settings, clock
        )
        for header, first in groups.items()
    ]


def _tables_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in (".csv", ".tsv"))


def _alike(folder: Path, header: tuple[str, ...], settings: TableSettings) -> Callable[[], list[Path]]:
    """Return what lists the files with that header; each file is looked into once."""
    headers: dict[Path, tuple[str, ...]] = {}

    def files() -> list[Path]:
        for file in _tables_in(folder):
            if file not in headers:
                try:
                    headers[file] = tuple(_header(file, settings))
                except SisockError:
                    continue  # still being begun
        return [file for file in sorted(headers) if headers[file] == header]

    return files


def _delimiter(file: Path, settings: TableSettings) -> str:
    return settings.delimiter or ("\t" if file.suffix.lower() == ".tsv" else ",")


def _header(file: Path, settings: TableSettings) -> list[str]:
    with file.open("rb") as opened:
        line = opened.readline(1 << 20)
    try:
        return read_header(line.removeprefix(b"\xef\xbb\xbf"), _delimiter(file, settings))
    except BadData as error:
        raise BadData(f"{file}: {error.message}") from error


@dataclass
class _Place:
    """How far a file has been read."""

    inode: int
    offset: int = 0


class TableSource:
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
        self.counters = Counters("rows", "bad_rows", "bad_times", "bad_values", "read_anew", "failures")
        self._files, self._settings, self._clock = files, settings, clock
        self._places: dict[Path, _Place] = {}
        self._failing = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        first = files()[0]
        self._names = _header(first, settings)
        self._time = settings.time.column or self._names[0]
        if self._time not in self._names:
            raise BadData(f"{first}: has no column {self._time!r} for the time; it has: {', '.join(self._names)}")
        if unknown := sorted(settings.fields.keys() - set(self._names)):
            raise BadData(f"{first}: has no column {unknown[0]!r}, which `fields` describes")
        self._fields = dict(self._describe(first, prefix))
        self.timelines = (Timeline(name, list(self._fields.values()), lateness_s=0.0, follows_clock=False),)

    def _describe(self, first: Path, prefix: str) -> Iterator[tuple[str, Field]]:
        with first.open("rb") as opened:
            opened.readline()
            data = opened.read(1 << 20)
        rows, _ = read_rows(data[: whole_rows(data)], self._names, _delimiter(first, self._settings))
        for name in self._names:
            if name == self._time:
                continue
            about = self._settings.fields.get(name, ColumnSettings())
            kind = about.type or guess_type(rows[name], self._settings.missing)
            yield name, Field(prefix + name, kind, about.units, about.description)

    def start(self, emit: Emit) -> None:
        """Read what is there, then what is appended."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(emit,), name="table", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, emit: Emit) -> None:
        while not self._stop.is_set():
            try:
                self._read_new(emit)
            except Exception as error:
                self.counters.add("failures")
                if not self._failing:
                    self._failing = True
                    log.warning("reading the table failed: %s; trying on", error, exc_info=True)
            else:
                if self._failing:
                    log.warning("reading the table works again")
                self._failing = False
            self._clock.wait(self._clock.now() + self._settings.reread, self._stop)

    def _read_new(self, emit: Emit) -> None:
        for file in self._files():
            while not self._stop.is_set():
                data = self._take(file)
                if data is None:
                    break
                if batch := self._batch(file, data):
                    emit(batch)
                    self.counters.add("rows", len(batch))

    def _take(self, file: Path) -> bytes | None:
        """Return the next whole rows of `file`; None when there are none."""
        with file.open("rb") as opened:
            stat = file.stat()
            place = self._places.setdefault(file, _Place(stat.st_ino))
            if stat.st_ino != place.inode or stat.st_size < place.offset:
                log.warning("%s was replaced or cut; it is read from its beginning", file)
                self.counters.add("read_anew")
                place = self._places[file] = _Place(stat.st_ino)
            if place.offset == 0:
                place.offset = len(opened.readline())
            opened.seek(place.offset)
            data = opened.read(_PIECE)
        end = whole_rows(data)
        settled = time.time() - stat.st_mtime > _SETTLED_S and len(data) < _PIECE
        data = data if settled else data[:end]
        place.offset += len(data)
        return data or None

    def _batch(self, file: Path, data: bytes) -> Batch | None:
        rows, wrong = read_rows(data, self._names, _delimiter(file, self._settings))
        if wrong:
            self.counters.add("bad_rows", wrong)
            log.warning("%s: %d rows do not have %d cells and are left out", file, wrong, len(self._names))
        t = to_times(rows[self._time], self._settings.time)
        good = np.isfinite(t)
        if not good.all():
            self.counters.add("bad_times", int((~good).sum()))
            text = rows[self._time][int(np.argmin(good))].as_py()
            log.warning(
                "%s: %d rows are left out; %r is no time in the format %r, which `time.format` sets",
                *(file, int((~good).sum()), text, self._settings.time.format),
            )
        columns = {}
        for name, field in self._fields.items():
            values, bad = to_column(rows[name], field, self._settings.missing)
            if bad:
                self.counters.add("bad_values", bad)
                log.warning("%s: %d values of %r are no %s", file, bad, name, field.type)
            columns[field.name] = values[good]
        return Batch(self.timelines[0].name, t[good], columns) if good.any() else None
