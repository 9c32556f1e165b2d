"""Prometheus' HTTP API with a real router, node and consumer."""

import asyncio
import time

import httpx
import numpy as np
from fastapi import FastAPI

from sisock.consumer import Consumer
from sisock.fields import Field, Timeline
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from tests.hub.gateway.site import prometheus_of


def test_fields_of_a_real_node_are_series(sisock_router, sisock_serve, unique):
    end = float(int(time.time()))
    t = end - np.arange(20_000.0)[::-1] / 10
    fields = [Field("count.up", units="1"), Field("on", "bool"), Field("word", "string")]
    source = ManualSource(Timeline("fast", fields, interval_s=0.1, lateness_s=1e6))
    node = Node(unique, None, [source], HistorySettings())
    sisock_serve(node)
    words = np.full(len(t), "x", object)
    source.emit("fast", t, {"count.up": np.arange(20_000.0), "on": t % 2 < 1, "word": words})

    async def asked():
        async with Consumer(sisock_router.access()) as consumer:
            app = FastAPI()
            app.include_router(prometheus_of(consumer, most_samples=5000))
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x/api/v1/") as client:
                grid = {"start": end - 1200, "end": end, "step": "1m"}
                at = f'{{node="{unique}"}}'
                for query in (
                    f"rate(count_up{at}[2m])",
                    f"avg_over_time(count_up{at}[1m])",
                    f'sisock_field{{node="{unique}",field="on"}}',
                ):
                    yield (await client.get("query_range", params={"query": query, **grid})).json()
                yield (await client.get("series", params={"match[]": at})).json()
                yield (
                    await client.get(
                        "query_range", params={"query": f'avg_over_time({{__name__="on",node="{unique}"}}[1m])', **grid}
                    )
                ).json()

    async def all_of_it():
        return [answer async for answer in asked()]

    rate, mean, on, series, refused = asyncio.run(all_of_it())
    for answer in (rate, mean, on, series):
        assert answer["status"] == "success", answer
        assert "warnings" not in answer
    values = [[float(v) for _, v in each["data"]["result"][0]["values"]] for each in (rate, mean, on)]
    assert [len(each) for each in values] == [21, 21, 21]
    np.testing.assert_allclose(values[0], 10.0, rtol=0.05)
    np.testing.assert_allclose(np.diff(values[1]), 600.0, atol=80.0)
    assert set(values[2]) <= {0.0, 1.0}
    assert {s["field"] for s in series["data"]} == {"count.up", "on"}
    assert "a bool field has no mean" in refused["error"]
