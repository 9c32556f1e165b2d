"""The gateway's HTTP API, with a real router and real nodes."""

import base64
import contextlib
import csv
import hashlib
import io
import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pyarrow
import pytest
from pyarrow import ipc

from sisock.base import DataNodeServer
from sisock.fields import Field, Timeline
from sisock.node import Node, open_node
from sisock.settings import AllowanceSettings, HistorySettings
from sisock.testing import ManualSource
from sisock.testing.fixtures import RunningRouter, free_ports
from sisock.testing.serving import Serving
from sisock_hub.gateway import watch
from sisock_nodes.udp.settings import UdpSettings
from tests.site.gateway import gateway_of, wait

T0 = 1_700_000_000.0
FIELDS = [Field("x", units="K"), Field("word", "string"), Field("on", "bool")]
ARROW = {"Accept": "application/vnd.apache.arrow.stream"}


@pytest.fixture
def measured(sisock_serve, unique):
    """A node with a second's samples, a gap among them."""
    source = ManualSource(
        Timeline("tl", FIELDS, interval_s=1.0, lateness_s=0.0, follows_clock=False), Timeline("other", [Field("y")])
    )
    node = Node(unique, "a node", [source], HistorySettings(keep=1e10), None, AllowanceSettings(values=40_000))
    sisock_serve(node)
    node.source = source
    return node


def emit(node, t, **more):
    t = np.asarray(t, float)
    words = np.array([f"w{int(at) % 3}" for at in t], object)
    node.source.emit("tl", t, {"x": (t - T0) * 2.0, "word": words, "on": t % 2 < 1}, **more)


def test_nodes_fields_and_samples(gateway, measured):
    emit(measured, T0 + np.arange(10.0))
    emit(measured, T0 + 20.0 + np.arange(5.0), gap_from=T0 + 9.0, dropped=3)

    def listed():
        (found,) = [node for node in gateway.json("/api/v1/nodes") if node["name"] == measured.name]
        return found

    # On a busy machine its first probe may have been answered late.
    wait(lambda: listed()["newest"] == T0 + 24.0)
    assert listed()["state"] in ("live", "online")
    assert listed()["description"] == "a node"
    fields = gateway.json(f"/api/v1/nodes/{measured.name}/fields")
    assert set(fields) == {"x", "word", "on"}
    assert (fields["x"]["units"], fields["x"]["timeline"], fields["x"]["interval"]) == ("K", "tl", 1.0)
    asked = {"field": ["x", "word", "on"], "start": T0 + 5.0, "end": T0 + 22.0}
    answer = gateway.json(f"/api/v1/nodes/{measured.name}/data", **asked)
    samples = answer["timelines"]["tl"]
    assert samples["t"] == [T0 + i for i in (5, 6, 7, 8, 9, 20, 21)]
    assert samples["data"]["x"] == [10.0, 12.0, 14.0, 16.0, 18.0, 40.0, 42.0]
    assert samples["data"]["on"][:2] == [(T0 + 5) % 2 < 1, (T0 + 6) % 2 < 1]
    assert samples["data"]["word"][0] == f"w{int(T0 + 5) % 3}"
    assert samples["gaps"] == [[T0 + 9.0, T0 + 20.0]]
    assert samples["dropped"] == 3
    assert answer["empty"] == []
    status = gateway.json(f"/api/v1/nodes/{measured.name}/status")
    assert status["timelines"]["tl"]["samples"] == 15


def test_a_spike_is_never_lost_and_max_points_is_a_cap(gateway, measured):
    t = T0 + np.arange(30_000.0) / 100
    x = np.zeros(len(t))
    x[12_345] = 1e6
    measured.source.emit("tl", t, {"x": x, "word": np.full(len(t), "a", object), "on": x > 0})
    for points in (2, 3, 100, 999):
        path, asked = f"/api/v1/nodes/{measured.name}/data", {"field": "x", "start": T0, "end": T0 + 300.0}
        samples = gateway.json(path, max_points=points, **asked)["timelines"]["tl"]
        assert len(samples["t"]) <= points
        assert max(samples["data"]["x"]) == 1e6
        assert samples["downsample"]["method"] == "minmax"


def test_several_nodes_are_asked_and_one_that_fails_keeps_nobody_from_an_answer(gateway, measured):
    emit(measured, [T0])
    targets = [f"{measured.name}::x", "nobody::x"]
    answer = gateway.json("/api/v1/data", target=targets, start=T0 - 1, end=T0 + 1)
    assert answer["nodes"][measured.name]["timelines"]["tl"]["data"]["x"] == [0.0]
    assert answer["errors"]["nobody"]["error"] == "no_such_node"


def test_what_is_not_finite_is_null(gateway, measured):
    measured.source.emit("tl", T0 + np.arange(3.0), {"x": [np.nan, np.inf, 1.0], "word": ["a"] * 3, "on": [True] * 3})
    path = f"/api/v1/nodes/{measured.name}/data"
    answer = gateway.json(path, field="x", start=T0, end=T0 + 9)
    assert answer["timelines"]["tl"]["data"]["x"] == [None, None, 1.0]
    lines = gateway.get(path, params={"field": "x", "start": T0, "end": T0 + 9, "format": "csv"}).text.splitlines()
    assert [line.partition(",")[2] for line in lines] == ['"x"', "", "", "1"]


def test_clients_of_prometheus_ask_first_whether_it_is_healthy_and_ready(gateway):
    for path in ("healthy", "ready"):
        answer = gateway.get(f"/prometheus/-/{path}")
        assert (answer.status_code, answer.text) == (200, f"The gateway is {path}.\n")


def test_tables_of_any_length_come_in_pieces(gateway, measured):
    t = T0 + np.arange(100_000.0) / 10  # five times what the node gives at once
    for part in np.array_split(t, 10):
        emit(measured, part)
    path, asked = (
        f"/api/v1/nodes/{measured.name}/data",
        {"field": ["x", "word", "on"], "start": T0 - 1, "end": T0 + 1e6},
    )
    assert gateway.get(path, params=asked).status_code == 413
    with gateway.http.stream("GET", path, params=asked, headers=ARROW) as answer:
        table = ipc.open_stream(b"".join(answer.iter_bytes())).read_all()
    assert table.schema.field("x").metadata[b"units"] == b"K"
    assert table.schema.field("time").type == pyarrow.timestamp("ns", "UTC")
    np.testing.assert_allclose(table["time"].cast("int64").to_numpy() / 1e9, t, atol=1e-6)
    np.testing.assert_array_equal(table["x"].to_numpy(), (t - T0) * 2.0)
    assert table["on"][:2].to_pylist() == [bool(at % 2 < 1) for at in t[:2]]
    text = gateway.get(path, params=asked | {"end": T0 + 1.0}, headers={"Accept": "text/csv"}).text
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["time", "x", "word", "on"]
    assert rows[1][0].startswith("2023-11-14 22:13:20")
    assert len(rows) == 11


def test_table_that_cannot_go_on_is_not_taken_for_whole(gateway, sisock_serve, unique, caplog):
    class Ends(DataNodeServer):
        name = unique

        def get_fields_blocking(self, start, end):
            return {"x": {"timeline": "tl", "type": "number"}}, {"tl": {"interval": 1.0, "field": ["x"]}}

        def get_data_blocking(self, field, start, end, min_stride=None):
            if start > T0:
                raise RuntimeError("the tape is torn")
            return {"data": {"x": [1.0]}, "timeline": {"tl": {"t": [T0], "field": ["x"], "finalized_until": T0}}}

    sisock_serve(Ends)
    path, asked = f"/api/v1/nodes/{unique}/data", {"field": "x", "start": T0, "end": T0 + 1e6}
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        gateway.get(path, params=asked, headers=ARROW)
    assert f"the answer to {path} ends early: get_data of node {unique!r} failed: RuntimeError: the tape" in caplog.text
    assert "Exception in ASGI application" not in caplog.text


def test_times_of_tables_are_as_far_apart_as_they_were(gateway, sisock_serve, unique):
    t = T0 + np.cumsum(np.full(1000, 2.4e-7))
    source = ManualSource(Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False))
    sisock_serve(Node(unique, None, [source], HistorySettings(keep=1e11)))
    source.emit("tl", t, {"x": np.arange(1000.0)})
    path, asked = f"/api/v1/nodes/{unique}/data", {"field": "x", "start": T0, "end": T0 + 1.0}
    answer = gateway.get(path, params=asked, headers={"Accept": "application/vnd.apache.arrow.stream"})
    table = ipc.open_stream(answer.content).read_all()
    times = table["time"].to_numpy().astype(np.int64)
    assert (np.diff(times) > 0).all()
    np.testing.assert_array_equal(times // 10**9 + times % 10**9 / 1e9, t)
    text = gateway.get(path, params=asked, headers={"Accept": "text/csv"}).text
    assert len({row.split(",")[0] for row in text.splitlines()}) == 1001
    source.emit("tl", [9.3e9], {"x": [1.0]})
    far = gateway.get(path, params={**asked, "end": 1e10}, headers={"Accept": "text/csv"}).text
    assert far.splitlines()[-1].startswith("2264-09-14 21:20:00.000000Z,")


def test_files_of_the_page_are_sent_once(gateway):
    for path in ("/", "/console/plotly.min.js", "/console/style.css"):
        first = gateway.get(path)
        again = gateway.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (first.status_code, again.status_code, again.content) == (200, 304, b""), path
        assert again.headers["Cache-Control"] == "no-cache"


def test_head_is_answered_as_get_without_a_body(gateway, measured):
    for path in ("/", "/healthz", "/readyz", "/metrics", f"/api/v1/nodes/{measured.name}/fields"):
        answer = gateway.http.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path


def test_answers_are_compressed_for_who_wants_that(gateway, measured):
    emit(measured, T0 + np.arange(5000.0))
    path, asked = f"/api/v1/nodes/{measured.name}/data", {"field": "x", "start": T0, "end": T0 + 1e6}
    for kind in ("gzip", "zstd"):
        with gateway.http.stream("GET", path, params=asked, headers={"Accept-Encoding": kind}) as answer:
            assert answer.headers["content-encoding"] == kind
            assert next(answer.iter_raw())
    plain = gateway.get(path, params=asked, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers


@pytest.mark.parametrize(
    ("path", "params", "status", "said"),
    [
        ("nodes/{node}/data", {"field": "x", "start": "5", "end": "1"}, 400, "lies before start"),
        ("nodes/{node}/data", {"field": "x", "start": "soon"}, 400, "soon"),
        ("nodes/{node}/data", {"field": "x", "start": "nan"}, 400, "nan"),
        ("nodes/{node}/data", {"field": "x", "max_points": "1"}, 422, "max_points"),
        ("nodes/{node}/data", {"field": "x", "max_points": "1e99"}, 422, "max_points"),
        ("nodes/{node}/data", {"field": "x", "max_points": "5", "downsample": "best"}, 400, "minmax"),
        ("nodes/{node}/data", {}, 422, "field"),
        ("nodes/nobody/data", {"field": "x"}, 404, "no node 'nobody'"),
        ("nodes/a b/data", {"field": "x"}, 404, "not a valid name of a node"),
        ("data", {"target": "x"}, 400, "node::field"),
        ("data", {"target": "nobody::x"}, 404, "no node 'nobody'"),
        ("nodes/{node}/live", {"field": "none"}, 404, "no field 'none'"),
        ("nodes/{node}/live", {"field": ["x", "y"]}, 400, "several timelines"),
        ("search", {"q": "  "}, 400, "q contains no word"),
        ("nothing", {}, 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_told(gateway, measured, path, params, status, said):
    emit(measured, [T0])
    measured.source.emit("other", [time.time()], {"y": [1.0]})
    answer = gateway.get(f"/api/v1/{path.format(node=measured.name)}", params=params)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["message"]


def test_tables_are_of_one_timeline_and_known_kinds(gateway, measured):
    emit(measured, [T0])
    measured.source.emit("other", [time.time()], {"y": [1.0]})
    path = f"/api/v1/nodes/{measured.name}/data"
    answer = gateway.get(path, params={"field": ["x", "y"]}, headers=ARROW)
    assert (answer.status_code, "several timelines (other, tl)" in answer.text) == (400, True)
    answer = gateway.get(path, params={"field": ["nix"]}, headers=ARROW)
    assert (answer.status_code, "no field 'nix'" in answer.text) == (404, True)
    answer = gateway.get(path, params={"field": ["x"]}, headers={"Accept": "image/png"})
    assert (answer.status_code, "accept one of" in answer.text) == (406, True)


class Broken(DataNodeServer):
    name = "broken"

    def get_fields_blocking(self, start, end):
        raise RuntimeError("the wires are cut")


def test_node_that_fails_is_told_as_such(gateway, sisock_serve, unique):
    sisock_serve(type("B", (Broken,), {"name": unique}))
    answer = gateway.get(f"/api/v1/nodes/{unique}/fields")
    assert answer.status_code == 502
    assert answer.json()["error"] == "node_failed"


def test_nodes_come_go_and_fall_silent(gateway, sisock_router, unique, monkeypatch):
    monkeypatch.setattr(watch, "_NODE_S", 0.2)
    source = ManualSource(Timeline("tl", FIELDS, interval_s=0.01, expect_every=0.5))
    node = Node(unique, None, [source])
    serving = Serving(sisock_router.access("server"))

    def state():
        return next((each for each in gateway.json("/api/v1/nodes") if each["name"] == unique), None)

    assert state() is None
    with gateway.http.stream("GET", "/api/v1/events/live") as events:
        heard = (json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:"))
        serving.serve(node)
        assert wait(state)["state"] == "online"  # it answers, and has no data yet
        assert wait(state)["newest"] is None
        t = time.time()
        source.emit("tl", [t, t + 0.01], {"x": [1.0, 2.0], "word": ["a", "b"], "on": [True, False]})
        wait(lambda: state()["state"] == "stale")
        told = state()
        assert "no samples of tl since" in told["reason"]
        assert "one is expected every 0.5 s" in told["reason"]
        assert (told["newest"], told["ahead"], told["health"]["state"]) == (t + 0.01, None, "degraded")
        assert 1.5 < told["age"] < 60.0
        scraped = gateway.get("/metrics").text
        labels = f'{{node="{unique}",timeline="tl"}}'
        assert f"sisock_timeline_stale{labels} 1.0" in scraped
        assert f"sisock_timeline_expected_every_seconds{labels} 0.5" in scraped
        assert f"sisock_timeline_stale_after_seconds{labels} 1.5" in scraped
        assert f"sisock_timeline_age_seconds{labels}" in scraped
        serving.stop()
        wait(lambda: state()["state"] == "gone")
        kinds = []
        while "left" not in kinds:
            event = next(heard)
            if event["node"] == unique:
                kinds.append(event["kind"])
    assert kinds == ["arrived", "stale", "left"]
    told = [each["kind"] for each in gateway.json("/api/v1/events", start="-5m") if each["node"] == unique]
    assert told == kinds
    assert f'sisock_node_state{{node="{unique}",state="gone"}} 1.0' in gateway.get("/metrics").text


def test_operators_have_nodes_do_something(sisock_router, sisock_serve, unique):
    (port,) = free_ports(1)
    node = open_node(unique, UdpSettings(type="udp", host="127.0.0.1", port=port), sisock_router.access("server"))
    sisock_serve(node)
    new = {"id": "s", "byte_format": "<d", "input_names": ["v"], "address": "127.0.0.1"}
    with gateway_of(sisock_router.site, operator=True) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        assert gateway.json("/api/v1/who") == {"user": None, "operator": True}
        path = f"/api/v1/nodes/{unique}/procedures"
        known = {each["name"]: each for each in gateway.json(path)}
        assert "byte_format" in known["create_source"]["parameters"]["properties"]
        answer = gateway.post(f"{path}/create_source", json=new)
        assert (answer.status_code, answer.json()["id"]) == (200, "s")
        count = f'sisock_source_total{{counter="received",node="{unique}",number="0",part="s"}} 0.0'
        wait(lambda: count in gateway.get("/metrics").text)
        again = gateway.post(f"{path}/create_source", json=new)
        assert (again.status_code, "s" in again.json()["message"]) == (400, True)
        assert gateway.post(f"{path}/no_such", json={}).status_code == 400
        huge = gateway.post(f"{path}/create_source", json={**new, "id": 2**70})
        assert (huge.status_code, "at most 64 bits" in huge.json()["message"]) == (400, True)
        assert gateway.post(f"{path}/list_sources", json=[]).status_code == 422
        assert gateway.post(f"{path}/list_sources", content=b"{").status_code == 422
    with gateway_of(sisock_router.site) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        answer = gateway.post(f"/api/v1/nodes/{unique}/procedures/list_sources", json={})
        assert (answer.status_code, "operator: true" in answer.json()["message"]) == (403, True)


SECRETS = {
    "users": {"maria": {"password": "correct horse", "operator": True}, "paul": {"password": "battery staple"}},
    "tokens": {"grafana": "0123456789abcdef"},
}


def test_who_must_say_who_they_are(sisock_router):
    with gateway_of(sisock_router.site, SECRETS, operator=True) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        for path in ("/api/v1/nodes", "/prometheus/api/v1/labels", "/metrics", "/api/v1/who", "/api/openapi.json"):
            answer = gateway.get(path)
            assert (answer.status_code, answer.json()["error"]) == (401, "not_allowed"), path
        assert gateway.get("/").status_code == 200  # the page says nothing
        bearer = {"Authorization": "Bearer 0123456789abcdef"}
        assert gateway.get("/api/v1/who", headers=bearer).json() == {"user": "grafana", "operator": False}
        assert gateway.get("/api/v1/who", headers={"Authorization": "Bearer wrong"}).status_code == 401
        described = gateway.get("/api/openapi.json", headers=bearer).json()
        ways = {name for each in described["security"] for name in each}
        assert ways == described["components"]["securitySchemes"].keys() == {"token", "password", "session"}
        assert described["paths"]["/login"]["post"]["security"] == []
        basic = {"Authorization": "Basic " + base64.b64encode(b"paul:battery staple").decode()}
        assert gateway.get("/api/v1/who", headers=basic).json() == {"user": "paul", "operator": False}
        for wrong in (b"paul:x", b"nobody:", b"nobody", b"\xff"):
            basic = {"Authorization": "Basic " + base64.b64encode(wrong).decode()}
            assert gateway.get("/api/v1/who", headers=basic).status_code == 401
        assert gateway.post("/login", json={"user": "maria", "password": "wrong"}).status_code == 403
        answer = gateway.post("/login", json={"user": "maria", "password": "correct horse"})
        assert answer.json() == {"user": "maria", "operator": True}
        assert {"httponly", "samesite=strict"} <= {
            part.strip().lower() for part in answer.headers["set-cookie"].split(";")
        }
        assert gateway.json("/api/v1/who") == {"user": "maria", "operator": True}
        call = "/api/v1/nodes/nobody/procedures/x"
        assert gateway.post(call, json={}, headers={"Origin": "http://evil.example"}).status_code == 403
        assert gateway.post(call, json={}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert gateway.post(call, json={}, headers={"Origin": gateway.url}).status_code == 404
        signed = gateway.http.cookies["sisock_session"]
        told = base64.urlsafe_b64decode(signed.partition(".")[0] + "==")
        assert hashlib.sha256(b"maria\0correct horse").hexdigest().encode() not in told  # or it could be guessed
        for others in ('prefs={"a":1}; a b=1; c', "a/b=1"):  # of other programs on this host
            with httpx.Client() as browser:
                cookie = {"Cookie": f"{others}; sisock_session={signed}"}
                assert browser.get(gateway.url + "/api/v1/who", headers=cookie).status_code == 200
        both = {"Origin": "http://evil.example", "Authorization": "zzz"}
        assert gateway.post(call, json={}, headers=both).status_code == 403
        gateway.post("/logout")
        gateway.http.cookies.set("sisock_session", signed)  # kept by somebody
        assert gateway.get("/api/v1/who").status_code == 401
        gateway.http.cookies.set("sisock_session", signed + "=")
        assert gateway.get("/api/v1/who").status_code == 401
        gateway.http.cookies.set("sisock_session", signed[:-2] + "xx")
        assert gateway.get("/api/v1/who").status_code == 401
        gateway.http.cookies.clear()
        with pytest.raises(Exception, match="403"), gateway.socket():
            pass
        with gateway.socket(additional_headers=bearer) as socket:
            socket.say(op="subscribe", id="a", node="nobody", fields=["x"])
            assert socket.hear()["error"] == "no_such_node"
        second = gateway.post("/login", json={"user": "paul", "password": "battery staple"}).cookies["sisock_session"]
    with gateway_of(sisock_router.site, SECRETS) as again:
        for session, status in ((signed, 401), (second, 200)):
            again.http.cookies.set("sisock_session", session)
            assert again.get("/api/v1/who").status_code == status


@pytest.mark.long
def test_floods_of_wrong_passwords_are_slow_and_lock_nobody_out_who_is_known(sisock_router):
    with gateway_of(sisock_router.site, SECRETS) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)

        def who(password):
            basic = {"Authorization": "Basic " + base64.b64encode(f"paul:{password}".encode()).decode()}
            return httpx.get(gateway.url + "/api/v1/who", headers=basic, timeout=60.0).status_code

        assert who("battery staple") == 200
        with ThreadPoolExecutor(40) as pool:
            answers = [pool.submit(who, f"guess {i}") for i in range(40)]
            wait(lambda: any(each.done() and each.result() == 503 for each in answers))
            assert who("battery staple") == 200
            assert gateway.get("/healthz").status_code == 200
            assert {each.result() for each in answers} == {401, 503}


def test_pages_elsewhere_and_other_names_are_refused(gateway):
    answer = gateway.get("/api/v1/nodes", headers={"Host": "evil.example"})
    assert (answer.status_code, "not this machine" in answer.text) == (400, True)
    with pytest.raises(Exception, match="403"), gateway.socket(origin="http://evil.example"):
        pass
    assert "access-control-allow-origin" not in gateway.get("/api/v1/nodes", headers={"Origin": "http://a"}).headers


def test_origins_that_are_named_may_ask(sisock_router):
    with gateway_of(sisock_router.site, cors=["https://example.org"]) as gateway:
        answer = gateway.get("/healthz", headers={"Origin": "https://example.org"})
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        assert "access-control-allow-origin" not in gateway.get("/healthz", headers={"Origin": "https://evil"}).headers


def test_large_bodies_are_refused(gateway):
    call = "/api/v1/nodes/nobody/procedures/x"
    big = b'{"a": "' + b"x" * 1_100_000 + b'"}'
    assert gateway.post(call, content=big, headers={"Content-Type": "application/json"}).status_code == 413

    def pieces():
        for start in range(0, len(big), 100_000):
            yield big[start : start + 100_000]

    answer = gateway.post(call, content=pieces(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, "1,000,000 bytes" in answer.text) == (413, True)


@pytest.mark.long
def test_gateway_says_that_the_router_is_away_and_serves_again(tmp_path):
    router = RunningRouter(tmp_path)
    try:
        with gateway_of(router.site) as gateway:
            assert gateway.get("/healthz").status_code == 200
            answer = gateway.get("/readyz")
            assert (answer.status_code, "router" in answer.json()["reason"]) == (503, True)
            assert gateway.get("/api/v1/nodes").status_code == 503
            router.start()
            wait(lambda: gateway.get("/readyz").status_code == 200)
            assert gateway.json("/api/v1/nodes") == []
            router.kill("router")
            wait(lambda: gateway.get("/readyz").status_code == 503)
            begun = time.monotonic()
            answer = gateway.get("/api/v1/data", params={"target": "a::b"})
            assert (answer.status_code, answer.json()["error"]) == (503, "no_router")
            assert answer.headers["retry-after"] == "1"
            assert time.monotonic() - begun < 5.0  # at once, not when a consumer's patience ends
            assert gateway.get("/healthz").status_code == 200
            router.start("router")
            wait(lambda: gateway.get("/api/v1/nodes").status_code == 200)
    finally:
        router.stop()


class Slow(DataNodeServer):
    """A node that takes its time for an answer, and counts its questions."""

    asked, takes_s, may_answer = 0, 0.5, None

    def get_fields_blocking(self, start, end):
        field = {"description": "", "timeline": "tl", "type": "number", "units": None}
        return {"x": field}, {"tl": {"interval": None, "field": ["x"]}}

    def get_data_blocking(self, field, start, end, min_stride=None):
        type(self).asked += 1
        if self.may_answer is not None:
            self.may_answer.wait(60.0)
        time.sleep(self.takes_s)
        return {"data": {"x": [1.0]}, "timeline": {"tl": {"t": [T0], "finalized_until": None}}}


def test_who_has_left_is_not_answered(gateway, sisock_serve, unique):
    """Two questions take all turns of the node until twenty clients have left; none of those reaches the node."""
    kind = type("S", (Slow,), {"name": unique, "takes_s": 0.0, "may_answer": threading.Event()})
    kind.may_answer.set()
    sisock_serve(kind)
    path = f"/api/v1/nodes/{unique}/data"
    assert gateway.get(path, params={"field": "x"}).status_code == 200
    kind.may_answer.clear()
    with ThreadPoolExecutor(2) as pool:
        turns = [pool.submit(gateway.get, path, params={"field": "x", "start": f"-{i + 1}"}) for i in range(2)]
        wait(lambda: kind.asked == 3)
        for i in range(20):
            with contextlib.suppress(httpx.TimeoutException):
                httpx.get(gateway.url + path, params={"field": "x", "start": f"-{i + 100}"}, timeout=0.05)
        kind.may_answer.set()
        assert [turn.result().status_code for turn in turns] == [200, 200]
    assert gateway.get(path, params={"field": "x"}).status_code == 200
    assert kind.asked <= 6  # 4, and what of the last that left is noticed late


def test_who_asks_while_the_gateway_stops_is_told(sisock_router, sisock_serve, unique):
    kind = type("S", (Slow,), {"name": unique, "takes_s": 5.0})
    sisock_serve(kind)
    with ThreadPoolExecutor(1) as pool:
        with gateway_of(sisock_router.site) as gateway:
            wait(lambda: unique in [node["name"] for node in gateway.json("/api/v1/nodes")])
            answer = pool.submit(httpx.get, f"{gateway.url}/api/v1/nodes/{unique}/data?field=x", timeout=60.0)
            wait(lambda: kind.asked)
        assert (answer.result().status_code, answer.result().json()["error"]) == (503, "busy")


def test_node_that_leaves_while_it_answers_may_be_asked_again(gateway, sisock_router, unique):
    kind = type("S", (Slow,), {"name": unique, "takes_s": 2.0})
    serving = Serving(sisock_router.access("server"))
    try:
        serving.serve(kind)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(gateway.get, f"/api/v1/nodes/{unique}/data?field=x")
            wait(lambda: kind.asked)
            serving.stop()
            told = answer.result()
        assert (told.status_code, told.json()["error"], "Retry-After" in told.headers) == (503, "node_left", True)
    finally:
        serving.stop()


def test_gateway_that_is_stopped_ends_streams_and_prints_no_errors(sisock_router):
    (port,) = free_ports(1)
    site = sisock_router.site.path.with_name(f"gateway-{port}.yaml")
    site.write_text(sisock_router.site.path.read_text() + f"gateway: {{port: {port}}}\n")
    command = [sys.executable, "-m", "sisock", "gateway", "--site", str(site)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as gateway:
        try:
            url = f"http://127.0.0.1:{port}"

            def is_ready():
                with contextlib.suppress(httpx.TransportError):
                    return httpx.get(url + "/readyz").status_code == 200

            wait(is_ready)
            with httpx.stream("GET", url + "/api/v1/events/live", timeout=30.0) as events:
                gateway.send_signal(signal.SIGTERM)
                assert events.read() == b""  # it ends as it should
            _, said = gateway.communicate(timeout=60)
        finally:
            gateway.kill()
    assert [line for line in said.splitlines() if not line.startswith("info:")] == []


FIELD = {"description": "", "timeline": "tl", "type": "number", "units": None}


class Rubbish(DataNodeServer):
    """A node that answers what it should not."""

    told, does, fields, data = {}, [], ({"x": FIELD}, {"tl": {"interval": None, "field": ["x"]}}), [1.0]

    def get_fields(self, start, end):
        return self.fields

    def get_data(self, *_args, **_more):
        return {"data": {"x": self.data}, "timeline": {"tl": {"t": [T0], "finalized_until": None}}}

    def status(self):
        return self.told

    def procedures(self):
        return self.does


def described(**wrong):
    return {"x": FIELD | wrong}, {"tl": {}}


@pytest.mark.parametrize(
    ("wrong", "fail", "state"),
    [
        ({"told": "fine"}, ["status"], "stale"),
        ({"told": {"timelines": {"tl": {"newest": "now", "finalized_until": "soon"}}}}, ["status"], "stale"),
        ({"told": {"timelines": ["tl"]}}, ["status"], "stale"),
        ({"told": {"x": b"\xff"}}, ["status"], "online"),
        ({"does": [{"name": "x", "description": 5, "parameters": {}}]}, ["procedures"], "online"),
        ({"does": [{"name": "x", "parameters": {"x": b"\xff"}}]}, ["procedures"], "online"),
        ({"fields": described(type="complex")}, ["fields", "data"], "online"),
        ({"fields": described(units={"x": 1})}, ["fields", "data"], "online"),
        ({"fields": described(description=b"\xff")}, ["fields", "data"], "online"),
        ({"fields": ({"x": FIELD}, {"tl": {"interval": "1 s"}})}, ["fields", "data"], "online"),
        ({"fields": 7}, ["fields", "data"], "online"),
        ({"data": [[1.0, 2.0]]}, ["data"], "online"),
        ({"data": [b"\xff"]}, ["data"], "online"),
    ],
)
def test_rubbish_of_one_node_is_told_and_harms_nobody_else(
    gateway, measured, sisock_serve, unique, monkeypatch, wrong, fail, state
):
    monkeypatch.setattr(watch, "_NODE_S", 0.1)
    emit(measured, [T0])
    name = f"{unique}-rubbish"
    sisock_serve(type("R", (Rubbish,), {"name": name, **wrong}))

    wait(lambda: (name, state) in [(node["name"], node["state"]) for node in gateway.json("/api/v1/nodes")])
    asked = {"field": "x", "start": T0 - 1, "end": T0 + 1}
    for what in ("fields", "data", "status", "procedures"):
        for accept in ("application/json", *(("text/csv", *ARROW.values()) if what == "data" else ())):
            answer = gateway.get(f"/api/v1/nodes/{name}/{what}", params=asked, headers={"Accept": accept})
            assert answer.status_code == (502 if what in fail else 200), (what, accept, answer.text)
    every = '{__name__=~".+"}'
    for path in (
        "metadata",
        "labels",
        "label/node/values",
        f"series?match[]={every}",
        f"query?query={every}&time={T0}",
    ):
        assert gateway.get(f"/prometheus/api/v1/{path}").status_code == 200, path
    assert gateway.get("/metrics").status_code == 200
    answer = gateway.json("/api/v1/data", target=[f"{measured.name}::x", f"{name}::x"], start=T0 - 1, end=T0 + 1)
    assert answer["nodes"][measured.name]["timelines"]["tl"]["data"]["x"] == [0.0]
    assert sorted(answer["errors"]) == ([name] if "data" in fail else [])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "["}, 400),
        ({"Host": "[::1"}, 400),
        ({"Origin": "http://["}, 403),
        ({"Authorization": "x", "Origin": "http://e"}, 403),
    ],
)
def test_headers_that_are_none_are_refused(gateway, headers, status):
    assert gateway.post("/logout", headers=headers).status_code == status


def test_integers_beyond_float64_are_told_as_the_nearest(gateway, measured):
    values = np.array([2**60 + 1, 3])
    measured.source.emit("tl", [T0, T0 + 1], {"x": values, "word": ["a", "b"], "on": [True, False]})
    path, asked = f"/api/v1/nodes/{measured.name}/data", {"field": "x", "start": T0, "end": T0 + 9}
    assert gateway.json(path, **asked)["timelines"]["tl"]["data"]["x"] == [2**60 + 1, 3]
    table = ipc.open_stream(gateway.get(path, params=asked, headers=ARROW).content).read_all()
    assert table["x"].to_pylist() == [float(2**60), 3.0]


def test_arguments_with_names_of_the_library_are_refused(sisock_router, sisock_serve, unique):
    (port,) = free_ports(1)
    node = open_node(unique, UdpSettings(type="udp", host="127.0.0.1", port=port), sisock_router.access("server"))
    sisock_serve(node)
    with gateway_of(sisock_router.site, operator=True) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        path = f"/api/v1/nodes/{unique}/procedures/list_sources"
        for name in ("timeout_s", "on_progress", "node", "arguments", "options", "procedure", "self"):
            answer = gateway.post(path, json={name: 1})
            assert (answer.status_code, name in answer.json()["message"]) == (400, True), answer.text


def test_times_in_milliseconds_are_told_and_times_before_1970_are_the_beginning(gateway, measured):
    emit(measured, [T0])
    path = f"/api/v1/nodes/{measured.name}/data"
    answer = gateway.get(path, params={"field": "x", "start": str(T0 * 1000)})
    assert (answer.status_code, "in seconds, not in milliseconds" in answer.text) == (400, True)
    samples = gateway.json(path, field="x", start="1969-12-31T23:59:00")["timelines"]["tl"]
    assert samples["t"] == [T0]
