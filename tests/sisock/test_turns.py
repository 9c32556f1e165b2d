"""CallerLimiter, in any thread: nothing here waits for the network."""

import pytest
from twisted.python.failure import Failure

from sisock.errors import Busy
from sisock.wamp.limiter import CallerLimiter


def taken(turns, caller):
    got = []
    turns.take(caller).addBoth(got.append)
    return got


def test_callers_wait_for_their_turn_and_few_may():
    turns = CallerLimiter(2, 1, "large answers")
    first, second, third = (taken(turns, "a") for _ in range(3))
    assert first
    assert second
    assert not third
    (refused,) = taken(turns, "a")
    assert isinstance(refused, Failure)
    with pytest.raises(Busy, match="2 large answers are on their way to you and 1 more are waiting"):
        refused.raiseException()
    assert taken(turns, "b")  # another caller has turns of its own
    first[0]()
    assert third


def test_nothing_is_kept_of_callers_who_are_done():
    turns = CallerLimiter(1, 1, "answers")
    for caller in range(100):
        taken(turns, caller)[0]()
    assert not turns.is_used
