"""`type: python`: a class of a module as a node."""

import re
import sys
from pathlib import Path

import pytest

from sisock.consumer import in_reactor
from sisock.errors import BadRequest, SiteError
from sisock.node import open_node
from sisock.node_context import make_context
from sisock.service_node import ServiceNode
from sisock.site import check_site, load_site
from sisock.times import wait_until
from sisock.wamp.session import Session
from sisock_nodes.python import make_service
from sisock_nodes.python.settings import PythonSettings
from tests.sisock.test_offers import call

MODULE = """
import sisock
from sisock.procedure import Query
from sisock.service import Service


class Weather(sisock.DataNodeServer):
    "The weather, as published scripts serve it."

    name = "weather"
    description = "Weather"

    def __init__(self, config=None, offset=0.0):
        super().__init__(config)
        self.offset = offset

    def get_fields_blocking(self, start, end):
        return {"t": {"description": "", "timeline": "t", "type": "number", "units": "K"}}, {"t": {"interval": 1.0, "field": ["t"]}}

    def get_data_blocking(self, field, start, end, min_stride=None):
        return {"data": {"t": [270.0 + self.offset]}, "timeline": {"t": {"t": [start + 1.0], "finalized_until": end}}}


class Lift(Service):
    "A lift."

    def __init__(self, floors=3):
        self.floors = floors
        self.offers = [Query("floors", "Return the number of floors.", None, None, lambda: self.floors)]


class Neither:
    pass


number = 7
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setenv("SISOCK_SERVER_SECRET", "a")
    monkeypatch.setenv("SISOCK_CONSUMER_SECRET", "b")
    (tmp_path / "own_nodes.py").write_text(MODULE)
    yield tmp_path
    for name in ("own_nodes", "lift"):
        sys.modules.pop(name, None)


def problems(folder, node):
    (folder / "site.yaml").write_text(f"nodes: {{mine: {{type: python, {node}}}}}\n")
    try:
        check_site(folder)
    except SiteError as error:
        return [problem.removeprefix(f"{folder}/site.yaml:1: nodes.mine") for problem in error.problems]
    return []


@pytest.mark.parametrize("node", ["class: own_nodes:Weather, arguments: {offset: 1.5}", "class: own_nodes:Lift"])
def test_classes_of_both_kinds_are_fine(folder, node):
    assert problems(folder, node) == []


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        ("class: own_nodes", r"\.class: 'own_nodes' does not name a class; write package.module:Class"),
        (
            "class: no_nodes:Lift",
            r": module no_nodes is neither in .* nor installed; `path` sets the folder to look in",
        ),
        ("class: own_nodes:Left", ": class own_nodes:Left: own_nodes has no Left; it has Lift, Weather"),
        (
            "class: own_nodes:Neither",
            ": class own_nodes:Neither is neither a sisock.base.DataNodeServer nor a .*Service",
        ),
        ("class: own_nodes:number", ": class own_nodes:number is neither a sisock.base.DataNodeServer nor a"),
        ("class: own_nodes:Service", ": class own_nodes:Service is the base itself; derive a class of your own"),
        (
            "class: own_nodes:Lift, arguments: {floor: 1}",
            r": class own_nodes:Lift does not take these arguments \(given: floor\)",
        ),
        (
            "class: own_nodes:Lift, history: {path: h}",
            ": history: a class of your own has no history here; leave it out",
        ),
    ],
)
def test_classes_that_cannot_be_nodes_are_reported_by_check(folder, node, problem):
    (found,) = problems(folder, node)
    assert re.match(problem, found), found


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("import not_installed", ": module own_nodes cannot be imported: No module named 'not_installed'"),
        ("1 / 0", ": module own_nodes cannot be imported: ZeroDivisionError: division by zero"),
        ("def x(:", ": module own_nodes cannot be imported: SyntaxError: "),
        (
            "import os\nprint('no device', flush=True)\nos._exit(3)",
            r": class own_nodes:Lift cannot be imported: .* ended \(exit status 3\); its last lines:\n  no device",
        ),
    ],
)
def test_modules_that_cannot_be_imported_are_reported_by_check(folder, module, problem):
    (folder / "own_nodes.py").write_text(module)
    (found,) = problems(folder, "class: own_nodes:Lift")
    assert re.match(problem, found), found


def settings(folder, **given):
    return PythonSettings.model_validate({"type": "python", **given}, context={"folder": folder})


def test_data_node_server_is_served_under_the_name_of_the_site(folder, sisock_stepped_site):
    made = make_service(
        settings(folder, **{"class": "own_nodes:Weather", "description": "Ours", "arguments": {"offset": 2.0}}),
        make_context("roof"),
    )
    sisock_stepped_site.serve(made)
    with sisock_stepped_site.consumer() as consumer:
        assert [(node.name, node.description) for node in consumer.nodes()] == [("roof", "Ours")]
        assert list(consumer.data("roof", ["t"], 100.0, 200.0)["t"]) == [272.0]


def test_service_is_served_with_its_arguments(folder, sisock_stepped_site):
    context = make_context("lift")
    service = make_service(settings(folder, **{"class": "own_nodes:Lift", "arguments": {"floors": 9}}), context)
    sisock_stepped_site.serve(ServiceNode(service, context))
    client = sisock_stepped_site.serve(Session).session
    assert call(client, "consumer.lift.query.floors") == 9


def test_class_without_sources_is_not_opened_as_a_node_with_some(folder):
    with pytest.raises(
        BadRequest, match="'lift' is of type python, which has no sources; serve it by `sisock node run`"
    ):
        open_node("lift", settings(folder, **{"class": "own_nodes:Lift"}))


def test_service_of_the_docs_does_what_they_state(folder, sisock_stepped_site):
    page = (Path(__file__).parents[2] / "docs" / "services.md").read_text()
    (folder / "lift.py").write_text(re.search(r"```python\n(.*?)```", page, re.S)[1])
    (folder / "site.yaml").write_text(re.search(r"```yaml\n(.*?)```", page, re.S)[1])
    site, context = check_site(folder), make_context("lift")
    service = make_service(site.nodes["lift"], context)
    sisock_stepped_site.serve(ServiceNode(service, context))
    client = sisock_stepped_site.serve(Session).session
    floors = []
    in_reactor(lambda: client.subscribe(floors.append, client.uri("consumer.lift.floor"))).result(10.0)
    assert call(client, "control.lift.move", floor=2) == 2
    assert wait_until(lambda: floors[-1:] == [2], 10.0)
    call(client, "control.lift.lock")
    assert call(client, "consumer.lift.status")["health"]["error"] == "the lift is locked"


def test_secrets_of_a_node_are_those_below_its_name(folder):
    (folder / "site.yaml").write_text("nodes: {mine: {type: python, class: own_nodes:Lift}}\n")
    secrets = folder / "secrets.yaml"
    secrets.write_text("nodes: {mine: {token: abc}, other: {token: def}}\n")
    secrets.chmod(0o600)
    assert load_site(folder).secrets_of("mine") == {"token": "abc"}
    assert load_site(folder).secrets_of("another") == {}
    with pytest.raises(SiteError, match="nodes.other is not a node of .*site.yaml"):
        check_site(folder)
