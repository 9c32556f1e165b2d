"""Writing sealed segments; see `sealed`."""

import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from sisock.bins import Bins, binned, regrouped
from sisock.errors import MissingExtra
from sisock.fields import Column, Field, FloatArray
from sisock.history.entry import Level
from sisock.history.string_dictionary import StringDictionary

try:
    import pyarrow as pa
    from pyarrow import ipc
    from pyarrow import parquet as pq
except ModuleNotFoundError as error:
    raise MissingExtra("a history on disk needs pyarrow; run: pip install 'sisock[parquet]'") from error

from sisock.history.sealed import FORMAT, KEY, PIECE, PIECES, TIME, batch_checksum, pyramid_path

# Samples per row group: what is decompressed at least, to read one.
_GROUP = 1 << 15
# Bytes of the words of a row group, beyond which texts are written one by one.
_WORDS_SIZE = 64 << 20
# Samples per bin of the finest level, on the average.
_PER_BIN = 64


def write_sealed(
    path: Path,
    timeline: str,
    fields: Sequence[Field],
    t: FloatArray,
    columns: Mapping[str, Column],
    more: Mapping[str, Any] | None = None,
) -> tuple[Level, ...]:
    """Write samples as a sealed segment with its pyramid; both are on the disk when it returns.

    Parameters
    ----------
    path : Path
        The Parquet file; the pyramid is put beside it.
    timeline : str
    fields : sequence of Field
    t : ndarray of float64, shape (n,)
        Ascending, n above 0.
    columns : mapping of str to ndarray, each of shape (n,)
    more : mapping, optional
        What else its footer has to carry, to be written as JSON.

    Returns
    -------
    tuple of (int, int)
        The levels of the pyramid, from fine to coarse: as a power of two, the width of the bins in seconds, and the
        checksum.
    """
    batches = [(round(math.log2(bins.stride)), _batch(bins, fields)) for bins in pyramid(t, columns)]
    levels = tuple((exponent, batch_checksum(batch)) for exponent, batch in batches)
    about = {"format": FORMAT, "timeline": timeline, "levels": levels, **(more or {})}
    table = _table(fields, t, columns, about)
    with (
        _durable(path) as file,
        pq.ParquetWriter(
            summed := _Summed(file),
            table.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[f.name for f in fields if f.type == "string"],
            dictionary_pagesize_limit=_WORDS_SIZE,
            # The bytes of equal significance together: neighbours in time share the high ones.
            use_byte_stream_split=[
                f.name for f in table.schema if pa.types.is_float32(f.type) or pa.types.is_float64(f.type)
            ],
            write_page_checksum=True,
        ) as writer,
    ):
        writer.write_table(table, row_group_size=_GROUP)
        # The checksums of pages do not cover their headers.
        writer.add_key_value_metadata({PIECES: json.dumps(summed.checksums())})
    with _durable(pyramid_path(path)) as file, ipc.new_file(file, batches[0][1].schema) as writer:
        for _, batch in batches:
            writer.write_batch(batch)
    return levels


def pyramid(t: FloatArray, columns: Mapping[str, Column]) -> list[Bins]:
    """Return the levels of the pyramid of samples, from fine to coarse; the coarsest has two bins at most."""
    span = max(float(t[-1] - t[0]), 1e-6)
    levels = [binned(t, columns, 2.0 ** math.ceil(math.log2(span * _PER_BIN / len(t))))]
    while len(levels[-1]) > 2:
        levels.append(regrouped(levels[-1], 2 * levels[-1].stride))
    return levels


def _table(fields: Sequence[Field], t: FloatArray, columns: Mapping[str, Column], about: Mapping[str, Any]) -> Any:
    schema = [pa.field(TIME, pa.float64(), metadata={"units": "s", "description": "UNIX time, UTC"})]
    arrays = [pa.array(t)]
    for field in fields:
        array = _coded(columns[field.name]) if field.type == "string" else pa.array(columns[field.name])
        metadata = {"type": field.type, "units": field.units, "description": field.description}
        schema.append(pa.field(field.name, array.type, metadata={k: v for k, v in metadata.items() if v is not None}))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(schema, metadata={KEY: json.dumps(about)}))


class _durable:  # noqa: N801 - used like a function
    """Open a file for writing that gets its name only when it is whole and on the disk."""

    def __init__(self, path: Path) -> None:
        self._path, self._new = path, path.with_name(path.name + ".new")

    def __enter__(self) -> Any:
        self._file = self._new.open("wb")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        if kind is None:
            self._new.rename(self._path)
        else:
            self._new.unlink()


class _Summed:
    """A file that is written from its beginning on, with the checksums of its pieces."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, 0
        self._checksums: list[int] = []

    def write(self, data: Any) -> int:
        """Write bytes."""
        view = memoryview(data)
        while view:
            at = self._size % PIECE
            if not at:
                self._checksums.append(0)
            part, view = view[: PIECE - at], view[PIECE - at :]
            self._checksums[-1] = zlib.crc32(part, self._checksums[-1])
            self._size += self._file.write(part)
        return len(data)

    def checksums(self) -> list[int]:
        """Return how many bytes were written, then the CRC-32 of each piece, of which the last one is shorter."""
        return [self._size, *self._checksums]

    def flush(self) -> None:
        """Do nothing: whoever opened the file flushes it."""

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._size

    def writable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return False."""
        return False

    def seekable(self) -> bool:
        """Return False."""
        return False


def _batch(bins: Bins, fields: Sequence[Field]) -> Any:
    columns = {"number": bins.numbers, "first_t": bins.first_t, "last_t": bins.last_t, "rows": bins.rows}
    arrays = {name: pa.array(values) for name, values in columns.items()}
    for i, field in enumerate(fields):
        for part, values in bins.columns[field.name].items():
            text = pa.string() if field.type == "string" else None
            arrays[f"{i}.{part}"] = pa.array(values, text)
    return pa.record_batch(arrays, metadata={KEY: json.dumps({"format": FORMAT})})


def _coded(texts: Column) -> Any:
    """Return texts as codes and words, so that a long text that comes often is there once."""
    words = StringDictionary()
    codes = words.encode(texts)
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words.words, pa.string()))
