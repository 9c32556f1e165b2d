"""Values of a field whose units changed are never under other units than their own."""

import io

import numpy as np
import pytest
from fastapi import FastAPI

from sisock.cli import show
from sisock.consumer.data import Data, FieldInfo
from sisock.errors import BadRequest
from sisock.fields import Field, Samples
from sisock_hub.gateway.encoding import Tables, csv_writer, data_content
from sisock_hub.gateway.grafana.units import grafana_unit
from sisock_hub.gateway.prometheus import prometheus
from tests.hub.gateway.client import Client
from tests.hub.gateway.site import FakeConsumer, FakeNode

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


def test_table_of_other_units_than_its_column_is_refused():
    with pytest.raises(BadRequest, match="mm from 1700000000, m from 1700000002"):
        list(csv_writer(Tables([INFO], T0 + 9, finite=True)).write(samples()))
    later = Samples(T0 + np.array([2.0, 3.0]), {"level": np.array([1.0, 1.1])}, epochs=EPOCHS)
    assert list(csv_writer(Tables([INFO], T0 + 9, finite=True)).write(later))


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
    app = FastAPI()
    app.include_router(prometheus(FakeConsumer({"tank": node})))
    return Client(app, "http://localhost")


def test_prometheus_has_a_series_for_each_units(api):
    asked = {"query": "level", "start": T0, "end": T0 + 3, "step": 1}
    series = api.get("/api/v1/query_range", params=asked).json()["data"]["result"]
    found = {each["metric"]["units"]: [float(value) for _, value in each["values"]] for each in series}
    assert set(found) == {"mm", "m"}
    assert set(found["mm"]) == {1000.0, 1001.0}
    assert found["m"] == [1.0, 1.1]
