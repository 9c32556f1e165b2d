"""A site whose nodes are arrays, for what asks a consumer."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo, NodeInfo
from sisock.downsample import downsampled, stride_for
from sisock.errors import NoSuchNode
from sisock.fields import Downsampled, Samples
from sisock.times import SystemClock
from sisock_hub.gateway import prometheus
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.query_client import QueryClient


def prometheus_of(consumer, clock=None, timeout_s=10.0, **options):
    """Return the routes of Prometheus' API over a consumer, with a query client and a field directory of their own."""
    client = QueryClient(consumer)
    directory = FieldDirectory(client, clock or SystemClock(), timeout_s)
    return prometheus.prometheus(client, directory, clock=clock, timeout_s=timeout_s, **options)


@dataclass
class FakeNode:
    """The fields of a node, on one timeline each, with their samples."""

    infos: dict[str, FieldInfo] = field(default_factory=dict)
    samples: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    trouble: Exception | None = None
    hangs: bool = False
    epochs: dict[str, list] = field(default_factory=dict)

    def add(self, name, t, values, units=None, interval_s=None, type="number", description=None):
        self.infos[name] = FieldInfo(name, type, units, description, f"timeline of {name}", interval_s)
        self.samples[name] = (np.asarray(t, float), np.asarray(values))
        return self


class FakeConsumer:
    """Answers as a Consumer does, and remembers what it was asked."""

    def __init__(self, nodes):
        self.site, self.trouble, self.access = nodes, None, SimpleNamespace(user="consumer")
        self.asked_fields, self.asked_data = [], []
        self.running = self.most_running = 0

    async def nodes(self):
        return [NodeInfo(name, None) for name in self.site]

    async def _node(self, name):
        if name not in self.site:
            raise NoSuchNode(f"no node {name!r}")
        node = self.site[name]
        if node.hangs:
            await asyncio.Event().wait()
        if node.trouble:
            raise node.trouble
        return node

    async def fields(self, node, start=1.0, end=0.0):
        self.asked_fields.append(node)
        return dict((await self._node(node)).infos)

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
        self.asked_data.append((node, list(fields), start, end, min_stride, downsample, max_points))
        assert 0 < start <= end
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        found = await self._node(node)
        timelines, empty = {}, []
        for name in fields:
            t, values = found.samples.get(name, (np.empty(0), np.empty(0)))
            inside = (t >= start) & (t < end)
            t, values = t[inside], values[inside]
            if not len(t):
                empty.append(name)
                continue
            stride = max(min_stride or 0.0, stride_for(t, max_points, downsample) if max_points else 0.0)
            thinned = None
            if stride:
                t, columns, fell_back = downsampled(t, {name: values}, stride, downsample)
                values, thinned = columns[name], Downsampled(downsample, stride, tuple(fell_back))
            timelines[found.infos[name].timeline] = Samples(
                t, {name: values}, downsample=thinned, epochs={name: found.epochs[name]} if name in found.epochs else {}
            )
        return Data(node, timelines, empty, {name: found.infos[name] for name in fields if name in found.infos})
