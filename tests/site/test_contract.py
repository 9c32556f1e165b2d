"""The published contract, through a real router, with plain DataNodeServer subclasses."""

import math
import threading

import numpy as np
import pytest
from twisted.internet.defer import Deferred

from sisock import DataNodeServer
from sisock.consumer import BlockingConsumer, in_reactor
from sisock.errors import BadRequest, NameTaken, NodeFailed, NoSuchNode, NotAllowed, TimedOut, TooLarge
from sisock.testing.serving import Serving
from tests.site.links import called


def node_class(node_name, *, data=None, fields=None, **attributes):
    """Make a blocking node that answers `data` and `fields`; a callable gets the hook's arguments."""

    class Answers(DataNodeServer):
        name = node_name
        description = "answers what it is told to"

        def get_fields_blocking(self, start, end):
            return fields(start, end) if callable(fields) else fields

        def get_data_blocking(self, field, start, end, min_stride=None):
            return data(field, start, end, min_stride) if callable(data) else data

    for key, value in attributes.items():
        setattr(Answers, key, value)
    return Answers


def call(router, procedure, *args, role="consumer", serializer_url=None, **kwargs):
    """Call a procedure as a plain WAMP client does, and return what is on the wire."""
    return called(router.access(role), procedure, *args, **kwargs)


@pytest.fixture
def ask(sisock_router):
    def asking(procedure, *args, **kwargs):
        return call(sisock_router, f"consumer.{procedure}", *args, **kwargs)

    return asking


def test_node_is_listed_while_it_is_joined(sisock_router, sisock_serve, unique, ask):
    connection = sisock_serve(node_class(unique))
    assert {"name": unique, "description": "answers what it is told to"} in ask("get_data_node")
    in_reactor(connection.stop).result(5.0)
    assert unique not in [node["name"] for node in ask("get_data_node")]


def test_arrays_and_scalars_become_plain_values(sisock_serve, unique, ask):
    answer = {
        "data": {
            "a": np.arange(3, dtype=np.float32),
            "b": [np.bool_(True), np.bool_(False), True],
            "c": ["x", "y", "z"],
        },
        "timeline": {"tl": {"t": np.array([1.0, 2.0, 3.0]), "finalized_until": np.float64(2.5)}},
    }
    sisock_serve(node_class(unique, data=answer))
    assert ask(f"{unique}.get_data", ["a", "b", "c"], 1, 0) == {
        "data": {"a": [0.0, 1.0, 2.0], "b": [True, False, True], "c": ["x", "y", "z"]},
        "timeline": {"tl": {"t": [1.0, 2.0, 3.0], "finalized_until": 2.5}},
    }


def test_unknown_field_is_an_empty_array(sisock_serve, unique, ask):
    answer = {"data": {"a": [1.0]}, "timeline": {"tl": {"t": [1.0], "finalized_until": None}}}
    sisock_serve(node_class(unique, data=answer))
    reply = ask(f"{unique}.get_data", ["a", "nix"], 1, 0)
    assert reply["data"] == {"a": [1.0], "nix": []}
    assert reply["timeline"] == {"tl": {"t": [1.0], "finalized_until": None}}


def test_no_data_is_all_empty_without_timelines(sisock_serve, unique, ask):
    answer = {"data": {"a": [], "b": np.empty(0)}, "timeline": {"tl": {"t": [], "finalized_until": 5.0}}}
    sisock_serve(node_class(unique, data=answer))
    assert ask(f"{unique}.get_data", ["a", "b"], 1, 0) == {"data": {"a": [], "b": []}, "timeline": {}}


def test_timelines_are_there_only_for_fields_with_data(sisock_serve, unique, ask):
    answer = {"data": {"a": [1, 2], "b": []}, "timeline": {"x": {"t": [1.0, 2.0]}, "y": {"t": []}}}
    sisock_serve(node_class(unique, data=answer))
    reply = ask(f"{unique}.get_data", ["a", "b"], 1, 0)
    assert list(reply["timeline"]) == ["x"]
    assert reply["timeline"]["x"]["finalized_until"] is None


def test_not_a_number_is_null_in_lists(sisock_serve, unique, ask):
    answer = {"data": {"a": np.array([1.0, np.nan, np.inf])}, "timeline": {"tl": {"t": [1.0, 2.0, 3.0]}}}
    sisock_serve(node_class(unique, data=answer))
    assert ask(f"{unique}.get_data", ["a"], 1, 0)["data"]["a"] == [1.0, None, None]


def test_packed_arrays_keep_what_lists_cannot(sisock_router, sisock_serve, unique):
    values = np.array([1.0, np.nan, -np.inf], np.float32)
    sisock_serve(
        node_class(unique, data={"data": {"a": values}, "timeline": {"tl": {"t": [1.0, 2.0, 3.0]}}}, fields=({}, {}))
    )
    with BlockingConsumer(sisock_router.access()) as consumer:
        data = consumer.data(unique, ["a"], 1, 0)
    assert data["a"].dtype == np.float32
    np.testing.assert_array_equal(data["a"], values)
    np.testing.assert_array_equal(data.t("a"), [1.0, 2.0, 3.0])


def test_more_than_the_allowance_is_false(sisock_router, sisock_serve, unique, ask):
    n = 60
    answer = {"data": {"a": np.zeros(n)}, "timeline": {"tl": {"t": np.arange(n)}}}
    sisock_serve(node_class(unique, data=answer, allowance=2 * n - 1, fields=({}, {})))
    assert ask(f"{unique}.get_data", ["a"], 1, 0) is False
    with BlockingConsumer(sisock_router.access()) as consumer, pytest.raises(TooLarge, match="min_stride"):
        consumer.data(unique, ["a"], 1, 0)


def test_answer_over_the_message_limit_is_false_and_the_node_goes_on(sisock_serve, unique, ask):
    def data(field, start, end, min_stride):
        n = 2_400_000 if field == ["big"] else 3
        return {"data": {field[0]: np.full(n, 0.1)}, "timeline": {"tl": {"t": np.arange(n)}}}

    sisock_serve(node_class(unique, data=data))
    assert ask(f"{unique}.get_data", ["big"], 1, 0) is False  # 43 MB where 16 MiB go
    assert ask(f"{unique}.get_data", ["small"], 1, 0)["data"]["small"] == [0.1, 0.1, 0.1]
    assert ask(f"{unique}.status")["counters"]["too_large"] == 1


def test_field_with_another_length_than_its_timeline_is_a_clear_error(sisock_serve, unique, ask):
    sisock_serve(node_class(unique, data={"data": {"a": [1, 2]}, "timeline": {"tl": {"t": [1.0]}}}))
    with pytest.raises(NodeFailed, match=r"2 values for field 'a'.*1"):
        ask(f"{unique}.get_data", ["a"], 1, 0)


def test_error_in_a_hook_arrives_by_its_name_and_the_node_goes_on(sisock_serve, unique, ask):
    def data(field, start, end, min_stride):
        if field == ["bad"]:
            raise ZeroDivisionError("no way")
        return {"data": {}, "timeline": {}}

    sisock_serve(node_class(unique, data=data))
    with pytest.raises(NodeFailed, match="ZeroDivisionError: no way"):
        ask(f"{unique}.get_data", ["bad"], 1, 0)
    assert ask(f"{unique}.get_data", ["good"], 1, 0) == {"data": {"good": []}, "timeline": {}}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((["a"], 10, 5), r"end \(5\) lies before start \(10\)"),
        ((["a"], math.nan, 5), "start is nan"),
        ((["a"], 1, math.inf), "end is inf"),
        ((["a"], "yesterday", 5), "start is 'yesterday'"),
        (([str(i) for i in range(10_000)], 1, 0), "10000 fields asked for at once; at most 5000"),
        (("a", 1, 0), "give a list of field names"),
        (([["a"]], 1, 0), "field names are strings"),
        ((["a"], 1, 0, -1), "min_stride is -1"),
    ],
)
def test_bad_request_is_told_and_the_node_goes_on(sisock_serve, unique, ask, args, message):
    sisock_serve(node_class(unique, data={"data": {}, "timeline": {}}))
    with pytest.raises(BadRequest, match=message):
        ask(f"{unique}.get_data", *args)
    assert ask(f"{unique}.get_data", ["a"], 1, 0) == {"data": {"a": []}, "timeline": {}}


def sawtooth(field, start, end, min_stride):
    assert min_stride is None  # thinning out is not the node's business
    t = np.arange(10_000.0)
    data = {"x": np.where(t == 1234, 99.0, t % 7), "s": [f"{v:g}" for v in t]}
    return {"data": {name: data[name] for name in field}, "timeline": {"tl": {"t": t}}}


def test_any_node_can_be_asked_for_fewer_points_that_lose_no_spike(sisock_router, sisock_serve, unique, ask):
    sisock_serve(node_class(unique, data=sawtooth, fields=({}, {})))
    answer = ask(f"{unique}.get_data", ["x", "s"], 1, 0, downsample="minmax", max_points=500)
    assert 200 < len(answer["data"]["x"]) == len(answer["data"]["s"]) == len(answer["timeline"]["tl"]["t"]) <= 500
    assert max(answer["data"]["x"]) == 99.0
    assert answer["timeline"]["tl"]["downsample"] == {"method": "minmax", "stride": 64.0, "first": ["s"]}
    with BlockingConsumer(sisock_router.access()) as consumer:
        data = consumer.data(unique, ["x"], 1, 0, 1000.0, downsample="mean", exact=True)
    assert data.t("x").tolist() == [1000.0 * i for i in range(10)]
    np.testing.assert_allclose(data["x"], 3.0, atol=0.2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"downsample": "magic"}, "downsample is 'magic'; give one of first, mean, min, max, minmax, lttb"),
        ({"max_points": 1}, "max_points is 1"),
        ({"max_points": "many"}, "max_points is 'many'"),
        ({"encoding": "zip"}, "encoding is 'zip'"),
    ],
)
def test_way_of_thinning_that_is_not_known_is_a_bad_request(sisock_serve, unique, ask, more, message):
    sisock_serve(node_class(unique, data=sawtooth))
    with pytest.raises(BadRequest, match=message):
        ask(f"{unique}.get_data", ["x"], 1, 0, **more)


def test_unknown_keyword_is_a_bad_request(sisock_serve, unique, ask):
    sisock_serve(node_class(unique, data={"data": {}, "timeline": {}}))
    with pytest.raises(BadRequest, match="'colour'"):
        ask(f"{unique}.get_data", ["a"], 1, 0, colour="red")


def test_hooks_get_absolute_times(sisock_serve, unique, ask):
    seen = []

    def fields(start, end):
        seen.append((start, end))
        return {}, {}

    sisock_serve(node_class(unique, fields=fields))
    assert ask(f"{unique}.get_fields", 1, 0) == [{}, {}]
    assert ask(f"{unique}.get_fields", -60, -10) == [{}, {}]
    assert seen[0][0] == 1
    assert seen[0][1] > 1.7e9
    assert seen[1][1] - seen[1][0] == pytest.approx(50)


def test_hooks_in_the_older_spelling_are_called_in_a_thread(sisock_serve, unique, ask):
    threads = []

    class Older(DataNodeServer):
        name = unique

        def _get_fields_blocking(self, start, end):
            threads.append(threading.current_thread())
            return {"a": {"timeline": "t", "type": "number", "units": None, "description": None}}, {
                "t": {"interval": None, "field": ["a"]}
            }

        def _get_data_blocking(self, field, start, end, min_stride=None):
            threads.append(threading.current_thread())
            return {"data": {"a": [min_stride]}, "timeline": {"t": {"t": [2.0], "finalized_until": 3.0}}}

    sisock_serve(Older)
    assert ask(f"{unique}.get_fields", 1, 0)[1] == {"t": {"interval": None, "field": ["a"]}}
    assert ask(f"{unique}.get_data", ["a"], 1, 0, 7.0)["data"] == {"a": [7.0]}
    assert "sisock reactor" not in {thread.name for thread in threads}


def test_node_that_overrides_the_procedures_themselves_is_guarded_as_well(sisock_serve, unique, ask):
    class Published(DataNodeServer):
        name = unique

        def get_fields(self, start, end):
            return {}, {}

        def get_data(self, field, start, end, min_stride=None):
            return {"data": {"a": np.array([np.nan, 1.0])}, "timeline": {"t": {"t": [1.0, 2.0]}}}

    sisock_serve(Published)
    assert ask(f"{unique}.get_fields", 1, 0) == [{}, {}]
    assert ask(f"{unique}.get_data", ["a"], 1, 0)["data"]["a"] == [None, 1.0]


def test_whatever_goes_wrong_in_a_procedure_is_a_documented_error(sisock_serve, unique, ask, caplog):
    class Unspeakable(Exception):
        def __str__(self):
            raise ValueError("no text")

    wrong = iter([Unspeakable(), SystemExit(3), RuntimeError("x" * 10**7)])

    class Odd(DataNodeServer):
        name = unique
        status = property(lambda self: lambda: {"deep": endless()})  # a procedure of another name

        def get_fields(self, start, end):
            raise next(wrong)

        def get_data(self, field, start, end, min_stride=None):
            return {"data": {"a": [1.0]}, "timeline": {"t": {"t": [1.0], "field": 5}}}

    def endless():
        deep = []
        deep.append(deep)
        return deep

    sisock_serve(Odd)
    for said in ("Unspeakable", "SystemExit: 3", "RuntimeError: xxx"):
        with pytest.raises(NodeFailed, match=f"get_fields of node '{unique}' failed: {said}") as caught:
            ask(f"{unique}.get_fields", 1, 0)
        assert len(caught.value.message) < 3000
    with pytest.raises(NodeFailed, match="status of node .* failed: RecursionError"):
        ask(f"{unique}.status")
    with pytest.raises(NodeFailed, match="get_data of node .* failed: TypeError"):
        ask(f"{unique}.get_data", ["a"], 1, 0)
    assert "onUserError" not in caplog.text


def test_arguments_that_a_procedure_does_not_have_are_bad_requests(sisock_serve, unique, ask, caplog):
    sisock_serve(node_class(unique))
    for procedure, arguments, more in [
        (f"{unique}.get_data", (["a"], 1, 0, None, 5), {}),
        (f"{unique}.get_fields", (1, 0, 5), {}),
        (f"{unique}.get_fields", (1, 0), {"x": 1}),
        (f"{unique}.status", (1,), {}),
        (f"{unique}.procedures", (), {"x": 1}),
        ("get_data_node", (1,), {}),
    ]:
        with pytest.raises(BadRequest, match=r"too many positional arguments|got an unexpected keyword argument 'x'"):
            ask(procedure, *arguments, **more)
    assert "Traceback" not in caplog.text


def test_call_that_is_cancelled_is_no_failure(sisock_router, sisock_serve, unique, caplog):
    class Slow(DataNodeServer):
        name = unique

        def get_data(self, field, start, end, min_stride=None):
            return Deferred()

    sisock_serve(Slow)
    with pytest.raises(TimedOut):
        called(sisock_router.access(), f"consumer.{unique}.get_data", ["a"], 1, 0, timeout_s=0.2)
    with BlockingConsumer(sisock_router.access()) as consumer:
        assert consumer.status(unique)["counters"]["errors"] == 0
    assert "CancelledError" not in caplog.text


def test_after_onjoin_is_called_when_the_node_is_added(sisock_serve, unique):
    called = []

    class Node(DataNodeServer):
        name = unique

        def after_onJoin(self, details):
            called.append((self.added, details.session))

    sisock_serve(Node)
    assert [added for added, _ in called] == [True]


def test_node_whose_after_onjoin_fails_serves_all_the_same(sisock_serve, unique, ask):
    class Node(DataNodeServer):
        name = unique

        def after_onJoin(self, details):
            raise RuntimeError("oh")

    sisock_serve(Node)
    assert ask(f"{unique}.status")["counters"]["errors"] == 1


def test_node_with_a_consumers_account_is_told_and_ends(sisock_router, unique):
    serving = Serving(sisock_router.access("consumer"))
    with pytest.raises(NotAllowed, match="'consumer' may not serve nodes; log in with the account of the server role"):
        serving.serve(node_class(unique))
    serving.stop()


def test_second_node_of_a_name_is_refused_and_ends(sisock_serve, unique, ask):
    sisock_serve(node_class(unique))
    with pytest.raises(NameTaken, match=f"'{unique}' is taken"):
        sisock_serve(node_class(unique))
    assert ask(f"{unique}.status")["name"] == unique


@pytest.mark.parametrize("name", ["", "a b", "x..y", "a#b", "n" * 300, ".", "../etc"])
def test_name_that_cannot_be_part_of_a_uri_is_refused(sisock_serve, name):
    with pytest.raises(BadRequest, match="is not a valid name for a node"):
        sisock_serve(node_class(name))


def test_unknown_node_names_the_known_ones(sisock_router, sisock_serve, unique):
    sisock_serve(node_class(unique))
    with BlockingConsumer(sisock_router.access()) as consumer, pytest.raises(NoSuchNode, match=unique):
        consumer.data("nobody", ["a"], -10)
