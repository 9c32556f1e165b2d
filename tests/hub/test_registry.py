"""Who is there, without a network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import BadRequest
from sisock_hub import registry as registry_module
from sisock_hub.registry import LONGEST_DESCRIPTION, Registry

names = st.sampled_from(["a", "b", "c.d"])
sessions = st.integers(1, 3)
steps = st.lists(st.tuples(st.sampled_from(["add", "subtract", "leave"]), names, sessions), max_size=40)


@given(steps)
def test_registry_is_a_mapping_of_names_to_the_first_session_that_came(steps):
    registry, model = Registry(), {}
    for step, name, session in steps:
        if step == "add":
            assert registry.add(name, None, session) is (model.setdefault(name, session) == session)
        elif step == "subtract":
            entry = registry.subtract(name, session)
            assert (entry is not None) is (model.get(name) == session)
            if entry:
                del model[name]
        else:
            gone = {entry.name for entry in registry.leave(session)}
            assert gone == {n for n, s in model.items() if s == session}
            model = {n: s for n, s in model.items() if s != session}
        assert [entry.name for entry in registry.list()] == list(model)


@pytest.mark.parametrize("name", ["", "a b", "a..b", ".a", "a#", "a\n", "\x00", None, 3])
def test_name_that_cannot_be_part_of_a_uri_is_refused(name):
    with pytest.raises(BadRequest, match="not a valid name for a node"):
        Registry().add(name, None, 1)


@pytest.mark.parametrize("description", [7, ["x"], "x" * (LONGEST_DESCRIPTION + 1)])
def test_description_that_is_no_text_or_too_long_is_refused(description):
    with pytest.raises(BadRequest, match="description of node 'a'"):
        Registry().add("a", description, 1)


def test_when_a_node_left_is_known_until_it_is_back_and_of_a_bounded_number(monkeypatch):
    monkeypatch.setattr(registry_module, "MOST_DEPARTED", 2)
    now = iter(range(10))
    registry = Registry(clock=lambda: next(now))
    for session, name in enumerate("abc"):
        registry.add(name, None, session)
        assert name not in registry.departed()
    registry.leave(0)
    registry.subtract("b", 1)
    assert registry.departed() == {"a": 0, "b": 1}
    registry.add("a", None, 4)
    assert registry.departed() == {"b": 1}
    registry.leave(4)
    registry.leave(2)
    assert registry.departed() == {"a": 2, "c": 3}


def test_number_of_nodes_is_bounded():
    registry = Registry(most=2)
    assert registry.add("a", None, 1)
    assert registry.add("b", None, 1)
    with pytest.raises(BadRequest, match="already 2 nodes"):
        registry.add("c", None, 1)
    assert registry.add("a", None, 1)  # that one is there already
