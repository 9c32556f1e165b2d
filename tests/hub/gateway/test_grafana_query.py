"""What the JSON and SimpleJson data sources ask, and what they get."""

import asyncio
import math
import re
from pathlib import Path

import numpy as np
import pytest

from sisock.errors import NodeFailed, NoRouter, TooLarge
from sisock.times import Interval
from sisock_hub.gateway.query_client import QueryClient
from sisock_hub.gateway.questions import Question
from tests.hub.gateway.grafana_site import BEGIN, FROM, TO, Gateway, query, standard


@pytest.fixture
def gateway(tmp_path):
    made = Gateway(tmp_path)
    standard(made.consumer)
    return made


def ask(gateway, *targets, status=200, **more):
    answer = gateway.post("/json/query", query(*targets, **more))
    assert answer.status_code == status, answer.text
    return answer.json()


def values(frame):
    return dict(zip([f["name"] for f in frame["schema"]["fields"]], frame["data"]["values"], strict=True))


def notices(item):
    return [n["text"] for n in (item.get("schema") or item).get("meta", {}).get("notices", [])]


def old(target, kind="timeserie", **more):
    return {"target": target, "type": kind, "hide": False, **more}


def test_newer_data_source_gets_data_frames(gateway):
    (frame,) = ask(gateway, "host::cpu.total")
    schema = frame["schema"]
    assert (schema["refId"], schema["name"]) == ("A", "host::cpu.total")
    time, value = schema["fields"]
    assert time == {"name": "time", "type": "time", "config": {}}
    assert value["type"] == "number"
    assert value["labels"] == {"node": "host", "field": "cpu.total"}
    assert value["config"] == {"displayNameFromDS": "host::cpu.total", "unit": "percent", "description": "All of it"}
    times, samples = frame["data"]["values"]
    assert len(times) == len(samples) <= 1920
    assert all(isinstance(t, int) for t in times)
    assert times[0] == round((BEGIN + 0.2504) * 1000)  # to the millisecond
    assert max(samples) == 99.0  # the spike is there


def test_older_data_source_gets_datapoints(gateway):
    (one, other) = ask(gateway, old("host::load"), old("rig::temperature"))
    assert one["target"] == "host::load"
    assert one["refId"] == "A"
    assert len(one["datapoints"]) == 360
    assert one["datapoints"][1] == [pytest.approx(1 / 359), (BEGIN + 10) * 1000]
    assert len(other["datapoints"]) == 60  # each has times of its own


@pytest.mark.parametrize("most", [2, 3, 10, 99, 1920])
def test_maximum_is_never_exceeded_and_no_spike_is_lost(gateway, most):
    gateway.consumer.ignores_points = {"host"}  # a node of another make
    (frame,) = ask(gateway, "host::cpu.total", maxDataPoints=most)
    times, samples = frame["data"]["values"]
    assert len(times) == len(samples) <= most
    assert max(samples) == 99.0


def test_interval_widens_the_stride_only_where_it_says_something_new(gateway):
    ask(gateway, "host::cpu.total", intervalMs=2000)
    assert gateway.consumer.asked[-1][4:] == (None, "minmax", 1920)
    (frame,) = ask(gateway, "host::cpu.total", intervalMs=60_000)
    assert gateway.consumer.asked[-1][4:] == (60.0, "minmax", 1920)
    assert len(frame["data"]["values"][0]) <= 122


def test_payload_chooses_method_and_form(gateway):
    target = {"target": "host::cpu.total", "payload": {"downsample": "mean", "format": "timeserie", "other": 1}}
    (one,) = ask(gateway, target, maxDataPoints=10)
    assert gateway.consumer.asked[-1][5:] == ("mean", 10)
    assert len(one["datapoints"]) <= 10
    assert (
        "median" in ask(gateway, {"target": "host::load", "payload": {"downsample": "median"}}, status=400)["message"]
    )
    assert "xml" in ask(gateway, {"target": "host::load", "payload": {"format": "xml"}}, status=400)["message"]


@pytest.mark.parametrize("payload", ["", None, {}, [], "text", 5, {"downsample": ""}])
def test_payload_may_be_anything(gateway, payload):
    assert ask(gateway, {"target": "host::load", "payload": payload})


def test_strings_and_bools_are_served(gateway):
    (frame,) = ask(gateway, "rig::{door,phase}")
    assert [f["type"] for f in frame["schema"]["fields"]] == ["time", "boolean", "string"]
    columns = values(frame)
    assert columns["rig::door"][9:14] == [False, True, True, True, False]
    assert columns["rig::phase"][:3] == ["rest", 'a "load"', "größe"]
    door, phase = ask(gateway, old("rig::door"), old("rig::phase"))
    assert [v for v, _ in door["datapoints"][9:12]] == [0, 1, 1]
    assert phase["datapoints"][1] == ['a "load"', (BEGIN + 60) * 1000]
    (table,) = ask(gateway, old("rig::*", "table"))
    assert [c["type"] for c in table["columns"]] == ["time", "boolean", "string", "number"]
    assert table["rows"][1] == [(BEGIN + 60) * 1000, False, 'a "load"', 21.0]


def test_fields_of_one_timeline_share_a_frame_and_others_have_times_of_their_own(gateway):
    frames = ask(gateway, "host::*")
    assert [[f["name"] for f in frame["schema"]["fields"]] for frame in frames] == [
        ["time", "host::cpu.total", "host::cpu.user", "host::temp (C)"],
        ["time", "host::load"],
    ]
    assert [frame["schema"]["name"] for frame in frames] == ["host", "host::load"]


def test_table_joins_timelines_on_time(gateway):
    (table,) = ask(gateway, old("{host::load,rig::temperature}", "table"))
    assert [c["text"] for c in table["columns"]] == ["Time", "host::load", "rig::temperature"]
    assert len(table["rows"]) == 360
    assert table["rows"][6] == [(BEGIN + 60) * 1000, pytest.approx(6 / 359), 21.0]
    assert table["rows"][7][2] is None


def test_nan_and_infinity_are_null(gateway):
    gateway.consumer.add("odd", "t", BEGIN + np.arange(4.0), {"x": np.array([1.0, math.nan, math.inf, 4.0])})
    (frame,) = ask(gateway, "odd::x")
    assert frame["data"]["values"][1] == [1.0, None, None, 4.0]
    (one,) = ask(gateway, old("odd::x"))
    assert [v for v, _ in one["datapoints"]] == [1.0, None, None, 4.0]


def test_several_nodes_are_asked_at_the_same_time_and_each_once(gateway):
    ask(gateway, "host::cpu.total", "rig::door", "host::load")
    assert sorted((node, fields) for node, fields, *_ in gateway.consumer.asked) == [
        ("host", ["cpu.total", "load"]),
        ("rig", ["door"]),
    ]
    assert frozenset({"host", "rig"}) in gateway.consumer.together


def test_many_panels_do_not_ask_too_much_of_a_node_at_once(gateway):
    async def panels():
        client, question = QueryClient(gateway.consumer, 20.0), Question(Interval(BEGIN, BEGIN + 10))
        await asyncio.gather(*(client.data("host", ["load"], question) for _ in range(20)))

    asyncio.run(panels())
    assert gateway.consumer.most_running["host"] == 2


def test_same_target_twice_is_answered_twice_and_asked_once(gateway):
    one, other = ask(gateway, "host::load", "host::load")
    assert (one["schema"]["refId"], other["schema"]["refId"]) == ("A", "B")
    assert len(gateway.consumer.asked) == 1


def test_node_that_fails_keeps_no_other_from_answering(gateway):
    gateway.consumer.errors["rig"] = NodeFailed("it is on fire")
    good, bad = ask(gateway, "host::load", "rig::door")
    assert len(good["data"]["values"][0]) == 360
    assert notices(good) == []
    assert bad["data"]["values"] == [[], []]
    assert notices(bad) == ["node 'rig': it is on fire"]
    _, bad = ask(gateway, old("host::load"), old("rig::door"))
    assert bad["datapoints"] == []
    assert notices(bad) == ["node 'rig': it is on fire"]


def test_node_that_hangs_keeps_no_other_from_answering(tmp_path):
    gateway = Gateway(tmp_path, timeout_s=0.5)
    standard(gateway.consumer)
    gateway.consumer.hangs.add("rig")
    good, bad = ask(gateway, "host::load", "rig::door")
    assert good["data"]["values"][0]
    assert "did not answer within 0.5 s" in notices(bad)[0]
    assert "did not answer" in ask(gateway, "rig::door", status=504)["message"]


def test_pattern_of_what_cannot_be_known_is_an_error_of_the_node(gateway):
    gateway.consumer.errors["rig"] = NodeFailed("its disk is full")
    assert "node 'rig': its disk is full" in ask(gateway, "rig::d*", status=502)["message"]
    assert ask(gateway, "*::load")[0]["data"]["values"][0]


def test_unknown_target_is_named(gateway):
    assert "'host::nix'" in ask(gateway, "host::nix", status=404)["message"]
    assert "no node 'nix'" in ask(gateway, "nix::load", status=404)["message"]
    assert "'*::nix*'" in ask(gateway, "*::nix*", status=404)["message"]
    good, bad, worse = ask(gateway, "host::load", "host::nix", "*::nix*")
    assert good["data"]["values"][0]
    assert "'host::nix'" in notices(bad)[0]
    assert "'*::nix*'" in notices(worse)[0]


def test_known_field_without_samples_is_empty_and_no_error(gateway):
    (frame,) = ask(gateway, "host::load", start="2001-01-01T00:00:00Z", end="2001-01-01T01:00:00Z")
    assert frame["data"]["values"] == [[], []]
    assert notices(frame) == []


def test_range_without_length_and_open_numbers(gateway):
    (frame,) = ask(gateway, "host::load", start=FROM, end=FROM)
    assert frame["data"]["values"] == [[], []]
    (frame,) = ask(gateway, "host::load", start=BEGIN * 1000, end=f"{(BEGIN + 100) * 1000:.0f}", maxDataPoints=None)
    assert len(frame["data"]["values"][0]) == 10
    content = '{"range": {"from": NaN, "to": Infinity}, "targets": [], "intervalMs": NaN}'
    answer = gateway.post("/json/query", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "intervalMs" in answer.json()["message"]
    answer = gateway.post("/json/query", content=content.replace('"intervalMs"', '"x"'))
    assert 400 <= answer.status_code < 500


def test_answer_that_is_too_large_is_told(gateway):
    gateway.consumer.errors["host"] = TooLarge("beyond what node 'host' allows")
    assert ask(gateway, "host::load", status=413)["error"] == "too_large"


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("host::cpu.*", ["host::cpu.total", "host::cpu.user"]),
        ("(host|rig)::load", ["host::load"]),
        (r"host::cpu\.total", ["host::cpu.total"]),
        ("host::temp (C)", ["host::temp (C)"]),  # is a name, though it has special characters
        ("{host::load,rig::door}", ["host::load", "rig::door"]),
        ("*::{load,door}", ["host::load", "rig::door"]),
    ],
)
def test_patterns_and_variables_are_expanded(gateway, target, names):
    found = [f["name"] for frame in ask(gateway, target) for f in frame["schema"]["fields"][1:]]
    assert found == names


def test_everything(gateway):
    assert sum(len(frame["schema"]["fields"]) - 1 for frame in ask(gateway, "*")) == 7


def test_hidden_and_empty_queries_are_not_answered(gateway):
    assert ask(gateway, {"target": "host::load", "hide": True}, {"target": ""}, {}) == []
    assert gateway.consumer.asked == []


def test_filters_narrow_patterns(gateway):
    def names(*filters):
        said = [dict(zip(("key", "operator", "value"), each, strict=True)) for each in filters]
        frames = ask(gateway, "*", adhocFilters=said)
        return [f["name"] for frame in frames for f in frame["schema"]["fields"][1:]]

    assert names(("type", "=", "bool")) == ["rig::door"]
    assert names(("node", "!=", "host"), ("type", "=", "number")) == ["rig::temperature"]
    assert names(("units", "=~", "%|°C")) == ["host::cpu.total", "host::temp (C)"]
    assert names(("node", "=", "nix")) == []
    assert ask(gateway, "rig::door", adhocFilters=[{"key": "node", "operator": "=", "value": "host"}])
    assert "colour" in ask(gateway, "*", adhocFilters=[{"key": "colour", "value": "red"}], status=400)["message"]
    wrong = ask(gateway, "*", adhocFilters=[{"key": "node", "operator": "=~", "value": "("}], status=400)
    assert "not a regular expression" in wrong["message"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"maxDataPoints": 0}, "maxDataPoints"),
        ({"maxDataPoints": 1}, "maxDataPoints"),
        ({"maxDataPoints": 10**9}, "maxDataPoints"),
        ({"maxDataPoints": "many"}, "maxDataPoints"),
        ({"intervalMs": -1}, "intervalMs"),
        ({"targets": "host::load"}, "targets"),
        ({"targets": [{"target": "host::load"}] * 501}, "500"),
        ({"targets": [{"target": "no separator"}]}, "node::field"),
        ({"targets": [{"target": "::"}]}, "node::field"),
        ({"range": {"from": TO, "to": FROM}}, "before from"),
        ({"range": {"from": "yesterday", "to": TO}}, "'yesterday' is not a valid time"),
        ({"range": {"from": -5, "to": TO}}, "from is -5"),
        ({"range": {"from": 0, "to": 1e300}}, "between 1970 and 2200"),
        ({"range": {"from": "1970-01-02T00:00:00Z", "to": "2199-01-01T00:00:00Z"}}, "200 years"),
        ({"range": None}, "range"),
        ({"targets": [{"target": "*"}] * 80}, "at most 500"),
        ({"targets": [{"target": "{" + ",".join(f"a::{i}" for i in range(501)) + "}"}]}, "more than 500"),
    ],
)
def test_nonsense_is_refused_with_words(gateway, change, said):
    answer = gateway.post("/json/query", query("host::load") | change)
    assert 400 <= answer.status_code < 500, answer.text
    assert said in answer.json()["message"], answer.text


def test_too_many_points_altogether_are_refused(gateway):
    many = [f"a::{i}" for i in range(400)]
    assert "fewer of either" in ask(gateway, *many, maxDataPoints=100_000, status=413)["message"]


@pytest.mark.parametrize("path", ["query", "annotations", "search", "variable", "tag-values", "metric-payload-options"])
@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"\xff\xfe", b'"x"', b"null"])
def test_bad_json_is_refused_with_words(gateway, path, content):
    answer = gateway.post(f"/json/{path}", content=content, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["message"]


def test_bodies_are_limited(gateway):
    for path in ("query", "search", "variable", "metrics", "tag-keys", "annotations"):
        answer = gateway.post(f"/json/{path}", content=b" " * 1_000_001)
        assert answer.status_code == 413, path
        assert "1,000,000 bytes" in answer.json()["message"]


def test_router_that_is_away_is_told_at_once(gateway):
    with gateway.without_router(NoRouter("nothing answers at ws://localhost")):
        for answer in (
            gateway.get("/json"),
            gateway.post("/json/query", query("host::load")),
            gateway.post("/json/query", query("*")),
            gateway.post("/json/search", {"target": ""}),
        ):
            assert answer.status_code == 503
            assert "nothing answers" in answer.json()["message"]


def test_connection_test(gateway):
    assert gateway.get("/json").status_code == 200  # as the backend of the newer one asks
    assert gateway.get("/json/").status_code == 200


def test_builder_lists_metrics_and_what_can_be_chosen(gateway):
    for body in ({}, {"metric": "host::load", "payload": {"downsample": "minmax"}}, None):
        metrics = gateway.post("/json/metrics", body).json()
        assert [each["value"] for each in metrics][:2] == ["host::cpu.total", "host::cpu.user"]
        assert len(metrics) == 7
    names = [payload["name"] for payload in metrics[0]["payloads"]]
    for name in names:
        body = {"metric": "host::load", "payload": {}, "name": name}
        assert gateway.post("/json/metric-payload-options", body).json()[0].keys() == {"label", "value"}
    assert gateway.post("/json/metric-payload-options", {"metric": "", "name": "x"}).status_code == 400


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("nodes", ["host", "rig"]),
        ("nodes r*", ["rig"]),
        ("fields rig", ["door", "phase", "temperature"]),
        ("fields (host|rig)", ["cpu.total", "cpu.user", "temp (C)", "load", "door", "phase", "temperature"]),
        ("rig::{door,phase}", ["rig::door", "rig::phase"]),
        ("*::temp*", ["host::temp (C)", "rig::temperature"]),
        ("CPU", ["host::cpu.total", "host::cpu.user"]),
        ("host::temp (C)", ["host::temp (C)"]),
        ("nix", []),
    ],
)
def test_names_are_found_for_variables(gateway, text, names):
    assert gateway.post("/json/search", {"target": text}).json() == names
    expected = [{"__text": name, "__value": name} for name in names]
    time_range = {"from": FROM, "to": TO, "raw": {"from": "now-7d", "to": "now"}}
    assert gateway.post("/json/variable", {"payload": {"target": text}, "range": time_range}).json() == expected
    assert gateway.post("/json/variable", {"payload": text}).json() == expected


def test_all_names(gateway):
    assert len(gateway.post("/json/search", {"target": ""}).json()) == 7
    assert len(gateway.post("/json/variable", {"payload": {}}).json()) == 7
    assert gateway.post("/json/variable", {"payload": [1]}).status_code == 400


def test_tags(gateway):
    keys = gateway.post("/json/tag-keys", {}).json()
    assert keys[0] == {"type": "string", "text": "node"}
    found = {
        key["text"]: [each["text"] for each in gateway.post("/json/tag-values", {"key": key["text"]}).json()]
        for key in keys
    }
    assert found["node"] == ["host", "rig"]
    assert found["units"] == ["%", "°C"]
    assert found["type"] == ["bool", "number", "string"]
    assert gateway.post("/json/tag-values", {"key": "colour"}).status_code == 400


def test_requests_are_described(gateway):
    described = gateway.app.openapi()
    assert described["paths"]["/grafana/json/query"]["post"]["requestBody"]
    assert "maxDataPoints" in str(described["components"]["schemas"]["QueryBody"])


def test_manual_has_every_route(gateway):
    manual = (Path(__file__).parents[3] / "docs" / "grafana.md").read_text()
    for path in gateway.app.openapi()["paths"]:
        if path.startswith("/grafana/"):
            name = path.rpartition("/")[2]
            assert re.search(rf"`(GET |POST )?/?{name}`|`/grafana/v1/{name}`|/{name}`", manual), path
