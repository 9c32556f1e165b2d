"""What a recorder records."""

import asyncio

import numpy as np
import pytest
from pydantic import ValidationError

from sisock.fields import Batch, Field, Timeline
from sisock.testing import StepClock
from sisock_nodes.recorder.follower import Follower
from sisock_nodes.recorder.settings import RecorderSettings
from sisock_nodes.recorder.source import RecorderSource, is_recorded


@pytest.mark.parametrize(
    ("patterns", "node", "timeline", "is_wanted"),
    [
        (["*"], "host", "cpu", True),
        (["host"], "host", "cpu", True),
        (["host"], "hosts", "cpu", False),
        (["rig-?", "x"], "rig-1", "a", True),
        (["host::cpu"], "host", "cpu", True),
        (["host::cpu"], "host", "load", False),
        (["host::c*", "host::load"], "host", "load", True),
        (["*::cpu"], "any", "cpu", True),
        (["host::cpu"], "host", None, True),
        (["HOST"], "host", None, False),
        (["*"], "archive", "host::cpu", False),  # another recorder's
        (["arch*"], "archive", "host::cpu", False),
        (["archive"], "archive", "host::cpu", True),
        (["archive::host::*"], "archive", "host::cpu", True),
        (["archive::rig::*"], "archive", "host::cpu", False),
    ],
)
def test_patterns(patterns, node, timeline, is_wanted):
    assert is_recorded(patterns, node, timeline) is is_wanted


def test_recorder_without_a_folder_is_told_what_to_do():
    with pytest.raises(ValidationError, match=r"set history\.path"):
        RecorderSettings(type="recorder", record=["host"])
    with pytest.raises(ValidationError):
        RecorderSettings(type="recorder", record=[], history={"path": "x"})


def test_finality_is_taken_over_only_when_all_before_it_has_come():
    emitted = []

    class Emit:
        def __call__(self, batch):
            emitted.append(batch.finalized_until)

    follower = Follower(
        None, "n", "tl", Emit(), RecorderSource(None, "r", None, StepClock()), None, since=None, clock=None
    )
    follower.recorded, follower._fetching, follower._run, follower._seq = (
        Timeline("n::tl", [Field("n::x")]),
        False,
        1.0,
        5,
    )
    follower.look(1.0, {"seq": 5, "finalized_until": 10.0})  # perhaps on account of batch 6, stored a moment later
    assert emitted == []
    follower.look(1.0, {"seq": 5, "finalized_until": 12.0})
    assert emitted == [10.0]
    follower._seq = 6
    follower.look(1.0, {"seq": 6, "finalized_until": 14.0})
    assert emitted == [10.0]
    assert not follower._behind.is_set()
    follower.look(1.0, {"seq": 8, "finalized_until": 14.0})
    follower.look(1.0, {"seq": 9, "finalized_until": 14.0})
    assert follower._behind.is_set()


@pytest.mark.parametrize(
    ("since", "seq"),
    [
        (2.0, 6),  # a node that was started anew and has stored five batches before it had its name again
        (1.0, 7),  # one that did not publish a batch
    ],
)
def test_batch_that_does_not_follow_the_last_one_has_the_history_asked_first(since, seq):
    emitted = []

    class Feed:
        async def aget(self, _timeout):
            follower._behind.set()  # or it would be asked again and again
            return Batch("tl", np.array([10.0]), {"x": np.array([1.0])}, seq=seq, since=since, finalized_until=9.0)

    follower = Follower(
        None, "n", "tl", emitted.append, RecorderSource(None, "r", None, StepClock()), None, since=None, clock=None
    )
    follower.recorded, follower._run, follower._seq, follower._heard = Timeline("n::tl", [Field("n::x")]), 1.0, 5, 5

    asyncio.run(follower._take(Feed()))
    assert emitted == []
