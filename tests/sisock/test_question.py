"""A question is validated once, and whatever answers it is a reply."""

import numpy as np
import pytest

from sisock import DataNodeServer, Field, Timeline
from sisock.consumer import in_reactor
from sisock.errors import BadAnswer, BadRequest
from sisock.fields import Reply
from sisock.node import Node
from sisock.server import HistoryServer
from sisock.settings import AllowanceSettings, HistorySettings
from sisock.testing import ManualSource, StepClock
from sisock.times import Interval
from sisock.wamp.question import Question, validate_question
from sisock.wamp.replies import encode, validate_answer


def reply_of(node, question):
    return in_reactor(lambda: node.get_reply(question)).result(15.0)


def test_interval_is_resolved_when_the_question_comes():
    question = validate_question(1000.0, 2, ["x", "y"], -10, 0, None)
    assert (question.fields, question.interval, question.asked) == (["x", "y"], Interval(990.0, 1000.0), (-10, 0, None))
    assert question.wants_all
    assert not validate_question(1000.0, 2, ["x"], 1, 2, 5.0).wants_all


@pytest.mark.parametrize("name", ["colour", "now", "max_fields", "field"])
def test_option_that_get_data_does_not_have_is_named(name):
    with pytest.raises(BadRequest, match=f"get_data does not know '{name}'"):
        validate_question(1000.0, 10, ["x"], 1, 2, None, **{name: 1})


def test_code_that_resolves_times_itself_gets_them_as_the_caller_wrote_them():
    got = []

    class Overrides(DataNodeServer):
        def get_data(self, field, start, end, min_stride=None):
            got.append((field, start, end, min_stride))
            return False

    class Hooks(DataNodeServer):
        def get_data_blocking(self, field, start, end, min_stride=None):
            got.append((field, start, end, min_stride))
            return False

    question = validate_question(1000.0, 10, ["x"], -10, 0, 0)
    assert reply_of(Overrides(), question) is False
    assert reply_of(Hooks(), question) is False
    assert got == [(["x"], -10, 0, 0), (["x"], 990.0, 1000.0, 0)]


def test_keys_of_a_third_party_are_sent_as_they_came():
    timeline = {"t": [1.0, 2.0], "finalized_until": 2.0, "field": ["x", "y"], "gaps": [], "late": 0, "colour": {"a": 1}}
    sent = encode(validate_answer({"data": {"x": [1, 2]}, "timeline": {"tl": timeline}}, ["x", "nix"]))
    assert sent == {"data": {"x": [1, 2], "nix": []}, "timeline": {"tl": timeline}}
    bare = {"tl": {"t": [1.0], "finalized_until": None}}
    assert encode(validate_answer({"data": {"x": [1]}, "timeline": bare}))["timeline"] == bare


PLACES = {"a": {"timeline": "p"}, "b": {"timeline": "q"}}


class Two(DataNodeServer):
    """A node of the published contract with two timelines, whose fields only get_fields names."""

    places = PLACES

    def get_fields(self, start, end):
        return self.places, {}

    def get_data(self, field, start, end, min_stride=None):
        t = np.arange(10.0)
        return {"data": {"a": t, "b": 2 * t}, "timeline": {"p": {"t": t}, "q": {"t": t + 0.5}}}


def test_fields_are_placed_by_get_fields_before_they_are_downsampled():
    question = Question(["a", "b"], Interval(0.0, 10.0), "max", 5.0, asked=(0.0, 10.0, 5.0))
    reply = reply_of(Two(), question)
    assert {name: list(samples.columns) for name, samples in reply.timelines.items()} == {"p": ["a"], "q": ["b"]}
    assert reply.timelines["q"].columns["b"].tolist() == [8.0, 18.0]
    assert "field" not in encode(reply)["timeline"]["p"]


def test_fields_that_nothing_places_are_not_downsampled():
    node = type("Unplaced", (Two,), {"places": {}})()
    with pytest.raises(BadAnswer, match="on which of 2 timelines field 'a' is"):
        reply_of(node, Question(["a", "b"], Interval(0.0, 10.0), "max", 5.0, asked=(0.0, 10.0, 5.0)))
    # As the node's own code took `min_stride`.
    reply = reply_of(node, Question(["a", "b"], Interval(0.0, 10.0), "first", 5.0, asked=(0.0, 10.0, 5.0)))
    assert list(reply.unplaced) == ["a", "b"]


def test_history_answers_with_its_own_reply_and_refuses_beyond_the_allowance():
    source = ManualSource(Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False))
    node = Node("n", None, [source], HistorySettings(keep=1e12), StepClock(1e6), AllowanceSettings(values=100))
    node.start()
    try:
        source.emit("tl", np.arange(1000.0), {"x": np.arange(1000.0)})
        server = HistoryServer(node)
        few = reply_of(server, Question(["x", "nix"], Interval(0.0, 50.0)))
        assert isinstance(few, Reply)
        assert (few.n_values, few.empty) == (100, ("nix",))
        assert reply_of(server, Question(["x"], Interval(0.0, 51.0))) is False
        assert len(reply_of(server, Question(["x"], Interval(0.0, 1e3), "minmax", 0.0, 10)).timelines["tl"].t) <= 10
    finally:
        node.stop()
