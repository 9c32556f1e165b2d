"""Grafana's routes of the gateway, with a real router and real nodes."""

import time

import numpy as np
import pytest

from sisock.base import DataNodeServer
from sisock.fields import Field, Timeline
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from tests.site.gateway import gateway_of
from tests.site.test_gateway import wait

T0 = 1_700_000_000.0
FIELDS = [Field("x", units="K"), Field("word", "string"), Field("on", "bool")]


@pytest.fixture(scope="module")
def gateway(sisock_router):
    with gateway_of(sisock_router.site) as gateway:
        # From then on, what comes is an arrival.
        wait(lambda: gateway.get("/grafana/v1/nodes").status_code == 200)
        yield gateway


@pytest.fixture
def measured(sisock_serve, unique):
    """A node with 20,000 samples and a gap."""
    lines = {"tl": FIELDS, "other": [Field("y")]}
    source = ManualSource(*(Timeline(name, has, lateness_s=0.0, follows_clock=False) for name, has in lines.items()))
    sisock_serve(Node(unique, "a node", [source], HistorySettings(keep=1e10)))
    t = T0 + np.arange(20_000.0) / 10.0
    x = np.sin(t)
    x[12_345] = 50.0
    columns = {"x": x, "word": np.array(["a", "b"] * 10_000, object), "on": (t >= T0 + 500) & (t < T0 + 600)}
    source.emit("tl", t[:10_000], {name: values[:10_000] for name, values in columns.items()})
    source.emit("tl", t[10_100:], {n: v[10_100:] for n, v in columns.items()}, gap_from=float(t[9_999]))
    source.emit("other", [T0 + 1.0], {"y": [4.0]})
    return unique


def panel(*targets, most=500, **more):
    return {
        "range": {"from": "2023-11-14T22:13:20.000Z", "to": "2023-11-14T22:53:20.000Z"},
        "intervalMs": 1000,
        "maxDataPoints": most,
        "targets": [{"refId": "A", "target": target, **more} for target in targets],
    }


RANGE = {"from": "1700000000000", "to": "1700002400000"}


def test_panel_is_thinned_by_the_node_and_keeps_the_spike(gateway, measured):
    answer = gateway.post("/grafana/json/query", json=panel(f"{measured}::*"))
    assert answer.status_code == 200, answer.text
    frames = {frame["schema"]["name"]: frame for frame in answer.json()}
    main = frames[measured]
    assert [field["type"] for field in main["schema"]["fields"]] == ["time", "number", "string", "boolean"]
    times, x, words, on = main["data"]["values"]
    assert 100 < len(times) <= 500
    assert max(x) == 50.0
    assert len(words) == len(on) == len(times)
    assert frames[f"{measured}::y"]["data"]["values"] == [[1_700_000_001_000], [4.0]]


def test_infinity_gets_columns_and_csv(gateway, measured):
    columns = gateway.json("/grafana/v1/data", target=[f"{measured}::x", f"{measured}::y"], max_points=400, **RANGE)
    assert max(v for v in columns[f"{measured}::x"] if v is not None) == 50.0
    assert columns["time"] == sorted(columns["time"])
    table = gateway.get("/grafana/v1/data", params={"target": f"{measured}::on", "format": "csv", **RANGE})
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.splitlines()[:2] == [f'"time","{measured}::on"', "1700000000000,false"]
    assert len(table.text.splitlines()) <= 2001


def test_gaps_alarms_and_arrivals_are_marked(gateway, measured):
    (gap,) = gateway.json("/grafana/v1/annotations", query=f"gaps {measured}::x", **RANGE)
    assert (gap["time"], gap["timeEnd"]) == (1_700_000_999_900, 1_700_001_010_000)
    (alarm,) = gateway.json("/grafana/v1/annotations", query=f"alarms {measured}::on", **RANGE)
    assert (alarm["time"], alarm["timeEnd"]) == (1_700_000_500_000, 1_700_000_600_000)
    wait(lambda: gateway.json("/grafana/v1/annotations", query=f"events {measured}", **{"from": "now-5m", "to": "now"}))


def test_names_and_health(gateway, measured):
    fields = gateway.json("/grafana/v1/fields", target=f"{measured}::*")
    assert {(row["field"], row["type"], row["units"]) for row in fields} == {
        ("x", "number", "K"),
        ("word", "string", None),
        ("on", "bool", None),
        ("y", "number", None),
    }

    def row():
        return next((r for r in gateway.json("/grafana/v1/nodes") if r["node"] == measured and r["newest"]), None)

    found = wait(row)
    assert found["state"] in ("live", "online")
    assert found["timelines"] == 2
    assert found["age"] == pytest.approx(time.time() - T0 - 1999.9, abs=60)


def test_node_that_speaks_the_published_contract_alone_is_thinned_out(gateway, sisock_serve, unique):
    t = T0 + np.arange(5000.0) / 5
    x = np.zeros(5000)
    x[4321] = 9.0

    class Plain(DataNodeServer):
        name = unique
        description = "of another make"

        def get_fields_blocking(self, start, end):
            field = {"description": None, "timeline": "tl", "type": "number", "units": None}
            return {"x": field}, {"tl": {"interval": 0.2, "field": ["x"]}}

        def get_data_blocking(self, field, start, end, min_stride=None):
            return {"data": {"x": x}, "timeline": {"tl": {"t": t, "finalized_until": None}}}

    sisock_serve(Plain)
    (series,) = gateway.post("/grafana/json/query", json=panel(f"{unique}::x", most=100, type="timeserie")).json()
    assert 20 < len(series["datapoints"]) <= 100
    assert max(value for value, _ in series["datapoints"]) == 9.0


def test_unknown_names_are_told(gateway, measured):
    answer = gateway.post("/grafana/json/query", json=panel(f"{measured}::nix"))
    assert answer.status_code == 404
    assert f"{measured}::nix" in answer.json()["message"]
    answer = gateway.get("/grafana/v1/data", params={"target": "nobody::x"})
    assert answer.status_code == 404
    assert "'nobody'" in answer.json()["message"]
