"""Tables that are streamed: what they hold in memory, of one reader and of all together; no router, no sockets."""

import asyncio
import weakref
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi import FastAPI

from sisock.consumer import Data, FieldInfo
from sisock.errors import TooLarge
from sisock.fields import Samples
from sisock.site import GatewaySettings
from sisock.testing import StepClock
from sisock_hub.gateway.api import api
from sisock_hub.gateway.connections import Connections
from sisock_hub.gateway.query_client import QueryClient

MB = 1_000_000
ROWS, FIRST, SPACING_S = 3_000_000, 1.7e9, 1e-3
END = FIRST + ROWS * SPACING_S
PATH = "/nodes/rig/data"


class Rig:
    """A consumer of one node with millions of samples, which answers at most 5 million values at once."""

    trouble = None

    def __init__(self):
        self.questions = 0
        self.alive = self.peak = self.largest = 0
        """Bytes of its answers that somebody still has."""

    async def fields(self, node, start=1.0, end=0.0):
        return {"x": FieldInfo("x", "number", None, None, "tl", None)}

    async def data(self, node, fields, start, end, min_stride=None, *, progress=None, max_points=None, **how):
        await asyncio.sleep(0)
        self.questions += 1
        first, last = (min(max(round((each - FIRST) / SPACING_S), 0), ROWS) for each in (start, end))
        count = min(last - first, max_points or ROWS)
        if 2 * count > 5_000_000:
            raise TooLarge("the answer is beyond what node 'rig' allows at once")
        if progress is not None and 16 * count > 2**20:
            progress(2**20, 16 * count)
        rows = np.arange(first, first + count)
        t, x = FIRST + rows * SPACING_S, rows.astype(float)
        self.alive += 2 * t.nbytes
        self.peak, self.largest = max(self.peak, self.alive), max(self.largest, 2 * t.nbytes)
        weakref.finalize(t, self._freed, 2 * t.nbytes)
        timelines = {"tl": Samples(t, {"x": x})} if len(t) else {}
        return Data(node, timelines, () if len(t) else ("x",), await self.fields(node))

    def _freed(self, size):
        self.alive -= size


@pytest.fixture
def gateway():
    rig = Rig()
    connections = Connections(GatewaySettings(), StepClock())
    app = FastAPI()
    app.include_router(api(rig, QueryClient(rig, 30.0), None, connections.table_budget))
    return SimpleNamespace(rig=rig, connections=connections, app=app)


async def request(app, query, send):
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": query.encode(),
        "headers": [],
        "client": ("127.0.0.1", 1),
    }

    async def receive():
        await asyncio.Event().wait()

    await app(scope, receive, send)


def test_readers_of_tables_that_never_read_hold_little_each_and_have_a_bound_together(gateway):
    """Of 3 million samples; the first piece of each was 40 MB before, and as many were read ahead."""
    rig, connections = gateway.rig, gateway.connections

    async def never(message):
        if message.get("body"):
            await asyncio.Event().wait()

    async def all_together():
        readers = [
            asyncio.create_task(request(gateway.app, f"field=x&start=0.1&end={END}&format=csv", never))
            for _ in range(100)
        ]
        before = -1
        while rig.questions > before or not connections.table_budget.waiting:  # until all of them stand still
            before = rig.questions
            await asyncio.sleep(0.5)
        found = connections.table_budget.held, connections.table_budget.waiting, rig.peak
        for reader in readers:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
        return found

    held, waiting, peak = asyncio.run(all_together())
    assert held <= 32 * MB  # a quarter of `unsent_bytes`
    assert waiting > 0
    assert rig.largest < 4.3 * MB
    assert peak < 36 * MB
    assert connections.table_budget.held == 0
    assert connections.table_budget.waiting <= waiting


def test_table_in_pieces_is_whole_and_none_of_them_is_large(gateway):
    got, sizes = [], []

    async def read(message):
        if message["type"] == "http.response.body":
            got.append(message["body"])
            sizes.append(gateway.connections.table_budget.held)

    asyncio.run(request(gateway.app, f"field=x&start=0.1&end={END}&format=csv", read))
    lines = b"".join(got).splitlines()
    assert len(lines) == ROWS + 1
    assert lines[-1].endswith(b",2999999")
    assert max(map(len, got)) < 1 * MB
    assert max(sizes) < 6 * MB
    assert gateway.rig.questions < 100


def test_table_with_max_points_waits_for_memory_as_others_do(gateway):
    async def both():
        with gateway.connections.table_budget.account() as other:
            await other.reserve(31 * MB)
            got = []

            async def read(message):
                got.append(message)

            reading = asyncio.create_task(
                request(gateway.app, f"field=x&start=1700000000&end={END}&format=csv&max_points=500000", read)
            )
            while not gateway.connections.table_budget.waiting:
                await asyncio.sleep(0.01)
            assert not got
            other.release(31 * MB)
            await reading
            return got

    assert b"".join(each.get("body", b"") for each in asyncio.run(both())).count(b"\n") == 500_001


class Transport:
    """Of a client that reads nothing."""

    aborted = False

    def get_write_buffer_size(self):
        return 100_000

    def abort(self):
        self.aborted = True


def test_clients_that_do_not_read_are_cut_where_others_wait_and_those_that_read_are_not():
    clock = StepClock()
    connections = Connections(GatewaySettings(), clock)
    stalled, reading = (
        SimpleNamespace(transport=Transport(), client=("127.0.0.1", port), is_idle=False) for port in (1, 2)
    )
    assert connections.admit(stalled)
    assert connections.admit(reading)

    def step():
        clock.step(1.0)
        with connections.holding(reading.client, 50_000):
            pass  # it was taken at once, and as much waits again
        connections.look()

    async def both():
        with connections.table_budget.account() as one, connections.table_budget.account() as other:
            await one.reserve(60 * MB)
            for _ in range(10):
                step()
            assert not stalled.transport.aborted
            waiting = asyncio.create_task(other.reserve(10 * MB))
            await asyncio.sleep(0)
            assert connections.table_budget.waiting == 1
            step()
            assert (stalled.transport.aborted, reading.transport.aborted) == (True, False)
            one.release(60 * MB)
            await waiting
            assert connections.table_budget.held == 10 * MB
        for _ in range(40):
            step()
        assert not reading.transport.aborted

    asyncio.run(both())
    assert connections.counters.as_dict()["unread_cut"] == 1
    assert connections.table_budget.held == 0
