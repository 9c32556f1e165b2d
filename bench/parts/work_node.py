"""The process that is measured: a node with work, and beside it a bare session that does the same without sisock."""

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from autobahn.wamp.types import RegisterOptions
from pydantic import BaseModel
from serving import serve
from twisted.internet.defer import inlineCallbacks
from work_loads import compute, compute_arrays

from sisock import Command, Field, Operation, Timeline
from sisock.access import Access
from sisock.node import Node
from sisock.runner import collect_rarely
from sisock.server import HistoryServer
from sisock.settings import HistorySettings, WorkSettings
from sisock.testing import ManualSource
from sisock.times import SystemClock
from sisock.wamp.session import Session
from sisock.work import Work

SAMPLES = 10_000


class Value(BaseModel):
    value: float


class Updates(BaseModel):
    number: int
    per_second: float


def report(updates, context):
    """Report updates at a rate, from a thread."""
    began = time.monotonic()
    for number in range(updates.number):
        context.wait(max(0.0, began + number / updates.per_second - time.monotonic()))
        context.update(number)


def burst(node, updates, context):
    """Report events at a rate, a hundred at a time."""
    began = time.monotonic()
    for number in range(updates.number):
        if number % 100 == 0:
            context.wait(max(0.0, began + number / updates.per_second - time.monotonic()))
        node.work.report("bench", "burst", "an event", number=number)


async def echo(value):
    return value.value


PROCEDURES = (
    Command("plain", "Return a value, from a thread.", Value, None, lambda value: value.value),
    Command("coroutine", "Return a value, from a coroutine.", Value, None, echo),
    Operation("report", "Report updates.", Updates, None, report, exclusive="report"),
    Operation("hold", "Have others wait.", None, None, lambda context: context.wait(3600.0), exclusive="report"),
    Operation("sleep", "Wait.", None, None, lambda context: context.wait(3600.0)),
    Operation("compute", "Compute in Python.", None, None, compute),
    Operation("compute_arrays", "Compute with NumPy.", None, None, compute_arrays),
    Operation("compute_isolated", "Compute in processes.", None, None, compute, isolated=True),
)


class Bare(Session):
    """Plain autobahn: the same result, the same details of the caller."""

    @inlineCallbacks
    def onJoin(self, details):
        options = RegisterOptions(details_arg="_details")
        yield self.register(lambda value, _details: value, self.uri("bare.echo"), options)


def main(url, secret, folder, operations):
    collect_rarely()
    access = Access(url, "test_realm", "org.simonsobservatory", "server", secret)
    source = ManualSource(Timeline("wave", [Field("x")], follows_clock=False, lateness_s=0.0))
    work = Work(SystemClock(), WorkSettings(operations=int(operations)), folder=Path(folder))
    node = Node("bench", "is measured", [source], HistorySettings(keep=1e11), work=work)
    for procedure in (*PROCEDURES, Operation("burst", "Report events.", Updates, None, partial(burst, node))):
        node.work.offer(procedure)
    node.start()
    source.emit("wave", np.arange(SAMPLES) + 1.0, {"x": np.sin(np.arange(SAMPLES))})
    serve(access, (lambda config: HistoryServer(node, config), Bare))


main(*sys.argv[1:])
