"""Missing marks, bools and keys: what tables and streams of records have in common."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sisock_nodes.records.keys import KeyNames, key_name
from sisock_nodes.records.values import BoolPair, BoolTexts, MissingMarks


@pytest.mark.parametrize(
    "value", ["-9999", "-9999.0", "-9.999e3", " -9999 ", "\t-9999.00", -9999, -9999.0, None, "", " "]
)
def test_mark_that_is_a_number_matches_each_way_to_write_it(value):
    assert MissingMarks(["-9999"]).is_missing(value, "number")
    assert MissingMarks(["-9999.0"]).is_missing(value, "bool")


@pytest.mark.parametrize("value", ["-9998.9", "9999", "_9999", "-9_999", "x", 0, True, False, "nan", math.nan, "inf"])
def test_other_values_are_not_missing(value):
    assert not MissingMarks(["-9999"]).is_missing(value, "number")


def test_texts_match_exactly_but_for_blanks_around():
    marks = MissingMarks([" n/a", "-9999", "false"])
    assert marks.is_missing("n/a ", "string")
    assert not marks.is_missing("N/A", "string")
    assert marks.is_missing("-9999", "string")
    assert not marks.is_missing("-9999.0", "string")  # a text, not a number
    assert marks.is_missing(False, "bool")
    assert not marks.is_missing(True, "bool")


@pytest.mark.parametrize(
    "value", ["true", "TRUE", " True ", "1", "1.0", "on", "On", "yes", "t", "T", "y", 1, 1.0, True]
)
def test_what_is_true(value):
    assert BoolTexts().read(value) is True


@pytest.mark.parametrize("value", ["false", "0", "0.0", "-0", "off", "OFF", "no", "f", "n", "N", 0, 0.0, False])
def test_what_is_false(value):
    assert BoolTexts().read(value) is False


@pytest.mark.parametrize("value", ["", "2", "maybe", "truee", 2, -1, 0.5, math.nan, None, [], {}])
def test_anything_else_is_neither(value):
    assert BoolTexts().read(value) is None


def test_two_texts_of_a_setting_are_the_only_ones():
    texts = BoolTexts(("Open", "closed"))
    read = [texts.read(value) for value in ("open", "OPEN ", "closed", "ajar", "1", "true", True)]
    assert read == [True, True, False, None, None, None, True]
    with pytest.raises(ValidationError, match="cannot be both true and false"):
        TypeAdapter(BoolPair).validate_python(("On", "on "))
    assert [BoolTexts(("2", "3")).read(value) for value in (2, 3.0, "2", 1)] == [True, False, True, None]


def test_key_is_named_by_its_values():
    assert key_name(["north"]) == key_name([" north "]) == "north"
    assert key_name(["hall 2", "roof"]) == "hall 2.roof"
    assert key_name([""]) == "none"
    assert key_name(["a\x1b[2Jb\n"]).isprintable()
    assert len(key_name(["x" * 10_000])) < 200


@given(st.lists(st.lists(st.text(max_size=8), min_size=2, max_size=2), min_size=2, max_size=20))
def test_different_keys_have_different_names(keys):
    different = {tuple(value.strip() for value in key) for key in keys}
    assert len({key_name(key) for key in different}) == len(different)


def test_keys_are_bounded_in_number():
    names = KeyNames(2)
    assert [names.name([key]) for key in ("a", "b", "c", " a")] == ["a", "b", None, "a"]
    assert len(names) == 2
