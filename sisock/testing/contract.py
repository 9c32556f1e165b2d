"""The contract of a data node, as tests of the nodes of any site file.

A package that brings a node type runs them on an example of its settings, through a real router::

    pytest --pyargs sisock.testing.contract --sisock-site site.yaml

Each node of the file is served under a name of its own until all its fields have samples, and is then held to what
``docs/wire-contract.md`` promises to every client.
"""

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from sisock.access import Access
from sisock.consumer import BlockingConsumer, in_reactor
from sisock.node import Node, open_node
from sisock.testing.fixtures import RunningRouter
from sisock.testing.serving import Serving
from sisock.times import wait_until
from sisock.wamp.session import Session

_PATIENCE_S = 60.0
_CALL_S = 15.0
_TYPES = {"number": (int, float, type(None)), "string": (str,), "bool": (bool,)}


class Served(NamedTuple):
    """A node that is served and has samples of all its fields."""

    node: Node
    call: Callable[..., Any]
    """Calls a procedure of the node, named by the end of its URI, and returns what the wire carries."""


class WireCaller:
    """Calls procedures of nodes in the role ``consumer``, without reading what they answer as `Consumer` does."""

    def __init__(self, access: Access) -> None:
        self._session: Session | None = None
        self._serving = Serving(access)
        self._serving.serve(self._make_session)

    def _make_session(self, config: Any) -> Session:
        self._session = Session(config)
        return self._session

    def call(self, uri: str, *args: Any, **kwargs: Any) -> Any:
        """Return the answer of a procedure, named by the end of its URI."""
        session = self._session
        assert session is not None
        return in_reactor(lambda: session.call(session.uri(uri), *args, **kwargs)).result(_CALL_S)

    def stop(self) -> None:
        """Leave the router."""
        self._serving.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on each node of the site file."""
    from sisock.site import load_site

    if "node" in metafunc.fixturenames:
        path = metafunc.config.getoption("--sisock-site")
        metafunc.parametrize("node", sorted(load_site(path).nodes) if path else [], indirect=True)


@pytest.fixture
def node(request: pytest.FixtureRequest, sisock_router: RunningRouter) -> Node:
    """Return a node of the site file, under a name that no other has."""
    from sisock.site import load_site

    site = load_site(request.config.getoption("--sisock-site"))
    name = f"{request.param}-{uuid.uuid4().hex[:8]}"
    return open_node(name, site.nodes[request.param], sisock_router.access("server"))


@pytest.fixture
def supply() -> Callable[[Node], None]:
    """Return a function to call with the node once it is served; override it to send samples to the node."""
    return lambda _: None


@pytest.fixture
def served(node: Node, supply: Callable[[Node], None], sisock_router: RunningRouter) -> Iterator[Served]:
    """Serve the node until the test ends; all its fields have samples."""
    serving, caller = Serving(sisock_router.access("server")), WireCaller(sisock_router.access())
    try:
        serving.serve(node)
        supply(node)
        with BlockingConsumer(sisock_router.access()) as consumer:
            wait_for_samples(node, consumer)
        yield Served(node, lambda procedure, *args: caller.call(f"consumer.{node.name}.{procedure}", *args))
    finally:
        caller.stop()
        serving.stop()


def wait_for_samples(node: Node, consumer: BlockingConsumer) -> None:
    """Block until all fields of all timelines of a node have samples."""
    missing: set[str] = set()

    def are_there() -> bool:
        known = set(consumer.fields(node.name))
        expected = {field.name for timeline in node.history.timelines for field in timeline.fields}
        missing.clear()
        missing.update(expected - known)
        return bool(known) and known == expected

    if not wait_until(are_there, _PATIENCE_S, every_s=0.05):
        raise TimeoutError(f"no samples of {', '.join(sorted(missing)) or 'any field'} after {_PATIENCE_S:g} s")


def test_fields_and_timelines_name_each_other(served: Served) -> None:
    """Fields name their timelines, timelines their fields, and an interval before all samples has neither."""
    fields, timelines = served.call("get_fields", 1, 0)
    assert fields
    for name, field in fields.items():
        assert {"description", "timeline", "type", "units"} <= set(field) <= {*field, "epochs"}
        assert field["type"] in _TYPES
        assert name in timelines[field["timeline"]]["field"]
    assert sorted(fields) == sorted(f for timeline in timelines.values() for f in timeline["field"])
    assert served.call("get_fields", 1, 2) == [{}, {}]


def test_data_match_their_timelines_and_types(served: Served) -> None:
    """Each time has one value, of its field's type, in order of time; an unknown field is empty."""
    fields, timelines = served.call("get_fields", 1, 0)
    answer = served.call("get_data", [*fields, "no such field"], 1, 0)
    json.dumps(answer, allow_nan=False)
    assert set(answer["data"]) == {*fields, "no such field"}
    assert answer["data"]["no such field"] == []
    assert set(answer["timeline"]) <= set(timelines)
    for name, field in fields.items():
        values, timeline = answer["data"][name], answer["timeline"][field["timeline"]]
        assert len(values) == len(timeline["t"]) >= 1
        assert all(type(value) in _TYPES[field["type"]] for value in values)
        assert timeline["t"] == sorted(set(timeline["t"]))


def test_min_stride_holds(served: Served) -> None:
    """Successive samples are at least `min_stride` apart."""
    fields, _ = served.call("get_fields", 1, 0)
    for stride in (0.5, 100_000.0):
        for timeline in served.call("get_data", list(fields), 1, 0, stride)["timeline"].values():
            assert all(b - a >= stride for a, b in itertools.pairwise(timeline["t"]))


def test_interval_before_all_samples_is_empty(served: Served) -> None:
    """An interval without samples is answered with empty fields."""
    fields, _ = served.call("get_fields", 1, 0)
    assert served.call("get_data", list(fields), 1, 2) == {"data": {name: [] for name in fields}, "timeline": {}}


def test_samples_before_the_watermark_stay(served: Served) -> None:
    """Samples before the watermark do not change."""
    fields, _ = served.call("get_fields", 1, 0)
    first, second = (served.call("get_data", list(fields), 1, 0) for _ in range(2))
    for name, field in fields.items():
        before, after = (answer["timeline"][field["timeline"]] for answer in (first, second))
        until = before["finalized_until"]
        n = len(before["t"]) if until is None else sum(t < until for t in before["t"])
        assert after["t"][:n] == before["t"][:n]
        assert second["data"][name][:n] == first["data"][name][:n]


def test_status_and_procedures_answer(served: Served) -> None:
    """The status names the node and its timelines, and can be serialized by any serializer."""
    status = served.call("status")
    json.dumps(status, allow_nan=False)
    assert status["name"] == served.node.name
    assert set(status["timelines"]) == {timeline.name for timeline in served.node.history.timelines}
    assert isinstance(served.call("procedures"), list)
