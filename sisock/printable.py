"""Texts from outside, such as names, units and messages, as they can be shown on a terminal and in a log."""

import logging
import re
import sys

# C0, DEL and C1, which terminals obey; separators of lines; marks that turn the direction of a text; halves of pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return a text with its control characters escaped as Python writes them."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def printable_lines(text: str) -> list[str]:
    """Return the lines of a text, each with its other control characters escaped."""
    return [printable(line) for line in text.split("\n")]


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of the hook
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802 - the name of the hook
        lines = super().formatException(ei).splitlines()  # type: ignore[arg-type]
        return "\n".join(map(printable, lines))


def log_printable() -> None:
    """Show the log of this process on stderr, without control characters."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logging.addLevelName(level, logging.getLevelName(level).lower())
