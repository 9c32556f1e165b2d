"""Bytes to texts: what is not UTF-8 costs itself, not all that is around it."""

import re

_ODD = re.compile("[\udc80-\udcff]")


def as_utf8(data: bytes) -> tuple[bytes, int]:
    """Return text in UTF-8, and how many bytes were not.

    A byte that is not UTF-8 is read as Windows-1252, of which Latin-1 is a part.
    """
    if data.isascii():
        return data, 0
    try:
        data.decode()
    except UnicodeDecodeError:
        text, count = _repaired(data.decode(errors="surrogateescape"))
        return text.encode(), count
    return data, 0


def as_text(data: bytes) -> tuple[str, int]:
    """Return a text, and how many of its bytes were not UTF-8; see `as_utf8`."""
    try:
        return data.decode(), 0
    except UnicodeDecodeError:
        return _repaired(data.decode(errors="surrogateescape"))


def as_whole(text: str) -> tuple[str, int]:
    """Return a text without lone surrogates, and how many bytes were not UTF-8.

    Those that stand for bytes, as Python's ``surrogateescape`` makes them, are read as `as_utf8` reads them; others
    become question marks.
    """
    if text.isascii():
        return text, 0
    text, count = _repaired(text)
    return text.encode(errors="replace").decode(), count


def _repaired(text: str) -> tuple[str, int]:
    return _ODD.subn(lambda match: bytes([ord(match[0]) - 0xDC00]).decode("cp1252", "replace"), text)
