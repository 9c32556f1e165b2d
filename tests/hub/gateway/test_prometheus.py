"""Prometheus' HTTP API against a site of arrays."""

import json
import math
import time

import numpy as np
import pytest
from fastapi import FastAPI

from sisock.errors import NodeFailed, NoHub, NoRouter
from sisock.testing import StepClock
from tests.hub.gateway.client import Client
from tests.hub.gateway.site import FakeConsumer, FakeNode, prometheus_of

T0 = 1_700_000_000.0
SECONDS = T0 + np.arange(0.0, 3600.0)
GRID = {"start": T0 + 600, "end": T0 + 900, "step": 60}


def site():
    host = FakeNode()
    host.add("cpu.total", SECONDS, SECONDS - T0, "%", 1.0, description="Busy time")
    host.add("up", SECONDS, SECONDS % 2 < 1, None, 1.0, type="bool")
    host.add("name", SECONDS, np.full(3600, "x", object), type="string")
    lab = FakeNode()
    lab.add("cpu.total", SECONDS[::10], np.full(360, 7.5), "%", 10.0)
    lab.add("p", [T0, T0 + 60, T0 + 120, T0 + 180], [math.nan, math.inf, -math.inf, 1e-7], "mbar")
    return FakeConsumer({"host": host, "lab": lab})


@pytest.fixture
def clock():
    return StepClock(T0 + 3600.0)


@pytest.fixture
def consumer():
    return site()


@pytest.fixture
def client(consumer, clock):
    return serve(consumer, clock)


def serve(consumer, clock, **options):
    app = FastAPI()
    app.include_router(prometheus_of(consumer, clock=clock, **options), prefix="/prometheus")
    return Client(app, "http://gateway/prometheus/api/v1/")


def get(client, path, status=200, /, **parameters):
    """Return the data, and check that GET and POST say the same where both are there."""
    if "match" in parameters:
        parameters["match[]"] = parameters.pop("match")
    answer = client.get(path, params=parameters)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    if path in ("query", "query_range", "series", "labels"):
        assert client.post(path, data=parameters).text == answer.text
    body = answer.json()
    if status == 200:
        assert body["status"] == "success"
        return body["data"]
    assert body["status"] == "error"
    return body["errorType"], body["error"]


def test_query_range_of_a_field(client):
    data = get(client, "query_range", query='sisock_field{node="host",field="cpu.total"}', **GRID)
    assert data == {
        "resultType": "matrix",
        "result": [
            {
                "metric": {"__name__": "sisock_field", "node": "host", "field": "cpu.total", "units": "%"},
                "values": [[T0 + 600 + 60 * i, str(600 + 60 * i)] for i in range(6)],
            }
        ],
    }


def test_each_field_has_a_metric_of_its_own(client):
    data = get(client, "query", query="cpu_total", time=T0 + 100)
    assert data["resultType"] == "vector"
    assert {(s["metric"]["node"], s["metric"]["__name__"], s["value"][1]) for s in data["result"]} == {
        ("host", "cpu_total", "100"),
        ("lab", "cpu_total", "7.5"),
    }


def test_bools_are_series_and_strings_are_not(client):
    fields = {
        s["metric"]["field"]: s["value"][1] for s in get(client, "query", query="sisock_field", time=T0)["result"]
    }
    assert fields == {"cpu.total": "7.5", "up": "1", "p": "NaN"}
    assert get(client, "query", query="up", time=T0 + 1)["result"][0]["value"] == [T0 + 1, "0"]


def test_time_is_now_when_not_given(client):
    assert get(client, "query", query='cpu_total{node="host"}')["result"][0]["value"] == [T0 + 3600, "3599"]


def test_functions_and_aggregations(client):
    assert get(client, "query", query='rate(cpu_total{node="host"}[1m])', time=T0 + 600)["result"] == [
        {"metric": {"node": "host", "field": "cpu.total", "units": "%"}, "value": [T0 + 600, "1"]}
    ]
    data = get(client, "query_range", query="sum by (units) (avg_over_time(cpu_total[10s])) * 2", **GRID)
    assert data["result"][0]["metric"] == {"units": "%"}
    assert data["result"][0]["values"][0] == [T0 + 600, "1206"]


def test_health_check_of_grafana(client):
    assert get(client, "query", query="1+1", time="4") == {"resultType": "scalar", "result": [4, "2"]}
    data = get(client, "query_range", query="1+1", **GRID)
    assert data["result"] == [{"metric": {}, "values": [[T0 + 600 + 60 * i, "2"] for i in range(6)]}]


def test_what_is_no_finite_number_is_written_as_prometheus_does(client):
    data = get(client, "query_range", query="p", start=T0, end=T0 + 180, step=60)
    assert [value for _, value in data["result"][0]["values"]] == ["NaN", "+Inf", "-Inf", "1e-07"]


def test_times_as_rfc_3339_and_steps_as_durations(client):
    moments = {"start": "2023-11-14T22:23:20Z", "end": "2023-11-14T23:28:20+01:00", "step": "1m"}
    assert get(client, "query_range", query="cpu_total", **moments) == get(
        client, "query_range", query="cpu_total", **GRID
    )


def test_series_labels_and_values(client):
    found = get(client, "series", match='{node="host"}')
    assert {(s["__name__"], s["field"]) for s in found} == {
        ("sisock_field", "cpu.total"),
        ("cpu_total", "cpu.total"),
        ("sisock_field", "up"),
        ("up", "up"),
    }
    assert len(get(client, "series", match=["up", "p", 'p{node="lab"}'], start=T0, end=T0 + 1)) == 2
    assert get(client, "labels") == ["__name__", "field", "node", "units"]
    assert get(client, "labels", match="up") == ["__name__", "field", "node"]
    assert get(client, "label/__name__/values") == ["cpu_total", "p", "sisock_field", "up"]
    assert get(client, "label/node/values") == ["host", "lab"]
    assert get(client, "label/node/values", match="up") == ["host"]
    assert get(client, "label/units/values") == ["%", "mbar"]
    assert get(client, "label/nothing/values") == []


def test_limit_cuts_and_says_so(client):
    answer = client.get("label/__name__/values", params={"limit": 2}).json()
    assert answer["data"] == ["cpu_total", "p"]
    assert answer["warnings"] == ["results truncated due to limit"]
    assert "limit is 'x'" in get(client, "labels", 400, limit="x")[1]


def test_metadata_is_what_the_nodes_say(client):
    data = get(client, "metadata")
    assert data["cpu_total"] == [
        {"type": "unknown", "help": "Busy time", "unit": "%"},
        {"type": "unknown", "help": "", "unit": "%"},
    ]
    assert list(get(client, "metadata", metric="p")) == ["p"]
    assert len(get(client, "metadata", limit=1)) == 1
    assert len(get(client, "metadata", limit_per_metric=1)["cpu_total"]) == 1


def test_buildinfo_names_a_version(client):
    assert get(client, "status/buildinfo")["version"].startswith("3.")


@pytest.mark.parametrize(
    ("path", "parameters", "said"),
    [
        ("query", {}, "query is missing"),
        ("query", {"query": ""}, "query is missing"),
        ("query", {"query": "sum("}, "is not PromQL"),
        ("query", {"query": 'x{a=~"("}'}, "regex"),
        ("query", {"query": "1", "time": "NaN"}, "time is 'NaN'"),
        ("query", {"query": "1", "time": "1700000000000"}, "seconds, not milliseconds"),
        ("query_range", {"query": "1", "end": 1, "step": 1}, "start is missing"),
        ("query_range", {"query": "1", "start": 0, "step": 1}, "end is missing"),
        ("query_range", {"query": "1", "start": 0, "end": 1}, "step is missing"),
        ("query_range", {"query": "1", "start": 2, "end": 1, "step": 1}, "lies before start"),
        ("query_range", {"query": "1", "start": 0, "end": 1, "step": 0}, "step is '0'"),
        ("query_range", {"query": "1", "start": 0, "end": 1, "step": "-1s"}, "step is '-1s'"),
        ("query_range", {"query": "1", "start": 0, "end": 1, "step": "NaN"}, "step is 'NaN'"),
        ("query_range", {"query": "1", "start": 0, "end": 12000, "step": 1}, "at most 11,000"),
        ("query_range", {"query": "1", "start": "-Inf", "end": 1, "step": 1}, "start is '-Inf'"),
        ("series", {}, "match[] is missing"),
        ("series", {"match[]": "sum(x)"}, "is not a selector"),
        ("series", {"match[]": [f"a{i}" for i in range(101)]}, "at most 100"),
        ("labels", {"start": 2, "end": 1}, "lies before start"),
        ("label/node/values", {"match[]": "{"}, "is not PromQL"),
    ],
)
def test_bad_parameters_are_told_what_is_wrong(client, path, parameters, said):
    kind, message = get(client, path, 400, **parameters)
    assert kind == "bad_data"
    assert said in message


@pytest.mark.parametrize("text", ["topk(1, up)", "up > 1", "up + p", "irate(up[5m])", "up @ 5", "up[5m]"])
def test_what_is_not_supported_is_named_with_what_is(client, text):
    kind, message = get(client, "query", 422, query=text)
    assert kind == "execution"
    assert "is not supported; supported are: selectors with offset; rate," in message


def test_series_that_become_the_same_are_an_error_of_execution(client):
    _, message = get(client, "query", 422, query='rate({node="host"}[1m])')
    assert "same labels" in message


def test_form_of_another_kind_is_refused(client):
    assert client.post("query", json={"query": "1"}).status_code == 400
    assert "more than 1,000,000 bytes" in client.post("query", data={"query": "1" * 10**6}).json()["error"]
    assert client.post("query?query=2", data={"query": "1"}).json()["data"]["result"][1] == "1"
    assert client.post("query?query=2").json()["data"]["result"][1] == "2"
    assert (
        client.post(
            "query", content=b"query=%ff", headers={"content-type": "application/x-www-form-urlencoded"}
        ).status_code
        == 400
    )


def test_fields_are_asked_at_once_per_node_and_only_of_nodes_that_may_have_them(client, consumer):
    get(client, "series", match='{node="host"}')
    assert set(consumer.asked_fields) == {"host"}
    consumer.asked_data.clear()
    client.get("query", params={"query": "sisock_field", "time": T0})
    asked = sorted((node, sorted(fields)) for node, fields, *_ in consumer.asked_data)
    # One question per node and need; of `p` it is not known how many samples there are.
    assert asked == [("host", ["cpu.total", "up"]), ("lab", ["cpu.total"]), ("lab", ["p"])]
    assert consumer.most_running == 2


def test_field_lists_are_remembered_for_some_seconds(client, consumer, clock):
    for _ in range(3):
        client.get("labels")
    assert sorted(consumer.asked_fields) == ["host", "lab"]
    clock.step(6.0)
    client.get("labels")
    assert sorted(consumer.asked_fields) == ["host", "host", "lab", "lab"]
    del consumer.site["lab"]
    assert get(client, "label/node/values") == ["host"]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (NodeFailed("its disk is full"), "node 'bad': its disk is full"),
        (RuntimeError("a bug"), "node 'bad': the answer cannot be read: RuntimeError('a bug')"),
        (None, "node 'bad' did not answer within 1 s"),
    ],
)
def test_node_that_fails_or_hangs_costs_only_its_own_fields(clock, trouble, said):
    consumer = site()
    consumer.site["bad"] = FakeNode(trouble=trouble, hangs=trouble is None)
    client = serve(consumer, clock, timeout_s=1.0)
    begun = time.monotonic()
    answer = client.get("query", params={"query": "cpu_total", "time": T0})
    assert time.monotonic() - begun < 5
    assert len(answer.json()["data"]["result"]) == 2
    assert answer.json()["warnings"] == [said]
    assert client.get("label/node/values").json()["warnings"] == [said]
    assert "warnings" not in client.get("query", params={"query": 'cpu_total{node="lab"}', "time": T0}).json()


def test_router_that_is_away_is_told_at_once(consumer, client):
    consumer.trouble = NoRouter("no router answers")
    consumer.nodes = None  # is not asked
    for path in ("query?query=up", "labels", "metadata"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]) == (503, "no router answers")


def test_node_that_fails_only_when_asked_for_samples_is_in_the_warnings(clock):
    consumer = site()
    client = serve(consumer, clock, timeout_s=1.0)
    client.get("labels")
    consumer.site["lab"].hangs = True
    answer = client.get("query", params={"query": "cpu_total", "time": T0}).json()
    assert [s["metric"]["node"] for s in answer["data"]["result"]] == ["host"]
    assert answer["warnings"] == ["node 'lab' did not answer within 1 s"]


def test_hub_that_is_away_makes_the_api_unavailable(client, consumer):
    async def away():
        raise NoHub("the router is there, but no hub")

    consumer.nodes = away
    assert get(client, "query", 503, query="up") == ("unavailable", "the router is there, but no hub")


def test_long_stretches_are_thinned_by_the_nodes(clock):
    consumer = site()
    client = serve(consumer, clock, most_samples=1000)
    grid = {"start": T0 + 600, "end": T0 + 3000, "step": 300}
    for query, method in (
        ("cpu_total", "first"),
        ("rate(cpu_total[5m])", "first"),
        ("avg_over_time(cpu_total[5m])", "mean"),
        ("min_over_time(cpu_total[5m])", "min"),
        ("max_over_time(cpu_total[5m])", "max"),
    ):
        exact = get(serve(site(), clock), "query_range", query=query, **grid)
        consumer.asked_data.clear()
        data = get(client, "query_range", query=query, **grid)
        (stride, asked) = next((each[4], each[5]) for each in consumer.asked_data if each[0] == "host")
        assert asked == method
        assert stride == 300 / 16
        assert next(each[4] for each in consumer.asked_data if each[0] == "lab") is None  # 10 s apart: few enough
        for ours, theirs in zip(data["result"], exact["result"], strict=True):
            a, b = (np.array([[at, float(v)] for at, v in s["values"]]) for s in (ours, theirs))
            np.testing.assert_array_equal(a[:, 0], b[:, 0])
            np.testing.assert_allclose(a[:, 1], b[:, 1], atol=2 * stride, rtol=0.1)


def test_counting_or_bools_above_the_limit_are_refused(clock):
    client = serve(site(), clock, most_samples=1000)
    grid = {"start": T0 + 600, "end": T0 + 3000, "step": 300}
    for query, said in (
        ("count_over_time(cpu_total[5m])", "cannot be counted"),
        ("avg_over_time(up[5m])", "a bool field has no mean"),
        ("rate(cpu_total[5s])", "too few for windows of 5 s"),
    ):
        kind, message = get(client, "query_range", 422, query=query, **grid)
        assert kind == "execution"
        assert said in message
    assert get(client, "query_range", query="max(up)", **grid)["result"]


def test_what_may_be_too_much_and_is_not_known_to_be_is_bounded_by_the_node(clock):
    node = FakeNode().add("x", SECONDS, SECONDS)
    client = serve(FakeConsumer({"n": node}), clock, most_samples=1000)
    grid = {"start": T0 + 600, "end": T0 + 3000, "step": 300}
    assert len(get(client, "query_range", query="rate(x[5m])", **grid)["result"][0]["values"]) == 9
    assert "cannot be counted" in get(client, "query_range", 422, query="count_over_time(x[5m])", **grid)[1]
    assert get(client, "query", query="count_over_time(x[5m])", time=T0 + 600)["result"][0]["value"][1] == "300"


def test_too_many_values_are_refused(clock):
    node = FakeNode()
    for i in range(1000):
        node.add(f"f{i}", [T0], [1.0], interval_s=1.0)
    client = serve(FakeConsumer({"n": node}), clock)
    kind, message = get(client, "query_range", 422, query="sisock_field", start=T0, end=T0 + 10_999, step=1)
    assert kind == "execution"
    assert "1,000 series" in message


def test_large_answers_are_asked_for_in_pieces_that_nodes_allow(clock):
    node = FakeNode()
    for i in range(10):
        node.add(f"f{i}", [T0], [float(i)], interval_s=0.001)
    consumer = FakeConsumer({"n": node})
    result = get(serve(consumer, clock), "query_range", query="sisock_field", start=T0, end=T0 + 600, step=60)["result"]
    assert len(result) == 10
    assert max(len(fields) for _, fields, *_ in consumer.asked_data) == 3  # of 900,000 samples each


def test_many_series_share_what_a_query_may_read(clock):
    node = FakeNode()
    for i in range(50):
        node.add(f"f{i}", [T0], [float(i)], interval_s=0.001)
    consumer = FakeConsumer({"n": node})
    get(serve(consumer, clock), "query_range", query="sisock_field", start=T0, end=T0 + 600, step=60)
    strides = {each[4] for each in consumer.asked_data}
    assert len(strides) == 1
    assert 900 / strides.pop() <= 20_000_000 / 50


def test_field_that_became_a_text_is_in_the_warnings(clock):
    node = FakeNode().add("x", [T0, T0 + 1], np.array(["a", "b"], object), interval_s=1.0)
    answer = serve(FakeConsumer({"n": node}), clock).get("query", params={"query": "x", "time": T0 + 1}).json()
    assert answer["data"]["result"] == []
    assert answer["warnings"] == ["node 'n': field 'x' holds no numbers in this interval"]


def test_times_before_1970_have_no_samples_and_ask_for_none_relative_to_now(client):
    for start in ("-100000", "0", "1969-12-31T00:00:00Z"):
        assert get(client, "query_range", query="cpu_total", start=start, end=1, step="1h")["result"] == []


def test_labels_with_any_text_are_json(clock):
    node = FakeNode().add('a"%s\\,[]|null', [T0], [1.5], units="°C", interval_s=1.0)
    data = get(serve(FakeConsumer({"n": node}), clock), "query", query="sisock_field", time=T0)
    assert data["result"][0]["metric"]["field"] == 'a"%s\\,[]|null'
    assert json.dumps(data["result"][0]["value"]) == f'[{int(T0)}, "1.5"]'
