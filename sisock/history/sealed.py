"""Sealed segments: samples that are final, in order, as Parquet; beside each a pyramid of summaries.

A pyramid holds bins of widths that are powers of two seconds. Since such bins consist of whole narrower ones, a wide
interval is downsampled from the summaries alone, with the same result as from the samples. The layout is in
docs/history-format.md.
"""

import errno
import json
import math
import os
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sisock.bins import STATISTICS, Bins, Statistic, binned
from sisock.errors import BadHistory, Busy, MissingExtra, TooLarge
from sisock.fields import Column, Field, FloatArray
from sisock.history.blocks import alike
from sisock.history.entry import Entry
from sisock.history.layout import NewerFormat, Unreadable
from sisock.history.string_dictionary import spelled
from sisock.times import Interval

try:
    import pyarrow as pa
    from pyarrow import ipc
    from pyarrow import parquet as pq
except ModuleNotFoundError as error:
    raise MissingExtra("a history on disk needs pyarrow; run: pip install 'sisock[parquet]'") from error

FORMAT = 1
KEY = b"sisock"
# Key of the checksums of a Parquet file's bytes up to its footer, one per piece of so many bytes.
PIECES = b"sisock.pieces"
PIECE = 1 << 16
# The name of the column of times: no field has it.
TIME = ""


def footer_checksum(path: Path) -> str:
    """Return the CRC-32, in hexadecimal, of the footer of a Parquet file, which lists the places of all columns.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 8))
        tail = file.read()
        length = int.from_bytes(tail[:4], "little")
        file.seek(max(0, end - 8 - length))
        return f"{zlib.crc32(file.read()):08x}"


def described(path: Path, number: int) -> tuple[str, Entry, dict[str, Any]]:
    """Return the description of a sealed segment: its timeline, its entry, and the rest of its footer.

    Raises
    ------
    BadHistory
        If it is damaged or of a newer format.
    """
    with _reading(path):
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            _check_format(path, schema)
            about = json.loads(schema.metadata[KEY])
            fields = tuple(_field(schema.field(i)) for i in range(1, len(schema.names)))
            first = float(metadata.row_group(0).column(0).statistics.min)
            last = float(metadata.row_group(metadata.num_row_groups - 1).column(0).statistics.max)
            rows = int(metadata.num_rows)
        size = path.stat().st_size
        levels = tuple((int(exponent), int(checksum)) for exponent, checksum in about.get("levels", ()))
        if pyramid_path(path).exists():
            size += pyramid_path(path).stat().st_size
        entry = Entry(number, "sealed", fields, first, last, rows, size, levels, footer_checksum(path))
    return str(about["timeline"]), entry, about


def _field(column: Any) -> Field:
    about = {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}
    kind: Any = about["type"]
    return Field(column.name, kind, about.get("units"), about.get("description"))


def pyramid_path(path: Path) -> Path:
    """Return the file of a sealed segment's pyramid."""
    return path.with_suffix(".pyramid")


def files_of(path: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """Return inode, size and time of the last change of a sealed segment's files; None where one is missing."""
    found: list[tuple[int, int, int] | None] = []
    for each in (path, pyramid_path(path)):
        try:
            about = each.stat()
            found.append((about.st_ino, about.st_size, about.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


def batch_checksum(batch: Any) -> int:
    """Return the CRC-32 of the values of a level of a pyramid."""
    checksum = 0
    for column in batch.columns:
        for buffer in column.buffers():
            if buffer is not None:
                checksum = zlib.crc32(buffer, checksum)
    return checksum


class Sealed:
    """A sealed segment, read through mmap; what is not asked for is not opened.

    Parameters
    ----------
    path : Path
        The Parquet file.
    entry : Entry
        Its entry in the manifest.

    Raises
    ------
    BadHistory
        From all methods, if it is damaged or of a newer format.
    """

    def __init__(self, path: Path, entry: Entry) -> None:
        self._path = path
        self.files = files_of(path)
        """State of its files when it was opened, by which a replacement or a write is detected."""
        self.first, self.last = entry.first or 0.0, entry.last or 0.0
        """Times of the first and the last sample."""
        self._footer, self._rows = entry.extra, entry.rows
        self._names = [field.name for field in entry.fields]
        self._texts = [field.name for field in entry.fields if field.type == "string"]
        self._levels = {exponent: (i, checksum) for i, (exponent, checksum) in enumerate(entry.levels)}
        self._verified: set[int] = set()  # levels whose checksums held
        self._held: set[int] = set()  # pieces whose checksums held
        self._turn = threading.Lock()  # Arrow's readers of files are for one thread at a time

    def check_footer(self) -> None:
        """Verify the footer by its checksum; without one, compare its content with the manifest."""
        if self._footer:
            self._check_footer_sum()
        else:
            _ = self._groups  # compares it with the manifest

    def _check_footer_sum(self) -> None:
        with _reading(self._path):
            if self._footer and footer_checksum(self._path) != self._footer:
                raise BadHistory(f"{self._path} is damaged in its footer")

    @cached_property
    def _file(self) -> Any:
        self._check_footer_sum()
        with _reading(self._path):
            how = {"memory_map": True, "page_checksum_verification": True}
            file = pq.ParquetFile(self._path, read_dictionary=self._texts, **how)
            _check_format(self._path, file.schema_arrow)
            if PIECES not in (file.metadata.metadata or {}):
                # Its bytes are not read for their checksums before, see `fetch`.
                how["memory_map"] = False
                file = pq.ParquetFile(self._path, read_dictionary=self._texts, **how)
        return file

    @cached_property
    def _groups(self) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
        """Times of the first and the last sample of each row group, and how many it has."""
        metadata = self._file.metadata
        with _reading(self._path):
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            bounds = [group.column(0).statistics for group in groups]
            firsts, lasts = np.array([b.min for b in bounds]), np.array([b.max for b in bounds])
            sizes = np.array([group.num_rows for group in groups])
            names = self._file.schema_arrow.names
        if (firsts[0], lasts[-1], sizes.sum(), names) != (self.first, self.last, self._rows, [TIME, *self._names]):
            raise BadHistory(f"{self._path} has other samples than the manifest lists")
        return firsts, lasts, sizes

    @cached_property
    def _pyramid(self) -> Any:
        path = pyramid_path(self._path)
        if not path.exists() and self._path.exists():
            raise BadHistory(f"{path} is missing; it is made again from the samples")
        with _reading(path):
            file = ipc.open_file(pa.memory_map(os.fspath(path)))
            _check_format(path, file.schema)
        return file

    def _level(self, index: int) -> Any:
        with self._turn:
            return self._pyramid.get_batch(index)

    def exponents(self) -> list[int]:
        """Return the levels of the pyramid, from fine to coarse."""
        return list(self._levels)

    def rows(self, interval: Interval, names: Sequence[str]) -> tuple[FloatArray, dict[str, Column]]:
        """Return the samples in `interval`; fields that this segment lacks are left out."""
        firsts, lasts, _ = self._groups
        groups = np.flatnonzero((lasts >= interval.start) & (firsts < interval.end)).tolist()
        known = [name for name in names if name in self._names]
        if not groups:
            return np.empty(0), {}
        t, columns = self._read(groups, known)
        kept = slice(*np.searchsorted(t, interval))
        return t[kept], {name: values[kept] for name, values in columns.items()}

    def _read(self, groups: Sequence[int], names: Sequence[str]) -> tuple[FloatArray, dict[str, Column]]:
        """Return all samples of row groups that follow each other."""
        with _reading(self._path):
            self._verify(groups, names)
            with self._turn:
                table = self._file.read_row_groups(groups, columns=[TIME, *names])
            t = table.column(TIME).to_numpy()
            columns = {name: self._column(table, name) for name in names}
        if not self._pieces:
            self._compare(groups, t, columns)
        return t, columns

    @cached_property
    def _pieces(self) -> list[int]:
        """Size of what the pieces cover, and their checksums; empty for segments that have none."""
        found: list[int] = json.loads((self._file.metadata.metadata or {}).get(PIECES, b"[]"))
        return found

    def _verify(self, groups: Sequence[int], names: Sequence[str]) -> None:
        """Verify the bytes of columns in row groups."""
        size, expected = (self._pieces or [0])[0], self._pieces[1:]
        if len(self._held) == len(expected):
            return
        metadata, places = self._file.metadata, [0, *(self._names.index(name) + 1 for name in names)]
        wanted: set[int] = set()
        for group in groups:
            for place in places:
                chunk = metadata.row_group(group).column(place)
                begin = chunk.dictionary_page_offset or chunk.data_page_offset
                end = begin + chunk.total_compressed_size
                wanted.update(range(begin // PIECE, (end - 1) // PIECE + 1))
        with self._path.open("rb") as file:
            for piece in sorted(wanted - self._held):
                file.seek(piece * PIECE)
                if zlib.crc32(file.read(min(PIECE, size - piece * PIECE))) != expected[piece]:
                    raise BadHistory(f"{self._path} is damaged between the bytes {piece * PIECE} and {size}")
                self._held.add(piece)

    def _compare(self, groups: Sequence[int], t: FloatArray, columns: Mapping[str, Column]) -> None:
        """Compare samples of a segment without checksums with its statistics and its summaries."""
        firsts, lasts, sizes = self._groups
        ends = firsts[groups[0]], lasts[groups[-1]]
        if len(t) != sizes[list(groups)].sum() or (t[0], t[-1]) != ends or not np.all(t[1:] > t[:-1]):
            raise BadHistory(f"{self._path} has other times than it describes")
        own = binned(t, columns, 2.0 ** min(self._levels)) if self._is_summarized else None
        if own is None or len(own) < 3:
            return
        # The first and the last bin may have samples of other row groups.
        numbers = (own.numbers[1], own.numbers[-1])
        bins = self.bins(min(self._levels), numbers, list(columns))
        if bins is None or not np.array_equal(bins.numbers, own.numbers[1:-1]):
            raise BadHistory(f"{self._path} has samples at other times than its summaries")
        for name, parts in bins.columns.items():
            for part, values in parts.items():
                mine = own.columns[name][part][1:-1]
                same = np.isclose(mine, values, equal_nan=True) if part == "total" else alike(mine, values)
                if not np.all(same):
                    raise BadHistory(f"{self._path} has other values of {name} than its summaries")

    @cached_property
    def _is_summarized(self) -> bool:
        return bool(self._levels) and self.pyramid_holds()

    def _column(self, table: Any, name: str) -> Column:
        column = table.column(name)
        if name not in self._texts:
            return column.to_numpy()  # type: ignore[no-any-return]
        chunks = [spelled(chunk.indices.to_numpy(), chunk.dictionary.to_pylist()) for chunk in column.chunks]
        return np.concatenate(chunks)

    def intact(self) -> list[Interval]:
        """Return the spans, from the first sample to the last, whose samples can all be read; in order of time."""
        firsts, lasts, _ = self._groups
        spans: list[Interval] = []
        for i, (first, last) in enumerate(zip(firsts.tolist(), lasts.tolist(), strict=True)):
            try:
                self._read([i], self._names)
            except BadHistory:
                continue
            joins = spans and i and spans[-1].end == lasts[i - 1]
            spans = [*spans[:-1], Interval(spans[-1].start, last)] if joins else [*spans, Interval(first, last)]
        return spans

    def pyramid_holds(self) -> bool:
        """Whether the checksums of the pyramid hold."""
        try:
            with _reading(pyramid_path(self._path)):
                return all(batch_checksum(self._level(i)) == held for i, held in self._levels.values())
        except (BadHistory, FileNotFoundError):
            return False

    def at_least(self, interval: Interval) -> int:
        """Return a lower bound of the samples in `interval`, without reading any."""
        firsts, lasts, sizes = self._groups
        return int(sizes[(firsts >= interval.start) & (lasts < interval.end)].sum())

    def count(self, interval: Interval) -> int:
        """Return how many samples are in `interval`."""
        firsts, lasts, _ = self._groups
        inside = (firsts >= interval.start) & (lasts < interval.end)
        cut = ~inside & (lasts >= interval.start) & (firsts < interval.end)
        number = self.at_least(interval)
        for group in np.flatnonzero(cut):
            end = math.nextafter(lasts[group], math.inf)
            part = Interval(max(interval.start, firsts[group]), min(interval.end, end))
            number += len(self.rows(part, [])[0])
        return number

    def bins(
        self, exponent: int, numbers: tuple[float, float], names: Sequence[str], parts: Sequence[Statistic] = STATISTICS
    ) -> Bins | None:
        """Return the bins of a level whose numbers are in ``[numbers[0], numbers[1])``; None where there are none.

        Fields that this segment lacks are left out, as are parts that a field does not have.
        """
        index, checksum = self._levels[exponent]
        columns: dict[str, dict[Statistic, Column]] = {}
        with _reading(pyramid_path(self._path)):
            if exponent not in self._verified:
                with pa.OSFile(os.fspath(pyramid_path(self._path))) as file:  # see `fetch`
                    ipc.open_file(file).get_batch(index)
            batch = self._level(index)
            if exponent not in self._verified and batch_checksum(batch) != checksum:
                raise BadHistory(f"{pyramid_path(self._path)} is damaged; its checksum does not hold")
            self._verified.add(exponent)
            number = batch.column("number").to_numpy()
            kept = slice(*np.searchsorted(number, numbers).tolist())
            if kept.start == kept.stop:
                return None
            for i, name in enumerate(self._names):
                if name in names:
                    there = [part for part in parts if batch.schema.get_field_index(f"{i}.{part}") >= 0]
                    columns[name] = {part: _numpy(batch.column(f"{i}.{part}"), kept) for part in there}
            first_t, last_t, rows = (_numpy(batch.column(name), kept) for name in ("first_t", "last_t", "rows"))
        return Bins(2.0**exponent, number[kept], first_t, last_t, rows, columns)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Translate errors of reading a file."""
    try:
        yield
    except (MemoryError, pa.ArrowMemoryError) as error:
        raise TooLarge(f"there is not enough memory to read {path}; ask for less at once") from error
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
            raise Busy(f"{path} cannot be opened: too many files are open; raise the limit (ulimit -n)") from error
        if isinstance(error, FileNotFoundError):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise Unreadable(f"{path} cannot be read: {error}; it is left as it is, ask again later") from error
        raise BadHistory(f"{path} cannot be read: {error}") from error


def _check_format(path: Path, schema: Any) -> None:
    version = json.loads(schema.metadata[KEY])["format"]
    if version > FORMAT:
        raise NewerFormat(f"{path} has format {version}; this sisock reads up to {FORMAT}, so update it")


def _numpy(array: Any, kept: slice) -> Column:
    return array[kept].to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
