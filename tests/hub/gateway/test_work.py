"""Queries, commands and operations of nodes over HTTP; without Crossbar."""

import json
from contextlib import contextmanager

import pytest
from websockets.sync.client import connect

from sisock import runs as run_module
from sisock.times import wait_until
from tests.hub.gateway.work_site import Stage, gateway_of

AT = "/api/v1/nodes/stage"


@pytest.fixture
def stage(sisock_stepped_site):
    stage = Stage(sisock_stepped_site)
    yield stage
    stage.go.set()


@pytest.fixture
def client(sisock_stepped_site, stage, tmp_path):
    with gateway_of(sisock_stepped_site, tmp_path) as client:
        yield client


def run_of(client, number):
    return client.get(f"{AT}/operations/{number}").json()


def ended(client, number):
    assert wait_until(lambda: run_of(client, number)["ended"] is not None, 20.0)
    return run_of(client, number)


def message(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["message"]


def test_procedures_have_kind_uri_and_schemas(client):
    listed = {each["name"]: each for each in client.get(f"{AT}/procedures").json()}
    assert {name: each["kind"] for name, each in listed.items()} == {
        "position": "query",
        "sum": "query",
        "move": "command",
        "scan": "operation",
        "hold": "operation",
    }
    assert listed["move"]["destructive"] is True
    assert listed["move"]["uri"].endswith("control.stage.move")
    assert listed["scan"]["parameters"]["properties"]["steps"]["default"] == 3
    assert listed["scan"]["result"] is None


def test_query_takes_arguments_from_url_or_body(client):
    assert client.get(f"{AT}/queries/position").json() == 0.0
    assert client.get(f"{AT}/queries/sum", params={"channels": [1, 2], "gain": 2}).json() == 6.0
    assert client.get(f"{AT}/queries/sum", params={"channels": 5}).json() == 5.0
    assert client.post(f"{AT}/queries/sum", json={"channels": [4], "gain": 0.5}).json() == 2.0


def test_command_is_called_under_both_paths(client, stage):
    assert client.post(f"{AT}/commands/move", json={"to": 3}).json() == {"position": 3.0}
    assert client.post(f"{AT}/procedures/move", json={"to": 4}).json() == {"position": 4.0}
    assert client.post(f"{AT}/procedures/position", json={}).json() == stage.position == 4.0


def test_operation_is_accepted_with_the_address_of_its_run(client):
    answer = client.post(f"{AT}/operations/scan", json={"steps": 2, "password": "guess me"})
    assert answer.status_code == 202
    assert answer.json()["name"] == "scan"
    number = answer.json()["id"]
    assert answer.headers["location"] == f"{AT}/operations/{number}"
    run = ended(client, number)
    assert (run["state"], run["result"], run["update"]) == ("done", {"steps": 2}, 1)
    assert "guess me" not in str(run)
    changes = client.get(answer.headers["location"], params={"after": 1}).json()["changes"]
    assert [each["seq"] for each in changes] == list(range(2, run["seq"] + 1))
    (listed,) = client.get(f"{AT}/operations", params={"active": False, "limit": 5}).json()
    assert (listed["id"], "result" in listed) == (number, False)
    assert client.get(f"{AT}/operations", params={"active": True}).json() == []
    assert client.post(f"{AT}/procedures/scan", json={}).status_code == 202


def test_run_is_cancelled(client):
    number = client.post(f"{AT}/operations/hold", json={}).json()["id"]
    answer = client.delete(f"{AT}/operations/{number}")
    assert (answer.status_code, answer.json()["id"]) in ((202, number), (200, number))
    run = ended(client, number)
    assert (run["state"], run["error"]) == ("cancelled", "cancelled by operator")
    assert client.delete(f"{AT}/operations/{number}").status_code == 200


def test_run_in_a_thread_is_not_cancelled_by_force_and_says_so(client):
    number = client.post(f"{AT}/operations/hold", json={}).json()["id"]
    answer = client.delete(f"{AT}/operations/{number}", params={"hard": True})
    assert "cannot be ended by force" in message(answer, 409)
    assert ended(client, number)["state"] == "cancelled"


def test_unknown_names_are_reported_with_those_most_like_them(client):
    assert "did you mean move? it has: move" in message(client.post(f"{AT}/commands/mvoe", json={}), 404)
    assert "did you mean position?" in message(client.get(f"{AT}/queries/positon"), 404)
    assert "has the kind operation, not command" in message(client.post(f"{AT}/commands/scan", json={}), 404)
    assert f"{AT[8:]}/operations/scan" in message(client.post(f"{AT}/queries/scan", json={}), 404)
    assert "no run 'x'" in message(client.get(f"{AT}/operations/x"), 404)
    assert "no run 'x'" in message(client.delete(f"{AT}/operations/x"), 404)
    assert "no node 'stag'; did you mean stage?" in message(
        client.post("/api/v1/nodes/stag/commands/move", json={}), 404
    )


def test_invalid_arguments_are_named_and_nothing_is_called(client, stage):
    assert "move: to: is missing; speed: is not known" in message(
        client.post(f"{AT}/commands/move", json={"speed": 1}), 400
    )
    assert "steps: " in message(client.post(f"{AT}/operations/scan", json={"steps": "few"}), 400)
    assert "gain: " in message(client.get(f"{AT}/queries/sum", params={"gain": "high"}), 400)
    message(client.post(f"{AT}/commands/move", json=[1]), 422)
    assert client.get(f"{AT}/operations").json() == []
    assert stage.callers == []


def test_arguments_of_the_calls_themselves_are_refused(client, stage):
    for name in ("_principal", "_wait", "_details"):
        for path in ("commands/move", "procedures/move", "operations/scan", "queries/sum"):
            answer = client.post(f"{AT}/{path}", json={name: {"user": "eve", "role": "operator"}})
            assert f"{name}: is not known" in message(answer, 400)
    assert stage.callers == []


def test_busy_operation_is_to_be_retried(client):
    client.post(f"{AT}/operations/hold", json={})
    answer = client.post(f"{AT}/operations/hold", json={})
    assert "axis is in use by run" in message(answer, 503)
    assert answer.headers["retry-after"] == "1"


def test_arguments_that_are_too_large_are_refused(client):
    answer = client.post(f"{AT}/operations/scan", json={"steps": "1" * 1_000_001})
    assert "1,000,000 bytes; send less" in message(answer, 413)


def test_consumer_may_query_and_nothing_else(sisock_stepped_site, stage, tmp_path):
    users = {"maria": {"password": "correct horse", "operator": True}, "paul": {"password": "battery staple"}}
    with gateway_of(sisock_stepped_site, tmp_path, users=users) as client:
        number = client.post(f"{AT}/operations/hold", json={}, auth=("maria", "correct horse")).json()["id"]
        client.auth = ("paul", "battery staple")
        assert client.get(f"{AT}/queries/position").json() == 0.0
        assert run_of(client, number)["state"] == "running"
        for answer in (
            client.post(f"{AT}/commands/move", json={"to": 1}),
            client.post(f"{AT}/commands/cancel_operation", json={"id": number}),
            client.post(f"{AT}/procedures/position", json={}),
            client.post(f"{AT}/operations/scan", json={}),
            client.delete(f"{AT}/operations/{number}"),
        ):
            assert "log in as a user who is one" in message(answer, 403)
        assert run_of(client, number)["state"] == "running"
    with gateway_of(sisock_stepped_site, tmp_path, operator=False) as client:
        assert "operator: true" in message(client.post(f"{AT}/operations/scan", json={}), 403)
        assert client.get(f"{AT}/queries/position").json() == 0.0
    assert stage.callers == []


def test_metrics_have_runs_calls_and_events(client):
    client.post(f"{AT}/operations/hold", json={})
    client.post(f"{AT}/commands/move", json={"to": 1})
    expected = (
        'sisock_runs{node="stage",state="running"} 1.0',
        'sisock_operations_total{counter="runs",node="stage"} 1.0',
        'sisock_calls_total{counter="commands",node="stage"} 1.0',
        'sisock_events_total{counter="dropped",node="stage"} 0.0',
    )
    assert wait_until(lambda: all(line in client.get("/metrics").text for line in expected), 20.0)


@contextmanager
def followed(client, number, **wanted):
    """Provide a function that returns the next change of a run."""
    with connect(str(client.base_url).replace("http", "ws", 1) + "/api/v1/live", open_timeout=60) as socket:
        socket.send(json.dumps({"op": "subscribe", "id": "a", "node": "stage", "operation": number, **wanted}))

        def following():
            return json.loads(socket.recv(timeout=60))

        assert following() == {"id": "a", "subscribed": True}
        yield following


def until_the_end(following):
    changes = [following()]
    while changes[-1]["state"] not in ("done", "failed", "cancelled"):
        changes.append(following())
    return changes


def updates(changes):
    return [each["update"] for each in changes if each["update"] is not None]


def is_followed(client, runs):
    return f"sisock_gateway_followed_runs {runs}.0" in client.get("/metrics").text


def test_run_is_followed_once_for_all_clients_until_it_ends(client, stage):
    number = client.post(f"{AT}/operations/hold", json={"steps": 3}).json()["id"]
    with followed(client, number) as one, followed(client, number, after=2) as other:
        assert is_followed(client, 1)
        stage.go.set()
        changes = until_the_end(one)
        assert updates(changes) == [0, 1, 2, 3, 4, 5]
        assert [each["seq"] for each in changes] == list(range(1, len(changes) + 1))
        assert {each["missed"] for each in changes} == {0}
        assert until_the_end(other) == changes[2:]
        assert wait_until(lambda: is_followed(client, 0), 20.0)
    with followed(
        client, number, after=changes[-1]["seq"]
    ) as following:  # its end is reported all the same, since it has ended
        assert following() == {**changes[-1], "update": None}


def test_client_that_vanishes_does_not_cancel_a_run(client, stage, sisock_stepped_site):
    number = client.post(f"{AT}/operations/hold", json={}).json()["id"]
    with followed(client, number) as following:
        following()
    with client.stream("GET", f"{AT}/operations/{number}/live") as answer:
        next(answer.iter_lines())
    assert wait_until(lambda: is_followed(client, 0), 20.0)
    router = sisock_stepped_site.router
    topic = f"{router.base_uri}.consumer.stage.operation.{number}"
    assert wait_until(lambda: not router.matching(topic), 20.0)
    assert run_of(client, number)["state"] == "running"
    stage.go.set()
    assert ended(client, number)["state"] == "done"


def test_changes_that_are_not_kept_are_counted(client, monkeypatch):
    monkeypatch.setattr(run_module, "_MOST_CHANGES", 5)
    number = client.post(f"{AT}/operations/scan", json={"steps": 20}).json()["id"]
    last = ended(client, number)["seq"]
    with followed(client, number) as following:
        changes = until_the_end(following)
    assert [each["seq"] for each in changes] == list(range(last - 4, last + 1))
    assert sum(each["missed"] for each in changes) == last - 5
    assert f'sisock_gateway_missed_total{{what="changes"}} {last - 5}.0' in client.get("/metrics").text


def test_changes_are_server_sent_events_until_the_end(client):
    number = client.post(f"{AT}/operations/scan", json={"steps": 2}).json()["id"]
    path = f"{AT}/operations/{number}/live"
    lines = client.get(path).text.splitlines()
    changes = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert (updates(changes), changes[-1]["state"]) == ([0, 1], "done")
    ids = [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]
    assert ids == [each["seq"] for each in changes]
    rest = client.get(path, headers={"Last-Event-ID": str(ids[-2])}).text
    assert f"id: {ids[-1]}" in rest
    assert f"id: {ids[-2]}" not in rest
    assert client.get(path, headers={"Last-Event-ID": str(ids[-1])}).status_code == 204
    assert "no run" in message(client.get(f"{AT}/operations/x/live"), 404)
