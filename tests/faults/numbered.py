"""Node type ``numbered``: emits the numbered samples that an instrument sends, and acknowledges them to it.

The instrument connects to a TCP port of the loopback interface. Each of its lines is JSON, ``{"first": n, "count": m}``,
and asks for the samples n to n + m - 1, taken now or at ``start``. The answer to it is a line as well: when the samples were taken and whether the
history has stored them, see `acknowledgement`.
"""

import itertools
import json
import socketserver
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field as Setting

from sisock.fields import Field, Timeline, as_batch
from sisock.metrics import Counters
from sisock.nodetype import NodeContext, NodeSettings, NodeType
from sisock.procedure import Operation
from sisock.run_context import RunContext
from sisock.source import Emit, Source
from sisock.times import Clock

SPACING_S = 1e-4
"""Seconds between the samples of one line."""
TEXTS = 97
"""How many different texts there are."""
TIMELINE = "numbers"


def times(start: float, count: int) -> np.ndarray:
    """Return the times of `count` samples from `start` on: UNIX seconds, shape (count,)."""
    return start + np.arange(count) * SPACING_S


def texts(numbers: np.ndarray) -> np.ndarray:
    """Return the text that belongs to each number, as an object array of str."""
    return np.array([f"text {number % TEXTS}" for number in range(TEXTS)], object)[numbers % TEXTS]


def count(context: RunContext) -> None:
    """Report numbers until the run is cancelled."""
    for number in itertools.count(1):
        context.update(number)
        context.progress(None, f"at {number}")
        context.wait(0.01)


class NumberedSettings(NodeSettings):
    """Numbered samples of an instrument, for the fault driver."""

    type: Literal["numbered"]
    port: int = Setting(ge=1, le=65535)
    """Where the instrument connects."""
    follows_clock: bool = True
    """Whether finality moves on with the wall clock; with the data otherwise."""


class Numbered:
    """Emits what the instrument asks for."""

    def __init__(self, settings: NumberedSettings, clock: Clock) -> None:
        fields = [Field("number"), Field("text", "string")]
        self.timelines = (Timeline(TIMELINE, fields, lateness_s=0.2, follows_clock=settings.follows_clock, live=True),)
        self.counters = Counters("batches", "late")
        self.procedures = (Operation("count", "Report numbers until it is cancelled.", None, None, count),)
        self._port, self._clock = settings.port, clock
        self._lock = threading.Lock()
        self._server: socketserver.ThreadingTCPServer | None = None

    def start(self, emit: Emit) -> None:
        """Listen."""
        source = self

        class Lines(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    self.wfile.write(json.dumps(source.acknowledgement(emit, json.loads(line))).encode() + b"\n")

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self._server = Server(("127.0.0.1", self._port), Lines)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def acknowledgement(self, emit: Emit, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Emit samples; return them with their first time, what is final, and whether they came after that."""
        with self._lock:
            start = asked.get("start") or self._clock.now() - asked["count"] * SPACING_S
            final = emit.add(self.timelines[0])
            numbers = np.arange(asked["first"], asked["first"] + asked["count"])
            t = times(start, asked["count"])
            emit(as_batch(TIMELINE, t, {"number": numbers.astype(float), "text": texts(numbers)}))
            after = emit.add(self.timelines[0])
            # On a busy machine a batch may become late between the reading of the clock and the history.
            late = any(until is not None and start < until for until in (final, after))
            self.counters.add("late" if late else "batches")
            return {**asked, "start": start, "final": after, "late": late}


def make_sources(settings: NumberedSettings, context: NodeContext) -> Sequence[Source]:
    """Return the source that listens to the instrument."""
    return [Numbered(settings, context.clock)]


node_type = NodeType(NumberedSettings, make_sources)
