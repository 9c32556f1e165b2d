"""Live data through the gateway, with a real router and real nodes."""

import json
import socket as socket_module
import threading
import time

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from sisock.fields import Field, Timeline
from sisock.node import Node
from sisock.procedure import Operation
from sisock.shapes import Axis
from sisock.testing import ManualSource
from sisock.testing.serving import Serving
from sisock_hub.gateway import live
from tests.site.gateway import followed, gateway_of, wait


@pytest.fixture
def measured(sisock_serve, unique):
    fields = [Field("x"), Field("word", "string"), Field("on", "bool")]
    source = ManualSource(Timeline("tl", fields, lateness_s=1e6), Timeline("other", [Field("y")], lateness_s=1e6))
    node = Node(unique, None, [source])
    sisock_serve(node)
    node.source = source
    # Fields are known to others once they have samples.
    emit(node, [time.time()])
    source.emit("other", [time.time()], {"y": [0.0]})
    return node


def emit(node, x, t=None):
    x = np.asarray(x, float)
    t = time.time() + np.arange(len(x)) / 1000 if t is None else t
    node.source.emit("tl", t, {"x": x, "word": np.full(len(x), "a", object), "on": x > 0})


def counted(gateway, name):
    (line,) = [line for line in gateway.get("/metrics").text.splitlines() if line.startswith(f"sisock_gateway_{name} ")]
    return float(line.split()[1])


def test_subscriptions_have_each_their_own_pace(gateway, measured):
    with gateway.socket() as socket:
        socket.say(op="subscribe", id="all", node=measured.name, fields=["x", "word", "on"], every=0.02)
        socket.say(op="subscribe", id="few", node=measured.name, fields=["x"], every=0.02, max_points=4)
        socket.say(op="subscribe", id="y", node=measured.name, fields=["y"])
        assert {socket.hear()["id"] for _ in range(3)} == {"all", "few", "y"}
        x = np.zeros(1000)
        x[500] = 7.0
        followed(gateway, measured.name)
        t = np.round(time.time(), 3) + np.arange(1000) / 1000
        emit(measured, x, t)
        messages = [socket.hear(), socket.hear()]
        whole = next(m for m in messages if m["id"] == "all")
        few = next(m for m in messages if m["id"] == "few")
        np.testing.assert_array_equal(whole["t"], t)
        assert whole["data"]["x"][500] == 7.0
        assert whole["data"]["on"][500] is True
        assert whole["data"]["word"][0] == "a"
        assert len(few["t"]) <= 4
        assert max(few["data"]["x"]) == 7.0
        socket.say(op="unsubscribe", id="all")
        socket.say(op="unsubscribe", id="few")
        followed(gateway, measured.name, "other")
        measured.source.emit("other", [time.time()], {"y": [3.0]})
        assert socket.hear()["data"] == {"y": [3.0]}
    wait(lambda: counted(gateway, "live_feeds") == 0)


def test_many_readers_are_one_subscription(gateway, measured):
    sockets = []
    try:
        for _ in range(20):
            context = gateway.socket()
            sockets.append((context, context.__enter__()))
            sockets[-1][1].say(op="subscribe", id="a", node=measured.name, fields=["x"])
            assert sockets[-1][1].hear()["subscribed"]
        assert (counted(gateway, "live_feeds"), counted(gateway, "live_readers")) == (1, 20)
        followed(gateway, measured.name)
        emit(measured, [5.0])
        for _, socket in sockets:
            assert socket.hear()["data"]["x"] == [5.0]
    finally:
        for context, _ in sockets:
            context.__exit__(None, None, None)
    wait(lambda: counted(gateway, "live_feeds") == counted(gateway, "live_readers") == 0)


def test_who_never_reads_gets_the_newest_later_and_holds_up_nobody(gateway, measured, monkeypatch):
    monkeypatch.setattr(live, "READERS_BYTES", 1_600_000)
    narrow = socket_module.socket()
    narrow.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
    with gateway.socket(sock=narrow, max_queue=1) as slow, gateway.socket() as quick:
        for socket in (slow, quick):
            socket.say(op="subscribe", id="a", node=measured.name, fields=["x"], every=0.02)
            assert socket.hear()["subscribed"]
        followed(gateway, measured.name)
        last, sent = 0.0, 0
        for i in range(40):  # far beyond what the kernel and the socket hold
            emit(measured, np.arange(sent, sent + 20_000), 1.8e9 + np.arange(sent, sent + 20_000) / 1000)
            sent += 20_000
            while last < sent - 1:
                news = quick.hear_of("a")
                assert news["missed"] == 0, i
                last = news["data"]["x"][-1]
        got = missed = 0
        while last != sent - 1 or got + missed < sent:
            news = slow.hear_of("a")
            got, missed, last = got + len(news["t"]), missed + news["missed"], news["data"]["x"][-1]
        assert missed > 0
        assert got + missed == sent


def test_node_that_was_started_anew_leaves_a_gap_and_may_have_other_units(gateway, sisock_router, unique):
    def begun(units):
        node = Node(unique, None, [ManualSource(Timeline("tl", [Field("x", units=units)], lateness_s=1e6))])
        serving = Serving(sisock_router.access("server"))
        serving.serve(node)
        node.sources[0].emit("tl", [time.time()], {"x": [0.0]})
        return node, serving

    def units():
        return gateway.get(f"/api/v1/nodes/{unique}/data?field=x").json()["fields"]["x"]["units"]

    node, serving = begun("mm")
    with gateway.socket() as socket:
        socket.say(op="subscribe", id="a", node=unique, fields=["x"], every=0.02)
        assert socket.hear()["subscribed"]
        followed(gateway, unique)
        node.sources[0].emit("tl", [before := time.time()], {"x": [1.0]})
        news = socket.hear()
        assert (news["gaps"], news["units"]) == ([], {"x": "mm"})
        assert units() == "mm"
        serving.stop()
        node, serving = begun("m")
        news = socket.hear()
        assert (news["gaps"], news["units"]) == ([[before, news["t"][0]]], {"x": "m"})
        assert units() == "m"
    serving.stop()


def test_what_is_said_wrongly_is_told(gateway, measured):
    with gateway.socket() as socket:
        for text in (
            "{",
            "[]",
            '{"op": "dance", "id": "a"}',
            '{"op": "subscribe"}',
            '{"op": "subscribe", "id": "a", "x": 1}',
        ):
            socket.socket.send(text)
            answer = socket.hear()
            assert answer["error"] == "bad_request", text
        for wrong, error in (
            ({"node": "nobody", "fields": ["x"]}, "no_such_node"),
            ({"fields": ["x"]}, "bad_request"),
            ({"node": measured.name, "fields": ["nix"]}, "no_such_field"),
            ({"node": measured.name, "fields": ["x", "y"]}, "bad_request"),
            ({"node": measured.name, "fields": []}, "bad_request"),
            ({"node": measured.name, "fields": ["x"], "downsample": "best"}, "bad_request"),
            ({"node": measured.name, "fields": ["x"], "every": 0.0001}, "bad_request"),
        ):
            socket.say(op="subscribe", id="a", **wrong)
            answer = socket.hear()
            assert (answer["error"], answer["id"]) == (error, "a"), answer
        socket.say(op="subscribe", id="a", node=measured.name, fields=["x"])  # and yet it goes on
        assert socket.hear()["subscribed"]


def test_bytes_in_the_place_of_text_close_the_socket_with_a_reason(gateway, measured):
    with gateway.socket() as socket:
        socket.say(op="subscribe", id="a", node=measured.name, fields=["x"])
        assert socket.hear()["subscribed"]
        socket.socket.send(b"{}")
        with pytest.raises(ConnectionClosed) as caught:
            socket.socket.recv(timeout=60.0)
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1003, "send messages as text")
    wait(lambda: counted(gateway, "live_readers") == 0)


def test_odd_texts_and_wide_floats_are_live_what_they_are_in_the_history(gateway, measured):
    with gateway.socket() as socket:
        socket.say(op="subscribe", id="a", node=measured.name, fields=["x", "word"])
        assert socket.hear()["subscribed"]
        followed(gateway, measured.name)
        t = time.time()
        x, word = np.array([1.5], np.longdouble), np.array(["half \ud800"], object)
        measured.source.emit("tl", [t], {"x": x, "word": word, "on": [True]})
        assert socket.hear_of("a")["data"] == {"x": [1.5], "word": ["half ?"]}
        measured.source.emit("tl", [t + 1], {"x": [1.0], "word": np.array([b"bytes"], object), "on": [True]})
        assert measured.counters["bad_batches"] == 1
    asked = {"field": ["x", "word"], "start": t - 0.001, "end": t + 9}
    found = gateway.json(f"/api/v1/nodes/{measured.name}/data", **asked)["timelines"]["tl"]["data"]
    assert found == {"x": [1.5], "word": ["half ?"]}


def test_events_of_nodes_come_on_the_same_socket(gateway, sisock_serve, unique):
    gateway.get("/api/v1/nodes")
    with gateway.socket() as socket:
        socket.say(op="subscribe", id="events")
        assert socket.hear() == {"id": "events", "subscribed": True}
        sisock_serve(Node(unique, None, []))
        while (event := socket.hear_of("events"))["node"] != unique:
            pass
        assert (event["kind"], event["text"]) == ("arrived", f"{unique} has arrived")


def test_readers_that_leave_at_once_leave_nothing_behind(gateway, measured):
    for _ in range(30):
        with gateway.socket() as socket:
            socket.say(op="subscribe", id="a", node=measured.name, fields=["x"])
    wait(lambda: counted(gateway, "live_feeds") == counted(gateway, "live_readers") == 0)
    followed(gateway, measured.name, by_anybody=False)


def test_live_data_as_server_sent_events(gateway, measured):
    path, asked = f"/api/v1/nodes/{measured.name}/live", {"field": ["x", "on"], "every": 0.02}
    with gateway.http.stream("GET", path, params=asked) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        followed(gateway, measured.name)
        emit(measured, [1.0, 2.0])
        line = next(line for line in answer.iter_lines() if line.startswith("data:"))
        assert json.loads(line[5:])["data"] == {"x": [1.0, 2.0], "on": [True, True]}
    wait(lambda: counted(gateway, "live_feeds") == 0)


def test_type_that_becomes_wider_reaches_whoever_is_subscribed(gateway, sisock_serve, unique):
    fields = {kind: Timeline("tl", [Field("x", kind)], lateness_s=1e6) for kind in ("bool", "number", "string")}
    source = ManualSource(fields["bool"])
    node = Node(unique, None, [source])
    sisock_serve(node)
    t = np.floor(time.time())
    source.emit("tl", [t], {"x": np.array([True])})
    with gateway.socket() as socket:
        socket.say(op="subscribe", id="a", node=unique, fields=["x"], every=0.5)
        assert socket.hear()["subscribed"]
        followed(gateway, unique)
        source.emit("tl", [t + 1], {"x": np.array([False])})
        assert socket.hear()["data"]["x"] == [False]
        # All of this is one piece of news.
        source.emit("tl", [t + 2], {"x": np.array([True])})
        source.add(fields["number"])
        source.emit("tl", [t + 3, t + 4], {"x": np.array([2.5, np.nan])})
        source.add(fields["string"])
        source.emit("tl", [t + 5], {"x": np.array(["fault"], object)})
        news = [socket.hear()]
        while news[-1]["t"][-1] < t + 5:
            news.append(socket.hear())
        assert [each for one in news for each in one["t"]] == [t + 2, t + 3, t + 4, t + 5]
        values = [value for one in news for value in one["data"]["x"]]
        assert values == ["true", "2.5", "", "fault"] or len(news) > 1
        assert values[-1] == "fault"


def test_run_and_events_are_followed_with_the_account_of_the_gateway(sisock_router, sisock_serve, unique):
    go = threading.Event()

    def scan(context):
        context.update("begun")
        go.wait(60.0)
        return "scanned"

    node = Node(unique, None, [])
    node.work.offer(Operation("scan", "Scan.", None, None, scan))
    sisock_serve(node)
    with gateway_of(sisock_router.site, operator=True) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        assert gateway.consumer.access.user == "gateway"
        started = gateway.post(f"/api/v1/nodes/{unique}/operations/scan", json={})
        assert started.status_code == 202
        with gateway.socket() as socket:
            socket.say(op="subscribe", id="run", node=unique, operation=started.json()["id"])
            socket.say(op="subscribe", id="events", node=unique, events=True, kind="run")
            assert socket.hear_of("events")["subscribed"]
            go.set()
            # Changes of the run were possibly received before the events were followed.
            assert "scan done" in socket.hear_of("events")["text"]
        run = wait(lambda: (found := gateway.json(started.headers["location"]))["ended"] and found)
        assert (run["state"], run["result"]) == ("done", "scanned")
        lines = gateway.get(f"{started.headers['location']}/live").text.splitlines()
        changes = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        assert [each["update"] for each in changes if each["update"] is not None] == ["begun"]
        assert changes[-1]["state"] == "done"


def test_arrays_are_answered_and_followed_with_as_many_values_as_are_asked_for(gateway, sisock_serve, unique):
    axis = Axis("frequency", np.arange(8.0), "Hz")
    source = ManualSource(Timeline("tl", [Field("spectrum", shape=(8,), axis=axis)], lateness_s=1e6))
    sisock_serve(Node(unique, None, [source]))
    spectra = np.arange(16.0).reshape(2, 8)
    now = time.time()
    source.emit("tl", [now - 2.0, now - 1.0], {"spectrum": spectra})
    answer = gateway.json(f"/api/v1/nodes/{unique}/data", field="spectrum", max_values=4)
    assert answer["timelines"]["tl"]["data"]["spectrum"] == [[1.0, 3.0, 5.0, 7.0], [9.0, 11.0, 13.0, 15.0]]
    assert answer["timelines"]["tl"]["reduced"] == {"spectrum": {"method": "max", "block": [2]}}
    assert answer["fields"]["spectrum"]["axis"] == {"name": "frequency", "values": list(axis.values), "units": "Hz"}
    (hit,) = wait(lambda: gateway.json("/api/v1/search", q=f"spectrum {unique}")["hits"])
    assert (hit["field"]["shape"], hit["field"]["axis"]) == ([8], None)  # the list of fields has the axis
    several = gateway.json("/api/v1/data", target=f"{unique}::spectrum", max_values=2, reduce="minmax")
    assert several["nodes"][unique]["timelines"]["tl"]["data"]["spectrum"] == [[0.0, 7.0], [8.0, 15.0]]
    with gateway.socket() as socket:
        subscription = {"op": "subscribe", "node": unique, "fields": ["spectrum"], "every": 0.02}
        socket.say(**subscription, id="all")
        socket.say(**subscription, id="few", max_values=4, reduce="minmax")
        assert {socket.hear()["id"] for _ in range(2)} == {"all", "few"}
        followed(gateway, unique)
        source.emit("tl", [now], {"spectrum": spectra[:1]})
        messages = {message["id"]: message for message in (socket.hear(), socket.hear())}
        assert messages["all"]["data"]["spectrum"] == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]
        assert "reduced" not in messages["all"]
        assert messages["few"]["data"]["spectrum"] == [[0.0, 3.0, 4.0, 7.0]]
        assert messages["few"]["reduced"] == {"spectrum": {"method": "minmax", "block": [4]}}
