"""The query client and the field directory that all interfaces of the gateway share."""

import asyncio
import json
from collections import Counter

import httpx
import numpy as np
import pytest

from sisock.site import load_site
from sisock_hub.gateway import app as app_module
from sisock_hub.gateway.app import make_app
from tests.hub.gateway.site import FakeConsumer, FakeNode

T0 = 1_700_000_000.0
PATHS = (
    "/api/v1/nodes/host/data?field=x&start=1699999999&end=1700000050",
    "/api/v1/nodes/host/data?field=x&start=1699999999&end=1700000050&format=csv",
    "/api/v1/nodes/host/fields",
    "/api/v1/data?target=host::x&start=1699999999&end=1700000050",
    "/api/v1/search?q=x",
    "/prometheus/api/v1/query_range?query=x&start=1700000000&end=1700000050&step=10",
    "/prometheus/api/v1/series?match[]=x",
    "/grafana/v1/data?target=host::x&from=1699999999000&to=1700000050000",
    "/grafana/v1/data?target=host::*&from=1699999999000&to=1700000050000",
    "/grafana/v1/fields",
)


class Counting(FakeConsumer):
    """A consumer that counts the queries to a node that are running, and all."""

    def __init__(self):
        super().__init__({"host": FakeNode().add("x", T0 + np.arange(100.0), np.arange(100.0))})
        self.at_once, self.most_at_once, self.calls = 0, 0, Counter()

    async def _counted(self, name, query):
        self.calls[name] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0.002)  # as long as a node takes
            return await query
        finally:
            self.at_once -= 1

    async def fields(self, *args):
        return await self._counted("fields", super().fields(*args))

    async def data(self, *args, **how):
        return await self._counted("data", super().data(*args, **how))


@pytest.fixture
def gateway(tmp_path, monkeypatch):
    """Return the whole gateway of a site and the consumer that it queries."""
    consumer = Counting()
    monkeypatch.setattr(app_module, "Consumer", lambda *_args, **_how: consumer)
    (tmp_path / "site.yaml").write_text("gateway: {}\nnodes: {}\n")
    accounts = {role: {"user": role, "secret": "x" * 20} for role in ("server", "consumer")}
    (tmp_path / "secrets.yaml").write_text(json.dumps(accounts))
    (tmp_path / "secrets.yaml").chmod(0o600)
    site = load_site(tmp_path)
    return make_app(site, site.gateway), consumer


def get(app, *paths):
    async def all_at_once():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*map(client.get, paths))

    return asyncio.run(all_at_once())


def test_all_interfaces_together_send_a_node_at_most_two_queries_at_a_time(gateway):
    app, consumer = gateway
    answers = get(app, *PATHS * 5)
    assert {answer.status_code for answer in answers} == {200}
    assert consumer.calls["data"] >= 25
    assert consumer.most_at_once == 2


def test_all_interfaces_share_the_fields_that_a_node_has_listed(gateway):
    app, consumer = gateway
    get(app, "/api/v1/search?q=x", "/prometheus/api/v1/series?match[]=x", "/grafana/v1/fields", "/grafana/v1/fields")
    assert consumer.calls == {"fields": 1}
