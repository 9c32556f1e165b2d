"""A watch over the reactor's thread, in which a node answers and its coroutines run: none of them may block it."""

import inspect
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from sisock.times import Clock
from sisock.work import Work

# Seconds between two looks, and after which a thread that has not answered is reported.
_EVERY_S, _PATIENCE_S = 0.5, 1.0
_MOST_FRAMES = 5


class ReactorWatch:
    """Reports once each time that the reactor's thread does not answer for a second, with its place in the code.

    It is counted in the work's counters as ``blocked_reactor``.

    Parameters
    ----------
    node : str
    work : Work
        Its timers look, and its events report.
    clock : Clock
    call : callable
        Has a function called in the reactor's thread, such as ``reactor.callFromThread``.
    """

    def __init__(self, node: str, work: Work, clock: Clock, call: Callable[[Callable[[], object]], object]) -> None:
        self._node, self._work, self._clock, self._call = node, work, clock, call
        self._thread: int | None = None
        self._asked: float | None = None
        self._is_reported = False

    def start(self) -> None:
        """Watch until the timers of the work are stopped."""
        self._call(self._learn_thread)
        self._work.timers.every(_EVERY_S, self._look)

    def _learn_thread(self) -> None:
        self._thread = threading.get_ident()

    def _look(self) -> None:
        now = self._clock.monotonic()
        if self._asked is None:
            self._asked = now
            self._call(self._answer)
        elif now - self._asked >= _PATIENCE_S and not self._is_reported:
            self._is_reported = True
            self._report(now - self._asked)

    def _answer(self) -> None:
        asked, self._asked = self._asked, None
        if self._is_reported and asked is not None:
            self._is_reported = False
            seconds = self._clock.monotonic() - asked
            self._work.report("node", self._node, f"the reactor's thread answers again after {seconds:.1f} s")

    def _report(self, seconds: float) -> None:
        self._work.counters.add("blocked_reactor")
        frames = _frames_of(self._thread)
        places = [
            f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})" for frame in frames
        ]
        culprit = self._culprit(frames)
        what = f"{culprit} blocks the reactor's thread" if culprit else "the reactor's thread is blocked"
        where = " < ".join(places[:_MOST_FRAMES])
        text = f"{what}, so that the node has not answered for {seconds:.1f} s; it is in {where}"
        self._work.report("node", self._node, text, "warning", frames=places)

    def _culprit(self, frames: list[FrameType]) -> str | None:
        """Return kind, name and runs of the procedure whose code is running there; None if it is not known."""
        known = {
            code: procedure
            for procedure in self._work.offers.all()
            if procedure.runs_in_reactor and (code := _code_of(procedure.run)) is not None
        }
        procedure = next((known[frame.f_code] for frame in frames if frame.f_code in known), None)
        if procedure is None:
            return None
        runs = [run["id"] for run in self._work.operations.list(active=True) if run["name"] == procedure.name]
        return f"{procedure.kind} {procedure.name}" + (f" (run {', '.join(runs[:3])})" if runs else "")


def _frames_of(thread: int | None) -> list[FrameType]:
    """Return the frames of a thread, innermost first."""
    # The only way to see where another thread is; CPython keeps it for debuggers.
    frame = sys._current_frames().get(thread) if thread is not None else None  # noqa: SLF001
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _code_of(function: Callable[..., Any]) -> CodeType | None:
    while hasattr(function, "func"):  # a partial
        function = function.func
    return getattr(inspect.unwrap(function), "__code__", None)
