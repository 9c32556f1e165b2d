"""A gateway with Grafana's routes over nodes that are arrays, behind the real door, and a client for it."""

import asyncio
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import httpx
import numpy as np
from fastapi import FastAPI

from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo, NodeInfo
from sisock.downsample import downsampled, stride_for
from sisock.errors import NoSuchNode, NoSuchProcedure
from sisock.fields import Downsampled, Field, Samples
from sisock.site import GatewaySecrets, GatewaySettings
from sisock.times import SystemClock
from sisock_hub.gateway.app import _answer_errors, _guard
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.grafana import grafana
from sisock_hub.gateway.passwords import Passwords
from sisock_hub.gateway.query_client import QueryClient
from sisock_hub.gateway.signing import Signer
from sisock_hub.gateway.watch import Event, Watch, Watched
from sisock_hub.gateway.work_client import WorkClient

BEGIN = 1_700_000_000.0
"""When the samples begin, UNIX seconds."""
FROM, TO = "2023-11-14T22:13:20.000Z", "2023-11-14T23:13:20.000Z"
"""The hour from then on, as Grafana writes it."""


class FakeConsumer:
    """Answers as a Consumer does, from timelines: (t, {field: values}, gaps)."""

    def __init__(self):
        self.site, self.infos, self.errors, self.epochs = {}, {}, {}, {}
        self.trouble, self.access = None, SimpleNamespace(user="consumer")
        self.hangs, self.ignores_points = set(), set()
        self.asked, self.running, self.most_running = [], {}, {}
        self.together = set()

    def add(self, node, timeline, t, columns, gaps=(), **infos):
        self.site.setdefault(node, {})[timeline] = (np.asarray(t, float), columns, list(gaps))
        known = self.infos.setdefault(node, {})
        for name, values in columns.items():
            kind = {"b": "bool", "O": "string"}.get(values.dtype.kind, "number")
            units, description = infos.get(name, (None, None))
            known[name] = FieldInfo(name, kind, units, description, timeline, None)

    async def nodes(self):
        return [NodeInfo(name, None) for name in self.site]

    async def fields(self, node, start=1.0, end=0.0):
        await self._there(node)
        return dict(self.infos[node])

    async def query(self, node, name, **arguments):
        await self._there(node)
        raise NoSuchProcedure(f"node {node!r} has no query {name!r}")  # as nodes of older versions

    async def _there(self, node):
        if node not in self.site:
            raise NoSuchNode(f"no node {node!r}; known: {', '.join(self.site)}")
        if node in self.hangs:
            await asyncio.Event().wait()
        if node in self.errors:
            raise self.errors[node]

    async def data(
        self,
        node,
        fields,
        start,
        end=0.0,
        min_stride=None,
        *,
        downsample="first",
        max_points=None,
        progress=None,
        exact=False,
    ):
        assert 0 < start <= end
        self.asked.append((node, list(fields), start, end, min_stride, downsample, max_points))
        self.running[node] = self.running.get(node, 0) + 1
        self.together.add(frozenset(name for name, count in self.running.items() if count))
        self.most_running[node] = max(self.most_running.get(node, 0), self.running[node])
        try:
            await asyncio.sleep(0.001)  # as long as a node takes
            await self._there(node)
        finally:
            self.running[node] -= 1
        timelines, seen = {}, set()
        for timeline, (t, columns, gaps) in self.site[node].items():
            chosen = {name: columns[name] for name in fields if name in columns}
            inside = (t >= start) & (t < end)
            if not chosen or not inside.any():
                continue
            seen |= chosen.keys()
            times, chosen = t[inside], {name: values[inside] for name, values in chosen.items()}
            how = None
            if node not in self.ignores_points:
                stride = max(min_stride or 0.0, stride_for(times, max_points, downsample) if max_points else 0.0)
                if stride:
                    times, chosen, fell_back = downsampled(times, chosen, stride, downsample)
                    how = Downsampled(downsample, stride, tuple(fell_back))
            inside = [gap for gap in gaps if gap[1] > start and gap[0] < end]
            epochs = {name: known for name, known in self.epochs.get(node, {}).items() if name in chosen}
            timelines[timeline] = Samples(times, chosen, gaps=inside, downsample=how, epochs=epochs)
        empty = [name for name in fields if name not in seen]
        return Data(node, timelines, empty, {n: self.infos[node][n] for n in fields if n in self.infos[node]})


class GivenWatch(Watch):
    """A watch that has the nodes and the events that it is given."""

    def __init__(self, consumer):
        super().__init__(consumer)
        self.given, self.happened = {}, []

    @property
    def nodes(self):
        return sorted(self.given.values(), key=lambda node: node.name)

    @property
    def events(self):
        return list(self.happened)


class Gateway:
    """The gateway, and what asks it."""

    def __init__(self, folder, consumer=None, timeout_s=60.0, **secrets):
        self.consumer = consumer or FakeConsumer()
        self.watch = GivenWatch(self.consumer)
        client = QueryClient(self.consumer)
        directory = FieldDirectory(client, SystemClock())
        self.app = FastAPI()
        self.app.include_router(
            grafana(client, WorkClient(self.consumer, None), directory, self.watch, timeout_s), prefix="/grafana"
        )
        _answer_errors(self.app)
        known = GatewaySecrets(**secrets)
        signer = Signer(folder)
        _guard(self.app, GatewaySettings(), known, Passwords(known, signer), signer)

    def happened(self, node, kind, t, text=None):
        self.watch.happened.append(Event(t, node, kind, text or f"{node} {kind}"))

    def watched(self, name, state="live", since=BEGIN, reason=None, status=None):
        self.watch.given[name] = Watched(name, "a node", state, since, reason, status or {})

    def get(self, path, **how):
        return self._request("GET", path, **how)

    def post(self, path, body=None, **how):
        return self._request("POST", path, **({"json": body} if body is not None else {}), **how)

    def _request(self, method, path, **how):
        async def asked():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8082/grafana") as client:
                return await client.request(method, path, **how)

        return asyncio.run(asked())

    @contextmanager
    def without_router(self, error):
        self.consumer.trouble = error
        yield
        self.consumer.trouble = None


def standard(consumer):
    """Fill a site: an hour of a host and of a rig."""
    t = BEGIN + np.arange(3600.0) + 0.2504
    total = 50.0 + 10.0 * np.sin(np.arange(3600.0) / 600.0)
    total[1234] = 99.0
    load = np.linspace(0.0, 1.0, 360)
    consumer.add(
        "host",
        "cpu",
        t,
        {"cpu.total": total, "cpu.user": total / 2, "temp (C)": total - 20},
        **{"cpu.total": ("%", "All of it"), "temp (C)": ("°C", None)},
    )
    consumer.add("host", "load", BEGIN + 10.0 * np.arange(360), {"load": load}, gaps=[(BEGIN + 1800, BEGIN + 1900)])
    ticks = BEGIN + np.arange(0.0, 3600.0, 60.0)
    door = np.zeros(60, bool)
    door[[10, 11, 12, 30]] = True
    phase = np.array(["rest", 'a "load"', "größe"] * 20, object)
    consumer.add("rig", "hall", ticks, {"door": door, "phase": phase, "temperature": 20 + np.arange(60.0)})
    return consumer


def tank(consumer):
    """Add a node whose level was 1000 and 1001 mm, then 1.0 and 1.1 m."""
    t = BEGIN + np.arange(4.0)
    consumer.add("tank", "tl", t, {"level": np.array([1000.0, 1001.0, 1.0, 1.1])}, level=("m", None))
    epochs = ((t[0], Field("level", units="mm")), (t[2], Field("level", units="m")))
    consumer.epochs["tank"] = {"level": list(epochs)}
    consumer.infos["tank"]["level"] = replace(consumer.infos["tank"]["level"], epochs=epochs)


def query(*targets, start=FROM, end=TO, **more):
    """Make the body that the data sources send for a panel."""
    return {
        "app": "dashboard",
        "requestId": "Q102",
        "timezone": "browser",
        "panelId": 2,
        "dashboardUID": "x",
        "range": {"from": start, "to": end, "raw": {"from": "now-1h", "to": "now"}},
        "rangeRaw": {"from": "now-1h", "to": "now"},
        "interval": "2s",
        "intervalMs": 2000,
        "maxDataPoints": 1920,
        "scopedVars": {"__interval": {"text": "2s", "value": "2s"}, "__interval_ms": {"text": 2000, "value": 2000}},
        "startTime": 1700000000000,
        "targets": [
            {
                "refId": chr(65 + i),
                "datasource": {"type": "x", "uid": "y"},
                **(t if isinstance(t, dict) else {"target": t}),
            }
            for i, t in enumerate(targets)
        ],
        **more,
    }
