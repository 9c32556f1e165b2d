"""Gaps, alarms and what happened to nodes, as marks in dashboards."""

import numpy as np
import pytest

from sisock_hub.gateway.grafana.annotations import spans
from tests.hub.gateway.grafana_site import BEGIN, FROM, TO, Gateway, query, standard


@pytest.fixture
def gateway(tmp_path):
    made = Gateway(tmp_path)
    standard(made.consumer)
    made.happened("host", "arrived", BEGIN - 5)
    made.happened("host", "stale", BEGIN + 100.0004, "host is stale: nothing has come on cpu for 30 s")
    made.happened("rig", "left", BEGIN + 200)
    return made


def marks(gateway, text, status=200):
    body = {
        "range": {"from": FROM, "to": TO},
        "rangeRaw": {"from": "now-1h", "to": "now"},
        "annotation": {
            "name": "deploy",
            "datasource": "Simple JSON Datasource",
            "iconColor": "rgba(255, 96, 96, 1)",
            "enable": True,
            "query": text,
        },
    }
    answer = gateway.post("/json/annotations", body)
    assert answer.status_code == status, answer.text
    if status != 200:
        return answer.json()["message"]
    found = answer.json()
    assert all(each["annotation"] == body["annotation"] for each in found)
    return found


@pytest.mark.parametrize("text", ["", "*", "events", " events "])
def test_events_of_all_nodes(gateway, text):
    stale, left = marks(gateway, text)
    assert stale["time"] == 1_700_000_100_000
    assert "timeEnd" not in stale
    assert stale["title"] == "host stale"
    assert "nothing has come" in stale["text"]
    assert left["tags"] == ["event", "left", "rig"]


def test_events_of_some_nodes(gateway):
    assert [each["title"] for each in marks(gateway, "events r*")] == ["rig left"]
    assert len(marks(gateway, "events {host,rig}")) == 2


def test_gaps_are_regions(gateway):
    (gap,) = marks(gateway, "gaps host::load")
    assert (gap["time"], gap["timeEnd"], gap["isRegion"]) == ((BEGIN + 1800) * 1000, (BEGIN + 1900) * 1000, True)
    assert "100 s" in gap["text"]
    assert len(marks(gateway, "gaps *::*")) == 1
    assert gateway.consumer.asked[-1][-1] == 2  # no more samples than necessary are asked for


def test_alarms_are_regions_while_a_bool_is_true(gateway):
    assert [
        ((a["time"] / 1000 - BEGIN) / 60, (a["timeEnd"] / 1000 - BEGIN) / 60)
        for a in marks(gateway, "alarms rig::door")
    ] == [
        (10, 13),
        (30, 31),
    ]
    assert gateway.consumer.asked[-1][4:] == (None, "first", None)  # as they are: no short alarm is lost


def test_numbers_may_be_alarms_and_texts_may_not(gateway):
    assert len(marks(gateway, "alarms host::load")) == 1
    assert "is a string" in marks(gateway, "alarms rig::phase", status=400)


def test_what_is_no_query_is_told(gateway):
    assert "events" in marks(gateway, "#deploy", status=400)
    assert "gaps node::field" in marks(gateway, "gaps", status=400)
    assert "'host::nix'" in marks(gateway, "gaps host::nix", status=404)
    assert "no node 'nix'" in marks(gateway, "alarms nix::x", status=404)


def test_newer_data_source_asks_for_marks_as_for_samples(gateway):
    answer = gateway.post("/json/query", query("alarms rig::door", "host::load", "events"))
    assert answer.status_code == 200, answer.text
    by_query = {item["schema"]["refId"]: item for item in answer.json()}
    alarms = by_query["A"]
    assert [f["name"] for f in alarms["schema"]["fields"]] == ["time", "timeEnd", "title", "text", "tags"]
    assert alarms["data"]["values"][0] == [(BEGIN + 600) * 1000, (BEGIN + 1800) * 1000]
    assert by_query["C"]["data"]["values"][1] == [None, None]
    assert len(by_query["B"]["data"]["values"][0]) == 360


def test_infinity_gets_rows(gateway):
    rows = gateway.get("/v1/annotations", params={"query": "alarms rig::door", "from": FROM, "to": TO}).json()
    assert [row["isRegion"] for row in rows] == [True, True]
    rows = gateway.get("/v1/annotations", params={"from": FROM, "to": TO}).json()
    assert [row["title"] for row in rows] == ["host stale", "rig left"]


def test_number_of_marks_is_limited(gateway):
    for i in range(6000):
        gateway.happened("rig", "live", BEGIN + 300 + i / 10)
    found = marks(gateway, "events")
    assert len(found) == 5000
    assert found[-1]["time"] == (BEGIN + 300 + 599.9) * 1000


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([False, False], []),
        ([True], [(0.0, 0.0)]),
        ([True, False, True, True], [(0.0, 1.0), (2.0, 3.0)]),
        ([0.0, np.nan, 2.0, 0.0], [(2.0, 3.0)]),
    ],
)
def test_spans_begin_and_end_with_samples(values, expected):
    assert spans(np.arange(float(len(values))), np.asarray(values)) == expected
