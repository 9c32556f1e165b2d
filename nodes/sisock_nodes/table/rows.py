"""Bytes of a growing table to whole rows in UTF-8; pure.

A cell is quoted as RFC 4180 has it: the quote opens the cell. A quote inside of a cell that is not quoted is an
ordinary character. A quoted cell that does not end is one that is not quoted: it ends with its line at the latest.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sisock.errors import BadData
from sisock_nodes.records import texts

# A quoted cell of more lines or bytes than this has no end.
MOST_LINES, MOST_BYTES = 100, 1 << 20
_QUOTE, _BREAK, _RETURN = b'"', b"\n", b"\r"


@dataclass(frozen=True, slots=True)
class Rows:
    """Whole rows.

    Attributes
    ----------
    data : bytes
        In which each quoted cell has its end.
    taken : int
        Number of the bytes that they were made of.
    unclosed : int
        Number of cells that begin with a quote and have no end.
    """

    data: bytes
    taken: int
    unclosed: int = 0


def whole_rows(data: bytes, delimiter: str, *, patient: bool = True, ended: bool = False) -> Rows:
    """Return the rows at the beginning of `data` that are whole.

    Parameters
    ----------
    data : bytes
        Begins with a row.
    delimiter : str
        One ASCII character.
    patient : bool
        Whether the end of a quoted cell may still come, within `MOST_LINES` and `MOST_BYTES`.
    ended : bool
        Whether the last row is whole without a line break, as at the end of a file.
    """
    if _QUOTE not in data:
        end = len(data) if ended else data.rfind(_BREAK) + 1
        return Rows(data[:end], end)
    if not ended and patient and (regular := _regular_end(data, delimiter)) is not None:
        return Rows(data[:regular], regular)
    return _repaired(data, delimiter, patient=patient and not ended, ended=ended)


def _regular_end(data: bytes, delimiter: str) -> int | None:
    """Return where whole rows end if all quotes are where RFC 4180 has them; otherwise None."""
    text = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(text == ord(_QUOTE))
    opening, closing = quotes[::2], quotes[1::2]
    outside = np.zeros(256, bool)
    outside[[ord(delimiter), ord(_BREAK), ord(_RETURN)]] = True
    # A doubled quote is one that closes the cell and one that opens it again.
    doubled = np.concatenate([[False], opening[1:] == closing[: len(opening) - 1] + 1])
    opens = outside[text[opening - 1]] | doubled
    opens[0] |= opening[0] == 0
    behind = closing[closing < len(text) - 1] + 1
    if not (opens.all() and (outside[text[behind]] | (text[behind] == ord(_QUOTE))).all()):
        return None
    end = len(data)
    if len(quotes) % 2:
        end = int(quotes[-1])
        if _is_unclosed(data, end, len(data)):
            return None
    while (end := data.rfind(_BREAK, 0, end)) >= 0:
        before = int(np.searchsorted(quotes, end))
        if before % 2 == 0:
            return end + 1
        end = int(quotes[before - 1])
    return 0


def _is_unclosed(data: bytes, start: int, end: int) -> bool:
    """Return whether a quoted cell from `start` to `end` is too large to be one."""
    return end - start > MOST_BYTES or data.count(_BREAK, start, end) > MOST_LINES


def _repaired(data: bytes, delimiter: str, *, patient: bool, ended: bool) -> Rows:
    """Return whole rows in which cells that begin with a quote and have no end are written with all that they need."""
    separator = re.escape(delimiter.encode())
    opening = re.compile(rb'(?:\A|(?<=[\r\n%b]))"' % separator)
    rest = re.compile(rb"[^\r\n%b]*" % separator)
    replaced: list[tuple[int, int, bytes]] = []
    end = at = 0
    while match := opening.search(data, at):
        start = match.start()
        end = max(end, data.rfind(_BREAK, at, start) + 1)
        close, may_come = _end_of_cell(data, start, delimiter)
        if may_come and patient:
            break
        if close is None:
            close = rest.match(data, start).end()  # type: ignore[union-attr]
            replaced.append((start, close, b'"%b"' % data[start:close].replace(_QUOTE, b'""')))
        at = close
    else:
        end = len(data) if ended else max(end, data.rfind(_BREAK, at) + 1)
    parts, at = [], 0
    replaced = [each for each in replaced if each[1] <= end]
    for start, close, cell in replaced:
        parts += [data[at:start], cell]
        at = close
    return Rows(b"".join([*parts, data[at:end]]), end, len(replaced))


def _end_of_cell(data: bytes, start: int, delimiter: str) -> tuple[int | None, bool]:
    """Return the index behind the quote that closes a cell, None without one, and whether it may still follow."""
    at, most = start + 1, start + MOST_BYTES
    while (close := data.find(_QUOTE, at, most)) >= 0:
        at = close + 1
        if data[at : at + 1] != _QUOTE:
            lines = data.count(_BREAK, start, close)
            # A quote with more behind it, some lines later, is another cell's.
            is_end = data[at : at + 1] in (b"", _BREAK, _RETURN, delimiter.encode())
            return at if lines == 0 or (is_end and lines <= MOST_LINES) else None, False
        at += 1
    return None, not _is_unclosed(data, start, len(data))


def as_utf8(data: bytes) -> tuple[bytes, int]:
    """Return text in UTF-8, and how many bytes were not, or are left out.

    NUL, which a file that was cut while somebody wrote to it has in places, is left out.
    """
    nul = data.count(b"\0")
    text, bad = texts.as_utf8(data.replace(b"\0", b"") if nul else data)
    return text, nul + bad


def read_header(line: bytes, delimiter: str) -> list[str]:
    """Return the names of the columns; an empty last one, of a line that ends with a delimiter, does not count.

    Raises
    ------
    BadData
        If the line is not text, is empty, or names a column twice or not at all.
    """
    if not line.removeprefix(codecs.BOM_UTF8).strip():
        raise BadData("it has no header; its first line must name the columns")
    if line.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        raise BadData("its header cannot be read: it is UTF-16; write the table in UTF-8")
    names = _cells(line, delimiter)
    if names and not names[-1]:
        names.pop()
    if not names or "" in names or len(set(names)) < len(names):
        raise BadData(f"its header names a column twice or not at all: {', '.join(map(repr, names))}")
    return names


def cells_of(line: bytes, delimiter: str) -> list[str]:
    """Return the cells of a line, without blanks around them; none if it cannot be read."""
    try:
        return _cells(line, delimiter)
    except BadData:
        return []


def _cells(line: bytes, delimiter: str) -> list[str]:
    line = line.removeprefix(codecs.BOM_UTF8)
    try:
        row = next(csv.reader([as_utf8(line)[0].decode()], delimiter=delimiter), [])
    except csv.Error as error:
        raise BadData(f"its header cannot be read: {error}") from error
    return [cell.strip() for cell in row]


def lines_with(data: bytes, cell: str, delimiter: str) -> Iterator[tuple[int, int]]:
    """Yield begin and end, line break included, of the lines that have a cell, quoted or not."""
    wanted, around = cell.encode(), frozenset(b' \t\r\n"' + delimiter.encode())
    at = 0
    while (at := data.find(wanted, at)) >= 0:
        behind = at + len(wanted)
        if (at and data[at - 1] not in around) or (behind < len(data) and data[behind] not in around):
            at = behind
            continue
        begin, end = data.rfind(_BREAK, 0, at) + 1, data.find(_BREAK, at) + 1 or len(data)
        yield begin, end
        at = end


def segments(data: bytes, headers: Sequence[tuple[int, int]]) -> Iterator[tuple[bytes | None, bytes]]:
    """Yield each header line, None where there is none at the beginning, and the rows that follow it."""
    begin, header = 0, None
    for start, end in headers:
        if start > begin or header is not None:
            yield header, data[begin:start]
        begin, header = end, data[start:end]
    yield header, data[begin:]
