"""The short form of `make faults`; and the checks themselves, which must see what they are there for."""

from pathlib import Path

import numpy as np
import pytest

from tests.faults.__main__ import chosen
from tests.faults.driver import run_all
from tests.faults.journal import Acknowledged, audit
from tests.faults.numbered import texts
from tests.faults.registry import FAULTS, Fault
from tests.faults.site import DEEP, NODES

DOCS = Path(__file__).parents[2] / "docs" / "faults.md"


@pytest.mark.timeout(400)
@pytest.mark.xdist_group("faults")
@pytest.mark.long
def test_nothing_acknowledged_is_lost_and_nothing_wrong_is_served(sisock_router):
    """Tests share the machine: that a site recovers is asserted here, how quickly by `make faults`."""
    kinds = [kind for kind in chosen(None) if kind.short]
    nodes = tuple(node for node in NODES if node not in ("interval", DEEP))  # none of these faults is meant for them
    outcomes = run_all(kinds, 1, print, repeats=1, slack=10.0, nodes=nodes)
    assert [(one.fault, one.violations) for one in outcomes if one.violations] == []
    assert len([one for one in outcomes if one.passed]) >= len(kinds) - 1


@pytest.fixture
def stream():
    numbers = np.arange(100)
    return Acknowledged(numbers, 1e9 + numbers * 0.1)


def served(stream, *, keep=slice(None)):
    return stream.t[keep], stream.numbers[keep].astype(float), texts(stream.numbers)[keep]


def test_audit_finds_nothing_where_all_is_served(stream):
    found = audit(stream, *served(stream), [])
    assert (len(found.lost), found.doubled, found.wrong) == (0, 0, 0)


def test_audit_finds_what_is_lost_and_what_of_it_lies_in_a_gap(stream):
    keep = np.r_[0:40, 50:90]
    found = audit(stream, *served(stream, keep=keep), [(1e9 + 4.0, 1e9 + 5.0)])
    assert found.lost.tolist() == [*range(40, 50), *range(90, 100)]
    assert found.in_gaps == 10


def test_audit_finds_what_is_there_twice_or_was_never_sent(stream):
    t, numbers, words = served(stream)
    twice = np.r_[0:100, 7]
    assert audit(stream, t[twice], numbers[twice], words[twice], []).doubled == 1
    for odd in (np.nan, 7.5):
        other = numbers.copy()
        other[5] = odd
        assert audit(stream, t, other, words, []).wrong >= 1
    other_words = words.copy()
    other_words[5] = "text 17"
    assert audit(stream, t, numbers, other_words, []).wrong == 1
    other_t = t.copy()
    other_t[5] += 0.01
    assert audit(stream, other_t, numbers, words, []).wrong == 1


def test_every_fault_is_in_the_docs():
    chosen(None)
    text = DOCS.read_text()
    assert [
        kind.name for kind in FAULTS if f"| `{kind.name}` | {(kind.__doc__ or '').splitlines()[0]} |" not in text
    ] == []


def test_faults_are_chosen_by_part_or_name():
    assert {kind.part for kind in chosen("hub")} == {"hub"}
    assert [kind.name for kind in chosen("router-reset")] == ["router-reset"]
    with pytest.raises(SystemExit, match="there is no fault or part nothing"):
        chosen("nothing")


def test_fault_without_a_description_is_refused():
    from tests.faults.registry import fault

    with pytest.raises(TypeError, match="needs a docstring"):
        fault(type("Mute", (Fault,), {"name": "mute", "part": "node", "__doc__": None}))
