"""Values of a field whose units changed are never under other units than their own."""

import io
from dataclasses import replace

import numpy as np
import pytest
from fastapi import FastAPI

from sisock.cli import show
from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo
from sisock.errors import BadRequest
from sisock.fields import Field, Samples
from sisock.times import Interval
from sisock_hub.gateway.encoding import Tables, csv_writer, data_content
from sisock_hub.gateway.grafana.units import grafana_unit
from tests.hub.gateway.client import Client
from tests.hub.gateway.site import FakeConsumer, FakeNode, prometheus_of

T0 = 1_700_000_000.0
INFO = FieldInfo("level", "number", "m", None, "tl", 1.0)
EPOCHS = {"level": [(T0, Field("level", units="mm")), (T0 + 2, Field("level", units="m"))]}


def samples():
    return Samples(T0 + np.arange(4.0), {"level": np.array([1000.0, 1001.0, 1.0, 1.1])}, epochs=EPOCHS)


def data():
    return Data("tank", {"tl": samples()}, [], {"level": INFO})


def test_json_has_epochs():
    (timeline,) = data_content(data())["timelines"].values()
    assert timeline["epochs"] == {
        "level": [
            {"from": T0, "type": "number", "units": "mm"},
            {"from": T0 + 2, "type": "number", "units": "m"},
        ]
    }


def table(info, *pieces):
    tables = Tables([info], T0 + 9, finite=True)
    writer = csv_writer(tables)
    text = b"".join([*(written for piece in pieces for written in writer.write(piece)), writer.close()]).decode()
    return tables.schema, text


def test_table_has_a_column_for_each_units():
    changed = replace(INFO, epochs=tuple(EPOCHS["level"]))
    schema, text = table(changed, samples())
    assert text == (
        '"time","level [mm]","level [m]"\n'
        "2023-11-14 22:13:20.000000000Z,1000,\n"
        "2023-11-14 22:13:21.000000000Z,1001,\n"
        "2023-11-14 22:13:22.000000000Z,,1\n"
        "2023-11-14 22:13:23.000000000Z,,1.1\n"
    )
    assert [field.metadata for field in schema][1:] == [{b"units": b"mm"}, {b"units": b"m"}]
    # In pieces, of which each has one of them.
    whole = samples()
    pieces = [
        Samples(whole.t[part], {"level": whole.columns["level"][part]}, units={"level": units})
        for part, units in ((slice(0, 2), "mm"), (slice(2, 4), "m"))
    ]
    assert table(changed, *pieces) == (schema, text)


def test_table_of_a_time_has_the_units_of_that_time():
    changed = replace(INFO, epochs=tuple(EPOCHS["level"]))
    schema, _ = table(changed.within(Interval(T0, T0 + 2)))
    assert (schema.names, schema.field("level").metadata) == (["time", "level"], {b"units": b"mm"})
    schema, _ = table(changed.within(Interval(T0 + 2, T0 + 9)))
    assert (schema.names, schema.field("level").metadata) == (["time", "level"], {b"units": b"m"})


def test_units_that_change_while_a_table_is_written_are_refused():
    with pytest.raises(BadRequest, match="became m meanwhile"):
        table(replace(INFO, units="mm"), samples())


def test_infinity_is_an_empty_cell_of_csv():
    writer = csv_writer(Tables([INFO], T0 + 9, finite=True))
    found = Samples(T0 + np.arange(4.0), {"level": np.array([np.inf, -np.inf, np.nan, 1.5])})
    text = b"".join([*writer.write(found), writer.close()]).decode()
    assert [row.split(",")[1] for row in text.splitlines()[1:]] == ["", "", "", "1.5"]


def test_csv_of_the_command_line_has_a_column_for_each_units():
    out = io.StringIO()
    show.as_csv(out, data())
    assert out.getvalue() == (
        "time,unix_time,level [mm],level [m]\n"
        "2023-11-14T22:13:20.000Z,1700000000.0,1000.0,\n"
        "2023-11-14T22:13:21.000Z,1700000001.0,1001.0,\n"
        "2023-11-14T22:13:22.000Z,1700000002.0,,1.0\n"
        "2023-11-14T22:13:23.000Z,1700000003.0,,1.1\n"
    )
    assert show.as_json(data())["timelines"]["tl"]["epochs"]["level"][0] == {
        "from": T0,
        "type": "number",
        "units": "mm",
    }


def test_bools_of_csv_are_true_and_false():
    out = io.StringIO()
    show.as_csv(out, Data("n", {"tl": Samples(np.array([T0, T0 + 1]), {"on": np.array([True, False])})}, [], {}))
    assert [row.split(",")[2] for row in out.getvalue().split("\n")[1:3]] == ["true", "false"]


def test_pure_numbers_have_no_unit_in_grafana():
    assert (grafana_unit("1"), grafana_unit("mm")) == (None, "lengthmm")


@pytest.fixture
def api():
    node = FakeNode().add("level", T0 + np.arange(4.0), [1000.0, 1001.0, 1.0, 1.1], units="m", interval_s=1.0)
    node.epochs = EPOCHS
    node.infos["level"] = replace(node.infos["level"], epochs=tuple(EPOCHS["level"]))
    app = FastAPI()
    app.include_router(prometheus_of(FakeConsumer({"tank": node})))
    return Client(app, "http://localhost")


def test_prometheus_has_a_series_for_each_units(api):
    asked = {"query": "level", "start": T0, "end": T0 + 3, "step": 1}
    series = api.get("/api/v1/query_range", params=asked).json()["data"]["result"]
    found = {each["metric"]["units"]: [float(value) for _, value in each["values"]] for each in series}
    assert set(found) == {"mm", "m"}
    assert set(found["mm"]) == {1000.0, 1001.0}
    assert found["m"] == [1.0, 1.1]


@pytest.mark.parametrize(("units", "values"), [("mm", [1000.0, 1001.0]), ("m", [1.0, 1.1])])
def test_selector_by_units_finds_the_series_of_these_alone(api, units, values):
    query = f'last_over_time(sisock_field{{units="{units}"}}[1s])'
    asked = {"query": query, "start": T0, "end": T0 + 3, "step": 1}
    (series,) = api.get("/api/v1/query_range", params=asked).json()["data"]["result"]
    assert (series["metric"]["units"], [float(value) for _, value in series["values"]]) == (units, values)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("avg_over_time", {"mm": 1000.5, "m": 1.05}),
        ("max_over_time", {"mm": 1001.0, "m": 1.1}),
        ("min_over_time", {"mm": 1000.0, "m": 1.0}),
        ("count_over_time", {"mm": 2.0, "m": 2.0}),
    ],
)
def test_function_over_a_change_of_units_never_takes_them_together(api, function, found):
    result = api.get("/api/v1/query", params={"query": f"{function}(level[1m])", "time": T0 + 3}).json()["data"][
        "result"
    ]
    assert {each["metric"]["units"]: float(each["value"][1]) for each in result} == pytest.approx(found)


def test_rate_over_a_change_of_units_is_of_each(api):
    asked = {"query": "increase(level[1m])", "time": T0 + 3}
    result = api.get("/api/v1/query", params=asked).json()["data"]["result"]
    found = {each["metric"]["units"]: float(each["value"][1]) for each in result}
    assert set(found) == {"mm", "m"}
    assert 1.0 <= found["mm"] < 3.0  # no counter that began anew
    assert 0.1 <= found["m"] < 0.5


def test_series_and_values_of_labels_have_the_units_of_all_times(api):
    series = api.get("/api/v1/series", params={"match[]": "level"}).json()["data"]
    assert [each["units"] for each in series] == ["mm", "m"]
    assert api.get("/api/v1/label/units/values").json()["data"] == ["m", "mm"]
    units = [each["unit"] for each in api.get("/api/v1/metadata").json()["data"]["level"]]
    assert units == ["mm", "m"]
