"""What the Infinity data source reads."""

import csv
import io

import numpy as np
import pytest

from sisock.errors import NodeFailed, NoRouter
from tests.hub.gateway.grafana_site import BEGIN, FROM, TO, Gateway, standard, tank

MS = {"from": str(int(BEGIN * 1000)), "to": str(int((BEGIN + 3600) * 1000))}


@pytest.fixture
def gateway(tmp_path):
    made = Gateway(tmp_path)
    standard(made.consumer)
    return made


def ask(gateway, *targets, status=200, **params):
    answer = gateway.get("/v1/data", params={"target": list(targets), **(params or MS)})
    assert answer.status_code == status, answer.text
    return answer


def rows(answer):
    return list(csv.DictReader(io.StringIO(answer.text)))


@pytest.mark.parametrize("start", [MS["from"], FROM, "2023-11-14T23:13:20+01:00"])
def test_times_are_read_as_grafana_writes_them(gateway, start):
    ask(gateway, "host::load", **{"from": start, "to": TO})
    assert gateway.consumer.asked[-1][2:4] == (BEGIN, BEGIN + 3600)


def test_relative_times(gateway):
    ask(gateway, "host::load", **{"from": "now-6h", "to": "now"})
    start, end = gateway.consumer.asked[-1][2:4]
    assert end - start == pytest.approx(6 * 3600)


def test_json_has_a_column_for_each_target(gateway):
    columns = ask(gateway, "host::load", "rig::door", "rig::phase").json()
    assert list(columns) == ["time", "host::load", "rig::door", "rig::phase"]
    assert {len(column) for column in columns.values()} == {360}
    assert columns["time"][:2] == [int(BEGIN * 1000), int(BEGIN * 1000) + 10_000]
    assert columns["rig::door"][:7] == [False, None, None, None, None, None, False]
    assert columns["rig::phase"][6] == 'a "load"'


def test_times_may_be_iso_to_the_millisecond(gateway):
    columns = ask(gateway, "host::cpu.total", time="iso", max_points="100000", **MS).json()
    assert columns["time"][0].startswith("2023-11-14T22:13:20.250")
    first = rows(ask(gateway, "host::cpu.total", time="iso", format="csv", **MS))[0]
    assert first["time"] == "2023-11-14T22:13:20.250Z"


def test_csv_has_a_column_for_each_target(gateway):
    answer = ask(gateway, "rig::*", "host::load", format="csv", **MS)
    assert answer.headers["content-type"].startswith("text/csv")
    table = rows(answer)
    assert list(table[0]) == ["time", "rig::door", "rig::phase", "rig::temperature", "host::load"]
    assert table[6] == {
        "time": str(int(BEGIN * 1000) + 60_000),
        "rig::door": "false",
        "rig::phase": 'a "load"',
        "rig::temperature": "21",
        "host::load": pytest.approx(str(6 / 359)),
    }
    assert table[7]["rig::door"] == table[7]["rig::phase"] == table[7]["rig::temperature"] == ""


def test_field_whose_units_changed_has_a_column_for_each(gateway):
    tank(gateway.consumer)
    answer = ask(gateway, "tank::level")
    assert answer.json()["tank::level [mm]"] == [1000.0, 1001.0, None, None]
    assert answer.json()["tank::level [m]"] == [None, None, 1.0, 1.1]
    text = ask(gateway, "tank::level", format="csv", **MS).text
    assert text.splitlines()[0] == '"time","tank::level [mm]","tank::level [m]"'
    # Also where so few are wanted that the gateway downsamples by itself, they are not taken together.
    gateway.consumer.ignores_points.add("tank")
    assert ask(gateway, "tank::level", max_points=2, **MS).json()["tank::level [m]"][-2:] == [1.0, 1.1]


def test_samples_within_a_millisecond_are_all_there(gateway):
    t = BEGIN + np.array([0.0, 0.0001, 0.0002, 0.001])
    gateway.consumer.add("fast", "a", t, {"x": np.arange(4.0)})
    gateway.consumer.add("fast", "b", t[[0, 3]], {"y": np.array([7.0, 8.0])})
    columns = ask(gateway, "fast::x", "fast::y").json()
    assert columns["fast::x"] == [0.0, 1.0, 2.0, 3.0]
    assert columns["fast::y"] == [7.0, None, None, 8.0]


def test_nan_and_infinity_are_nothing(gateway):
    values = np.array([np.nan, 1.0, np.inf, -np.inf])
    gateway.consumer.add("odd", "t", BEGIN + np.arange(4.0), {"x": values})
    assert ask(gateway, "odd::x").json()["odd::x"] == [None, 1.0, None, None]
    assert [row["odd::x"] for row in rows(ask(gateway, "odd::x", format="csv", **MS))] == ["", "1", "", ""]


def test_points_are_limited_and_no_spike_is_lost(gateway):
    columns = ask(gateway, "host::cpu.total", max_points="50", **MS).json()
    assert len(columns["time"]) <= 50
    assert max(columns["host::cpu.total"]) == 99.0
    ask(gateway, "host::cpu.total", max_points="50", interval_ms="600000", downsample="mean", **MS)
    assert gateway.consumer.asked[-1][4:] == (600.0, "mean", 50)
    ask(gateway, "host::cpu.total")
    assert gateway.consumer.asked[-1][4:] == (None, "minmax", 2000)


def test_several_values_of_a_variable(gateway):
    columns = ask(gateway, "{host,rig}::{load,door}").json()
    assert list(columns) == ["time", "host::load", "rig::door"]


def test_node_that_fails_keeps_no_other_from_answering(gateway):
    gateway.consumer.errors["rig"] = NodeFailed("it is on\nfire\x00\x1b – quite")
    answer = ask(gateway, "host::load", "rig::door")
    assert "on fire \\u2013 quite" in answer.headers["x-sisock-notice"]
    assert set(answer.json()["rig::door"]) == {None}
    assert ask(gateway, "rig::door", status=502).json()["error"] == "node_failed"


def test_field_without_samples_is_an_empty_column(gateway):
    nowhere = {"from": "0", "to": "1000"}
    assert ask(gateway, "host::load", **nowhere).json() == {"time": [], "host::load": []}
    assert (
        ask(gateway, "host::load", "rig::phase", format="csv", **nowhere).text == '"time","host::load","rig::phase"\n'
    )


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"max_points": "1"}, "max_points"),
        ({"max_points": "1000000000"}, "max_points"),
        ({"interval_ms": "nan"}, "interval_ms"),
        ({"from": MS["to"], "to": MS["from"]}, "before from"),
        ({"from": "never"}, "from: 'never' is not a valid time"),
        ({"from": "9" * 60}, "2200"),
        ({"from": "now-1x"}, "not a valid time"),
        ({"from": "now-999999999w"}, "1970"),
        ({"format": "xml"}, "format"),
        ({"time": "julian"}, "time"),
        ({"downsample": "median"}, "median"),
        ({"target": []}, "target"),
        ({"target": ["x"] * 501}, "target"),
        ({"target": "host"}, "node::field"),
        ({"target": "host::nix"}, "'host::nix'"),
        ({"target": "*::nix"}, "'*::nix'"),
    ],
)
def test_nonsense_is_refused_with_words(gateway, params, said):
    answer = gateway.get("/v1/data", params={"target": "host::load", **MS} | params)
    assert 400 <= answer.status_code < 500, answer.text
    assert said in answer.json()["message"]


def test_fields_are_listed_for_variables(gateway):
    found = gateway.get("/v1/fields").json()
    assert len(found) == 7
    assert found[0] == {
        "target": "host::cpu.total",
        "node": "host",
        "field": "cpu.total",
        "type": "number",
        "units": "%",
        "description": "All of it",
        "timeline": "cpu",
    }

    def targets(**params):
        return [row["target"] for row in gateway.get("/v1/fields", params=params).json()]

    assert targets(target="rig::*", type="bool") == ["rig::door"]
    assert targets(target="temp") == ["host::temp (C)", "rig::temperature"]
    gateway.consumer.errors["rig"] = NodeFailed("it is on fire")


def test_node_that_does_not_list_its_fields_is_told_of(gateway):
    gateway.consumer.errors["rig"] = NodeFailed("it is on fire")
    answer = gateway.get("/v1/fields")
    assert len(answer.json()) == 4
    assert "on fire" in answer.headers["x-sisock-notice"]


def test_nodes_are_a_table(gateway):
    import time

    newest = time.time() - 3
    timelines = {
        "cpu": {"newest": newest, "age": 3.0, "late": 2, "dropped": 1},
        "load": {"newest": newest - 9, "late": 1},
    }
    gateway.watched("host", status={"timelines": timelines, "counters": {"errors": 4, "requests": 9}})
    gateway.watched("rig", "stale", reason="nothing has come")
    gateway.watched("old", "gone")
    host, old, rig = gateway.get("/v1/nodes").json()
    assert host["age"] == pytest.approx(3, abs=2)
    assert {name: host[name] for name in ("state", "since", "timelines", "late", "dropped", "errors", "requests")} == {
        "state": "live",
        "since": int(BEGIN * 1000),
        "timelines": 2,
        "late": 3,
        "dropped": 1,
        "errors": 4,
        "requests": 9,
    }
    assert (rig["state"], rig["reason"], rig["newest"], rig["late"]) == ("stale", "nothing has come", None, None)
    assert old["state"] == "gone"
    assert [row["node"] for row in gateway.get("/v1/nodes", params={"state": "stale"}).json()] == ["rig"]


def test_router_that_is_away_is_told_at_once(gateway):
    with gateway.without_router(NoRouter("nothing answers")):
        for path in ("/v1/data?target=host::load", "/v1/data?target=*", "/v1/fields", "/v1/nodes"):
            assert gateway.get(path).status_code == 503
