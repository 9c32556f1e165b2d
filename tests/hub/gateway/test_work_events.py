"""Events and alarms of nodes over HTTP, live, and in Grafana; without Crossbar."""

import json
import time
from contextlib import contextmanager

import pytest
from websockets.sync.client import connect

from sisock.times import wait_until
from sisock_hub.gateway import event_feeds
from tests.hub.gateway.work_site import Stage, gateway_of

AT = "/api/v1/nodes/stage"


@pytest.fixture
def stage(sisock_stepped_site):
    return Stage(sisock_stepped_site)


@pytest.fixture
def client(sisock_stepped_site, stage, tmp_path):
    with gateway_of(sisock_stepped_site, tmp_path) as client:
        yield client


def report(stage, *texts, severity="info", kind="shutter"):
    for text in texts:
        stage.node.work.report(kind, "beam", text, severity)


@contextmanager
def subscribed(client, **wanted):
    """Provide a function that returns the next message of a subscription."""
    url = str(client.base_url).replace("http", "ws", 1) + "/api/v1/live"
    with connect(url, open_timeout=60) as socket:
        socket.send(json.dumps({"op": "subscribe", "id": "a", **wanted}))

        def following():
            return json.loads(socket.recv(timeout=60))

        assert following() == {"id": "a", "subscribed": True}
        yield following


def test_events_are_selected_and_read_on_from_a_cursor(client, stage):
    before = time.time() - 10
    report(stage, "opened", "closed")
    report(stage, "stuck", severity="error")
    page = client.get(f"{AT}/events", params={"kind": "shutter"}).json()
    assert [event["text"] for event in page["events"]] == ["opened", "closed", "stuck"]
    report(stage, "freed", severity="warning")
    news = client.get(f"{AT}/events", params={"after": page["cursor"]}).json()
    assert [event["text"] for event in news["events"]] == ["freed"]
    for asked, expected in (
        ({"severity": "warning", "subject": "be*"}, ["stuck", "freed"]),
        ({"kind": "shutter", "limit": 1}, ["freed"]),
        ({"kind": "shutter", "before": page["events"][1]["seq"]}, ["opened"]),
        ({"kind": "shutter", "start": before, "end": "now"}, ["opened", "closed", "stuck", "freed"]),
        ({"end": before - 3600}, []),
    ):
        found = client.get(f"{AT}/events", params=asked).json()["events"]
        assert [event["text"] for event in found] == expected, asked
    assert client.get(f"{AT}/events", params={"severity": "bad"}).status_code == 422
    assert client.get(f"{AT}/events", params={"start": "yesterday-ish"}).status_code == 400


def test_command_is_an_event_that_names_its_caller(client):
    client.post(f"{AT}/commands/move", json={"to": 1})
    (event,) = client.get(f"{AT}/events", params={"kind": "command"}).json()["events"]
    assert (event["subject"], event["data"]["arguments"]) == ("move", {"to": 1.0})
    assert event["data"]["caller"]["authid"] == "operator"


def test_alarm_is_listed_and_acknowledged(client, stage):
    (alarm,) = client.get(f"{AT}/alarms").json()
    assert (alarm["name"], alarm["state"], alarm["severity"]) == ("too_heavy", "normal", "critical")
    stage.source.emit("tl", [time.time()], {"load": [9.0]})
    assert client.get(f"{AT}/alarms", params={"name": "too_*"}).json()[0]["state"] == "unacknowledged"
    answer = client.post(f"{AT}/commands/acknowledge_alarm", json={"name": "too_heavy", "comment": "on it"})
    assert answer.json()["changed"] == ["too_heavy"]
    (alarm,) = client.get(f"{AT}/alarms").json()
    assert (alarm["state"], alarm["by"], alarm["comment"]) == ("acknowledged", "operator", "on it")
    assert client.post(f"{AT}/commands/acknowledge_alarm", json={"name": "none"}).status_code == 404
    line = 'sisock_alarms{node="stage",severity="critical",state="acknowledged"} 1.0'
    assert wait_until(lambda: line in client.get("/metrics").text, 20.0)


def test_events_come_live_as_they_are_selected(client, stage):
    report(stage, "before")
    with subscribed(client, node="stage", events=True, severity="warning", kind="{shutter,valve}") as following:
        report(stage, "unimportant")
        report(stage, "unselected", severity="error", kind="door")
        report(stage, "first", severity="error")
        report(stage, "second", severity="warning", kind="valve")
        first, second = following(), following()
        assert (first["id"], first["text"], first["kind"], first["missed"]) == ("a", "first", "shutter", 0)
        assert second["text"] == "second"
    assert wait_until(lambda: "sisock_gateway_followed_events 0.0" in client.get("/metrics").text, 20.0)


def test_reader_that_lags_behind_reads_on_at_the_node(client, stage, monkeypatch):
    monkeypatch.setattr(event_feeds, "_MOST_KEPT", 3)
    monkeypatch.setattr(event_feeds, "_MOST_READ", 10)
    report(stage, "before")
    cursor = client.get(f"{AT}/events").json()["cursor"]
    texts = [str(number) for number in range(35)]
    report(stage, *texts[:20])
    with subscribed(client, node="stage", events=True, kind="shutter", after=cursor) as following:
        report(stage, *texts[20:])
        messages = [following() for _ in texts]
    assert [message["text"] for message in messages] == texts
    assert not any(message["missed"] for message in messages)


def test_events_are_server_sent_events_with_ids(client, stage):
    path = f"{AT}/events/live"
    with client.stream("GET", path, params={"kind": "shutter"}) as answer:
        report(stage, "opened", "closed")
        lines = answer.iter_lines()
        number = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
        assert json.loads(next(lines).removeprefix("data: "))["text"] == "opened"
    with client.stream("GET", path, params={"kind": "shutter"}, headers={"Last-Event-ID": number}) as answer:
        line = next(line for line in answer.iter_lines() if line.startswith("data: "))
        assert json.loads(line.removeprefix("data: "))["text"] == "closed"
    assert client.get("/api/v1/nodes/nobody/events/live").status_code == 404


def test_invalid_subscriptions_are_refused(client):
    with connect(str(client.base_url).replace("http", "ws", 1) + "/api/v1/live", open_timeout=60) as socket:
        for wanted, expected in (
            ({"events": True}, "events are given, but no node"),
            ({"events": True, "fields": ["x"], "node": "stage"}, "subscribe to each separately"),
            ({"events": True, "node": "nobody"}, "no node 'nobody'"),
            ({"events": True, "node": "stage", "severity": "bad"}, "severity"),
            ({"events": True, "node": "stage", "kind": "{a,b}" * 20}, "stands for more than"),
        ):
            socket.send(json.dumps({"op": "subscribe", "id": "a", **wanted}))
            assert expected in json.loads(socket.recv(timeout=60))["message"], wanted


def test_events_are_annotations_in_grafana(client, stage):
    report(stage, "opened", "closed")
    report(stage, "stuck", severity="error")
    asked = {"from": (time.time() - 60) * 1000, "to": (time.time() + 60) * 1000}

    def marks(query):
        answer = client.get("/grafana/v1/annotations", params={"query": query, **asked})
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert wait_until(lambda: len(marks("events stage info shutter")) == 3, 20.0)
    (stuck,) = marks("events st* warning {shutter,alarm}")
    assert (stuck["title"], stuck["text"]) == ("stage: shutter beam", "stuck")
    assert "error" in stuck["tags"]
    assert marks("events other") == []
    answer = client.get("/grafana/v1/annotations", params={"query": "events stage bad", **asked})
    assert (answer.status_code, "events rig warning alarm" in answer.json()["message"]) == (400, True)
