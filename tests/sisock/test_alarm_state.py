"""Definitions of alarms, and their states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sisock.alarm.settings import AlarmSettings, parse_alarm, text_of
from sisock.alarm.state import AlarmState, step
from sisock.errors import BadRequest
from sisock.fields import Field

ACTIONS = st.sampled_from(["raise", "clear", "acknowledge", "reset", "shelve", "suppress", "unshelve"])


class Twin:
    """The states of an alarm, by questions that are independent of each other."""

    def __init__(self, latch):
        self.latch = latch
        self.active = self.latched = False
        self.acknowledged = True
        self.held = self.until = None

    def act(self, action, until):
        if action == "raise":
            self.active, self.latched = True, self.latched or self.latch
            if not self.held:
                self.acknowledged = False
        elif action == "clear":
            self.active = False
        elif action == "acknowledge" and not self.held:
            self.acknowledged = True
        elif action == "reset" and not self.held and self.acknowledged and not self.active:
            self.latched = False
        elif action == "suppress" or (action == "shelve" and self.held != "suppressed"):
            self.held, self.until = {"suppress": "suppressed", "shelve": "shelved"}[action], until
        elif action == "unshelve" and self.held:
            self.held = self.until = None
            self.acknowledged = not (self.active or self.latched)

    @property
    def state(self):
        if self.held:
            return self.held
        if not self.acknowledged:
            return "unacknowledged" if self.active else "returned"
        return "acknowledged" if self.active or self.latched else "normal"


@given(st.lists(st.tuples(ACTIONS, st.floats(1, 9))), st.booleans())
def test_states_are_those_of_a_slow_and_obvious_twin(actions, latch):
    twin, now = Twin(latch), AlarmState()
    for action, until in actions:
        if action == ("raise" if twin.active else "clear"):
            continue  # a condition that holds cannot begin to hold
        twin.act(action, until)
        now = step(now, action, active=twin.active, latch=latch, until=until)
        assert (now.state, now.latched, now.until) == (twin.state, twin.latched, twin.until)


def test_latched_alarm_needs_acknowledgement_and_reset_after_it_has_cleared():
    now = AlarmState()
    states = []
    for action, active in [
        *(("raise", True), ("reset", True), ("acknowledge", True), ("reset", True), ("clear", False)),
        *(("acknowledge", False), ("reset", False)),
    ]:
        now = step(now, action, active=active, latch=True)
        states.append(now.state)
    assert states == [*["unacknowledged"] * 2, *["acknowledged"] * 4, "normal"]


def test_alarm_that_holds_when_its_shelving_ends_is_unacknowledged_again():
    now = step(AlarmState("acknowledged"), "shelve", active=True, latch=False, until=9.0)
    assert now == AlarmState("shelved", until=9.0)
    assert step(now, "unshelve", active=True, latch=False) == AlarmState("unacknowledged")
    assert step(step(now, "clear", active=False, latch=False), "unshelve", active=False, latch=False) == AlarmState()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({}, r"field\n +Field required"),
        ({"field": "x"}, "has no condition; give one of above, below"),
        ({"field": "x", "above": 1, "below": 0}, "has above and below; give one"),
        ({"field": "x", "above": 1, "clear": 2}, r"clear \(2\) must not be above the limit \(1\)"),
        ({"field": "x", "below": 1, "clear": 0}, r"clear \(0\) must not be below the limit \(1\)"),
        ({"field": "x", "equals": True, "clear": 0}, "clear belongs to above and below; leave it out with equals"),
        ({"field": "x", "stale_after": "10s", "for": "1s"}, "stale_after is a delay already; leave out for"),
        ({"field": "x", "stale_after": 0}, "greater than 0"),
        ({"field": "x", "above": float("nan")}, "finite number"),
        ({"field": "x", "not_equals": float("nan")}, "not_equals is NaN"),
        ({"field": "x", "above": 1, "text": "{nothing}"}, r"text has \{nothing\}; known: \{value\}"),
        ({"field": "x", "above": 1, "text": "{value.__class__}"}, r"text has \{value.__class__\}"),
        ({"field": "x", "above": 1, "text": "{value:>9999999}"}, "with the format '>9999999'; give one such as"),
        ({"field": "x", "above": 1, "text": "{value"}, "expected '}'"),
        ({"field": "x", "above": 1, "severity": "bad"}, "'info', 'warning', 'error' or 'critical'"),
        ({"field": "x", "above": 1, "on_delay": 1}, "on_delay"),
    ],
)
def test_definition_that_is_not_valid_is_refused(content, error):
    with pytest.raises(ValidationError, match=error):
        AlarmSettings.model_validate(content)


@pytest.mark.parametrize("name", ["", "a b", "room/", "/room", "room//x", "room/*", "x" * 201, "{a,b}"])
def test_name_that_could_be_a_pattern_or_is_empty_is_refused(name):
    with pytest.raises(BadRequest, match="is not a valid name for an alarm"):
        parse_alarm(name, {"field": "x", "above": 1})


def test_content_of_a_definition_is_read_back_as_the_same():
    content = {"field": "x", "above": 60.0, "clear": 55.0, "for": 10.0, "clear_for": 5.0, "latch": True, "text": "hot"}
    settings = parse_alarm("room/temperature", content)
    assert settings.as_content() == content
    assert parse_alarm("x", {"field": "x", "equals": True}).limit is True
    assert parse_alarm("x", {"field": "x", "equals": 1}).limit == 1


@pytest.mark.parametrize(
    ("content", "kind", "fits"),
    [
        ({"above": 1}, "number", True),
        ({"above": 1}, "bool", False),
        ({"equals": True}, "bool", True),
        ({"equals": True}, "number", False),
        ({"equals": 1}, "bool", False),
        ({"not_equals": "ok"}, "string", True),
        ({"not_equals": "ok"}, "number", False),
        ({"stale_after": 1}, "string", True),
    ],
)
def test_condition_has_to_fit_the_type_of_its_field(content, kind, fits):
    assert (AlarmSettings(field="x", **content).mismatch(Field("x", kind)) is None) == fits


@pytest.mark.parametrize(
    ("content", "value", "text"),
    [
        ({"above": 60}, 61.23456789, "x is 61.2346 °C, above 60 °C"),
        ({"equals": True}, True, "x is true, equal to true"),
        ({"stale_after": "1m"}, None, "x has no value for 60 s"),
        ({"not_equals": "ok"}, "bad", "x is bad, not equal to ok"),
        ({"above": 60, "text": "Camera too hot"}, 61.0, "Camera too hot (x is 61 °C)"),
        ({"above": 60, "text": "{alarm}: {value:.1f} {units} > {limit}"}, 61.0, "hot: 61.0 °C > 60"),
        ({"equals": "off", "text": "{value:.1f}"}, "off", "off"),
        ({"above": 60, "text": "at {value:.1f} {units}"}, None, "at – °C"),
        ({"above": 60}, None, "x is – °C, above 60 °C"),
        ({"above": 60, "text": "{{x}}"}, 61.0, "{x} (x is 61 °C)"),
    ],
)
def test_text_has_the_value(content, value, text):
    assert text_of("hot", AlarmSettings(field="x", **content), value, "°C") == text
