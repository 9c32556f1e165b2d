"""What examples/grafana has for Grafana: as its documentation wants it, and every query answered by the gateway."""

import csv
import io
import itertools
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from sisock_nodes.udp.settings import UdpSettings
from sisock_nodes.udp.stream import Stream
from tests.hub.gateway.grafana_site import Gateway
from tests.hub.gateway.site import prometheus_of

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "grafana"
BOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
URL = "http://localhost:8082"
INFINITY = "yesoreyeram-infinity-datasource"
BUILT_IN = {"-- Grafana --", "-- Dashboard --", "-- Mixed --"}
# What Grafana and Infinity fill in by themselves.
GLOBAL = {"__timeFrom", "__timeTo", "__range", "__value", "__url_time_range"}


def read_yaml(path):
    return YAML(typ="safe").load(path)


def data_sources():
    return read_yaml(FOLDER / "provisioning" / "datasources" / "sisock.yaml")["datasources"]


def board(path):
    return json.loads(path.read_text())


def targets(content):
    """Yield every query of a dashboard: of panels, annotations and variables."""
    for panel in content["panels"]:
        yield from panel.get("targets", ())
    for annotation in content["annotations"]["list"]:
        if annotation["datasource"]["uid"] not in BUILT_IN:
            yield annotation["target"]
    for variable in content["templating"]["list"]:
        if "infinityQuery" in variable["query"]:
            yield variable["query"]["infinityQuery"]
        else:
            yield {"datasource": variable["datasource"], "expr": variable["query"]["query"]}


@pytest.fixture(scope="module")
def rig():
    """The timelines of the node of examples/rig."""
    content = read_yaml(ROOT / "examples" / "rig" / "site.yaml")["nodes"]["rig"]
    settings = UdpSettings.model_validate({name: said for name, said in content.items() if name != "history"})
    return [Stream(name, source).timeline for name, source in settings.sources.items()]


@pytest.fixture
def gateway(tmp_path, rig):
    made = Gateway(tmp_path)
    made.app.include_router(prometheus_of(made.consumer), prefix="/prometheus")
    now = float(int(time.time()))
    t = now - np.arange(600.0)[::-1]
    for timeline in rig:
        columns = {
            field.name: {
                "number": np.sin(t),
                "bool": t % 60 < 5,
                "string": np.array(["load", "rest"] * 300, object),
            }[field.type]
            for field in timeline.fields
        }
        about = {field.name: (field.units, field.description) for field in timeline.fields}
        made.consumer.add("rig", timeline.name, t, columns, gaps=[(now - 300, now - 290)], **about)
    status = {
        "timelines": {timeline.name: {"newest": now, "age": 0.0, "late": 0, "dropped": 3} for timeline in rig},
        "counters": {"errors": 0, "requests": 7},
    }
    made.watched("rig", since=now - 600, status=status)
    made.watched("host", "stale", since=now - 60, reason="nothing has come")
    made.watched("table", "gone", since=now - 60)
    made.consumer.add("host", "cpu", t, {"cpu.total": np.cos(t)}, **{"cpu.total": ("%", None)})
    made.happened("rig", "arrived", now - 600)
    made.now = now

    async def refresh():
        pass  # the states are those of this test

    made.watch.refresh = refresh
    return made


def test_data_sources_are_as_grafana_wants_them():
    content = read_yaml(FOLDER / "provisioning" / "datasources" / "sisock.yaml")
    assert content["apiVersion"] == 1
    found = content["datasources"]
    assert len({each["uid"] for each in found}) == len({each["name"] for each in found}) == len(found) == 2
    assert {each["type"] for each in found} == {"prometheus", INFINITY}
    assert [each["name"] for each in found if each.get("isDefault")] == ["sisock"]
    for each in found:
        assert each["access"] == "proxy"
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", each["uid"])
        assert each["url"].startswith("${SISOCK_URL}/")
        # A header's value is a secret, and belongs to the name of the same number.
        assert each["jsonData"]["httpHeaderName1"] == "Authorization"
        assert each["secureJsonData"] == {"httpHeaderValue1": "Bearer ${SISOCK_TOKEN}"}
    # Infinity sends secrets to these alone.
    assert found[1]["jsonData"]["allowedHosts"] == ["${SISOCK_URL}"]


def test_dashboards_are_provided():
    content = read_yaml(FOLDER / "provisioning" / "dashboards" / "sisock.yaml")
    assert content["apiVersion"] == 1
    (provider,) = content["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "${SISOCK_DASHBOARDS}"


def test_environment_is_told_in_the_manual():
    said = (FOLDER / "README.md").read_text()
    for path in (FOLDER / "provisioning").rglob("*.yaml"):
        for name in re.findall(r"\$\{(\w+)\}", path.read_text()):
            assert f"`{name}`" in said


def test_links_of_the_manual_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", (FOLDER / "README.md").read_text()):
        assert (FOLDER / target).exists(), target


def test_health_check_is_answered(gateway):
    url = data_sources()[1]["jsonData"]["customHealthCheckUrl"].replace("${SISOCK_URL}", URL)
    assert gateway.get(url).status_code == 200
    assert gateway.get(f"{URL}/prometheus/api/v1/query", params={"query": "1+1"}).status_code == 200


def test_dashboards_have_ids_of_their_own():
    contents = [board(path) for path in BOARDS]
    assert len(contents) == 3
    assert len({each["uid"] for each in contents}) == len({each["title"] for each in contents}) == 3
    for path, each in zip(BOARDS, contents, strict=True):
        assert each["uid"] == f"sisock-{path.stem}"
        assert each["id"] is None
        assert each["schemaVersion"] == 39


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_panels_are_laid_out_and_refer_to_what_is_there(path):
    content, known = board(path), {each["uid"]: each["type"] for each in data_sources()}
    ids = [panel["id"] for panel in content["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in content["panels"]:
        at = panel["gridPos"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert known[panel["datasource"]["uid"]] == panel["datasource"]["type"]
        assert panel["targets"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
    for target in targets(content):
        assert known[target["datasource"]["uid"]] == target["datasource"]["type"]


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_variables_and_links_lead_somewhere(path):
    content, text = board(path), path.read_text()
    names = {variable["name"] for variable in content["templating"]["list"]}
    used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", text)) - GLOBAL
    assert used <= names | {"__all"}, used - names
    for uid in re.findall(r'"/d/([\w-]+)', text):
        assert uid in {board(each)["uid"] for each in BOARDS}


def filled_in(text, gateway, variables):
    known = {
        "__timeFrom": str(round((gateway.now - 900) * 1000)),
        "__timeTo": str(round((gateway.now + 10) * 1000)),
        "__range": "900s",
        **variables,
    }
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: known[match[1] or match[2]], text)


def infinity_queries():
    return [
        pytest.param(target, id=f"{path.stem}-{target['url']}-{i}")
        for path in BOARDS
        for i, target in enumerate(targets(board(path)))
        if target["datasource"]["type"] == INFINITY
    ]


@pytest.mark.parametrize("nodes", ["rig", "{host,rig}"])
@pytest.mark.parametrize("target", infinity_queries())
def test_every_table_is_answered_with_the_columns_that_it_shows(gateway, target, nodes):
    assert (target["source"], target["parser"]) == ("url", "backend")  # so that alerts work, too
    base = next(each["url"] for each in data_sources() if each["type"] == INFINITY).replace("${SISOCK_URL}", URL)
    params = [
        (each["key"], filled_in(each["value"], gateway, {"node": nodes})) for each in target["url_options"]["params"]
    ]
    answer = gateway.get(base + target["url"], params=params)
    assert answer.status_code == 200, answer.text
    assert "x-sisock-notice" not in answer.headers
    rows = list(csv.DictReader(io.StringIO(answer.text))) if target["type"] == "csv" else answer.json()
    assert rows
    for column in target["columns"]:
        values = [row[column["selector"]] for row in rows]
        assert column["text"] == column["selector"]  # older versions of Infinity lose columns that are renamed
        there = [value for value in values if value not in (None, "")]
        if column["selector"] not in ("reason", "description", "units", "timeEnd"):
            assert there, column
        for value in there:
            check(column["type"], value, is_csv=target["type"] == "csv")


def check(kind, value, *, is_csv):
    match kind:
        case "timestamp_epoch":
            assert re.fullmatch(r"\d{13}", str(value)), value
        case "number":
            assert is_csv or isinstance(value, int | float)
            float(value)
        case "boolean":
            assert value in ("true", "false")
        case _:
            assert isinstance(value, str)


def prometheus_queries():
    return [
        pytest.param(target["expr"], id=f"{path.stem}-{i}")
        for path in BOARDS
        for i, target in enumerate(targets(board(path)))
        if target["datasource"]["type"] == "prometheus"
    ]


@pytest.mark.parametrize("expression", prometheus_queries())
def test_every_expression_is_answered(gateway, expression):
    # As Grafana's Prometheus data source fills in several values, and everything.
    for variables in ({"node": "(host|rig)", "units": "(%|°C|µm/m)"}, {"node": ".*", "units": ".*"}):
        said = filled_in(expression, gateway, variables)
        if match := re.fullmatch(r"label_values\((.*), (\w+)\)", said):
            answer = gateway.get(f"{URL}/prometheus/api/v1/label/{match[2]}/values", params={"match[]": match[1]})
            assert answer.json()["data"], answer.text
            continue
        grid = {"query": said, "start": gateway.now - 600, "end": gateway.now, "step": 60}
        answer = gateway.post(f"{URL}/prometheus/api/v1/query_range", data=grid).json()
        assert answer["status"] == "success", answer
        assert answer["data"]["result"]
        assert "warnings" not in answer


def test_rig_shows_every_field_of_the_example(rig):
    text = (FOLDER / "dashboards" / "rig.json").read_text()
    for timeline in rig:
        for field in timeline.fields:
            assert f'"rig::{field.name}"' in text
            assert f"rig::{timeline.name}." in text
