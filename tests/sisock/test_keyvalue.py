"""The tree of values: snapshots, then changes in order; compare-and-set; deletion; time to live."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import BadRequest, Conflict, TooLarge
from sisock.keyvalue import Tree

PATHS = st.sampled_from(["a", "a/b", "a/b/c", "a/bc", "ab", "x/y"])
STEPS = st.lists(st.tuples(PATHS, st.none() | st.integers(0, 9)), max_size=40)


def run(tree, steps, now=0.0):
    for path, value in steps:
        if value is None:
            tree.delete(path, now)
        else:
            tree.set(path, value, now)


@given(STEPS, STEPS, st.sampled_from(["", "a", "a/b", "ab", "none"]))
def test_snapshot_and_the_changes_after_it_give_the_later_snapshot(before, after, subtree):
    tree = Tree()
    run(tree, before)
    snapshot = tree.snapshot(subtree)
    values = {entry.path: entry.value for entry in snapshot.entries}
    run(tree, after)
    seen = []
    for change in tree.changes(subtree, snapshot.seq):
        seen.append(change.seq)
        if change.is_deleted:
            del values[change.path]  # a deletion of nothing is no change
        else:
            values[change.path] = change.value
    assert seen == sorted(set(seen))
    assert values == {entry.path: entry.value for entry in tree.snapshot(subtree).entries}


@given(STEPS)
def test_numbers_have_no_gaps_and_survive_a_restart(steps):
    tree = Tree()
    run(tree, steps)
    assert [change.seq for change in tree.changes("", 0)] == list(range(1, tree.seq + 1))
    again = Tree(tuple(tree.snapshot().entries), tree.seq)
    assert again.snapshot() == tree.snapshot()
    assert again.set("z", 1, 0.0).seq == tree.seq + 1


def test_changes_that_are_not_kept_any_more_are_none():
    tree = Tree(keep=3)
    for number in range(5):
        tree.set("a", number, 0.0)
    assert tree.changes("", 1) is None
    assert [change.value for change in tree.changes("", 2)] == [2, 3, 4]


def test_of_two_writers_with_compare_and_set_one_wins():
    tree = Tree()
    first = tree.set("lock", "ours", 0.0, expected=0)
    with pytest.raises(Conflict, match="lock is of change 1, not 0"):
        tree.set("lock", "theirs", 0.0, expected=0)
    with pytest.raises(Conflict):
        tree.delete("lock", 0.0, expected=7)
    assert tree.get("lock") is first
    assert tree.delete("lock", 0.0, expected=1).is_deleted
    assert tree.get("lock") is None
    assert tree.delete("lock", 0.0) is None


def test_value_expires_unless_it_was_set_again():
    tree = Tree()
    tree.set("a", 1, 100.0, time_to_live=10.0)
    tree.set("b", 1, 100.0, time_to_live=10.0)
    tree.set("b", 2, 105.0)
    assert tree.next_expiry() == 110.0
    assert tree.expire(109.9) == []
    assert [(change.path, change.is_deleted) for change in tree.expire(110.0)] == [("a", True)]
    assert tree.get("b").value == 2
    assert tree.next_expiry() is None


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", " a", "a\n", "x" * 1001, "/".join("x" * 65), 5, None])
def test_bad_paths_are_refused(path):
    with pytest.raises(BadRequest, match="path"):
        Tree().set(path, 1, 0.0)


def test_bad_values_are_refused_and_change_nothing():
    tree = Tree()
    with pytest.raises(TooLarge, match="64000000 bytes; at most 1000000"):
        tree.set("a", "x" * 64_000_000, 0.0)
    with pytest.raises(BadRequest, match="delete it"):
        tree.set("a", None, 0.0)
    with pytest.raises(BadRequest, match="time to live"):
        tree.set("a", 1, 0.0, time_to_live=0)
    for value in (b"bytes", {"a": {1}}, "\ud800", float("nan"), [2**64]):
        with pytest.raises(BadRequest, match="the value of a cannot be kept"):
            tree.set("a", value, 0.0)
    assert tree.seq == 0
