"""Printing the output of a site's processes without ever waiting for the terminal."""

import itertools
import os
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from sisock.printable import printable
from sisock.times import SYSTEM_CLOCK
from sisock.worker import Worker

_COLORS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
# Characters of one process that wait to be printed: above the first it is held back, above the second its lines
# are dropped. A line costs its characters and a small constant.
_ENOUGH, _MOST, _LINE = 2**16, 2**18, 100
# Seconds that a process is held back before its lines are dropped: a process must not wait for its log.
_PATIENCE = 0.5


class Lines:
    """Prints lines, each with the time and the name of its process.

    A thread of its own does the writing, so that a reader who has stopped reading (a pager, a terminal at Ctrl-S)
    holds up neither the processes nor their end. Dropped lines are counted, and the number is
    printed in their place.

    Parameters
    ----------
    names : sequence of str
        The processes; ``""`` is sisock itself. On a terminal each has a colour.
    stream : TextIO
        Where to print; it must have a file descriptor.
    """

    def __init__(self, names: Sequence[str], stream: TextIO) -> None:
        self._width = max(map(len, [*names, "sisock"]))
        self._color = dict(zip(names, itertools.cycle(_COLORS), strict=False))
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._output, self._encoding = stream.fileno(), stream.encoding
        self._clock = "%H:%M:%S" if self._console.is_terminal else "%Y-%m-%d %H:%M:%S%z"
        self._lock = threading.Condition()
        self._waiting: deque[tuple[str, str, str]] = deque()
        self._pending: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._clogged: set[str] = set()
        self._closed = False
        # A daemon thread: it may be stuck in a write for ever.
        self._worker = Worker("lines", self._work)
        self._worker.start()

    def say(self, name: str, line: str) -> None:
        """Queue a line of a process for printing; blank lines are left out."""
        if line.strip():
            self._put(
                name, f"{time.strftime(self._clock)} {name or 'sisock':{self._width}} | ", printable(line.expandtabs())
            )

    def show(self, text: str) -> None:
        """Queue a text of sisock itself, without time and name."""
        self._put("", "", text)

    def room(self, name: str) -> None:
        """Return when there is room for more lines of `name`, or after the longest time that it may be held back."""
        deadline, never = SYSTEM_CLOCK.monotonic() + _PATIENCE, threading.Event()
        while self._pending[name] > _ENOUGH and name not in self._clogged:
            if SYSTEM_CLOCK.monotonic() > deadline:
                self._clogged.add(name)
            SYSTEM_CLOCK.wait(never, 0.01)

    def close(self, timeout_s: float = 0.5) -> None:
        """Print the waiting lines, for at most `timeout_s`."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._worker.join(timeout_s)

    def _put(self, name: str, prefix: str, line: str) -> None:
        with self._lock:
            # After a dropped line, the next ones are dropped as well, until their number has its place among the lines.
            if self._dropped[name] or self._pending[name] > _MOST:
                self._dropped[name] += 1
                return
            self._append(name, prefix, line)

    def _append(self, name: str, prefix: str, line: str) -> None:
        self._waiting.append((name, prefix, line))
        self._pending[name] += len(line) + _LINE
        self._lock.notify()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                name, prefix, line = self._waiting.popleft()
            self._write(self._render(name, prefix, line))
            with self._lock:
                self._pending[name] -= len(line) + _LINE
                if self._pending[name] <= _ENOUGH:
                    self._clogged.discard(name)
                    if dropped := self._dropped.pop(name, 0):
                        what = f"{dropped} lines of {name or 'sisock'} are missing here: the terminal was too slow"
                        self._append("", f"{time.strftime(self._clock)} {'sisock':{self._width}} | ", what)

    def _render(self, name: str, prefix: str, line: str) -> bytes:
        text = f"{prefix}{line}\n"
        if self._console.is_terminal and prefix:
            with self._console.capture() as captured:
                self._console.print(Text(prefix, style=self._color.get(name, "bold")) + Text(line))
            text = captured.get()
        return text.encode(self._encoding, errors="replace")

    def _write(self, data: bytes) -> None:
        # Not through the stream: Python locks it while writing, and could not end with a thread stuck there.
        while data:
            try:
                data = data[os.write(self._output, data) :]
            except BlockingIOError:  # another program has made it non-blocking
                select.select([], [self._output], [])
            except OSError:
                # A closed terminal must not stop the site; its output is lost.
                return
