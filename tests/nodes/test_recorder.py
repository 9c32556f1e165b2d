"""What a recorder records."""

import asyncio
from contextlib import suppress

import pytest
from pydantic import ValidationError

from sisock.fields import Field, as_batch
from sisock.metrics import Counters
from sisock.watermark import SetBack
from sisock_nodes.recorder.recording import Recording
from sisock_nodes.recorder.settings import RecorderSettings
from sisock_nodes.recorder.source import is_recorded


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


class Emitted(list):
    """What a recorder emits, and how often it declares a timeline."""

    def __init__(self):
        super().__init__()
        self.added, self.resets = [], []

    def __call__(self, batch):
        self.append(batch)

    def add(self, timeline):
        self.added.append(timeline)

    def set_back(self, *reset):
        assert self.added, "the timeline is not known"
        self.resets.append(reset)
        return 2


class Followed:
    """A following whose items are scripted."""

    interval_s = 0.5

    def __init__(self, *items):
        self.fields, self._items = (), iter(items)

    async def next_item(self):
        self.fields, item = next(self._items, (None, None))
        if item is None:
            raise asyncio.CancelledError
        return item


def recorded(*items):
    emitted, counters = Emitted(), Counters()
    with suppress(asyncio.CancelledError):
        asyncio.run(Recording("n", "tl", emitted, counters).record(Followed(*items)))
    return emitted, counters


def test_timeline_is_declared_once_for_all_batches_of_the_same_fields():
    x, y = Field("x"), Field("y", "string")
    batches = [((x,), as_batch("tl", [t], {"x": [t]})) for t in (1.0, 2.0, 3.0)]
    emitted, _ = recorded(*batches, ((x, y), as_batch("tl", [4.0], {"x": [4.0], "y": ["a"]})))
    assert [[field.name for field in timeline.fields] for timeline in emitted.added] == [["n::x"], ["n::x", "n::y"]]
    assert [timeline.interval_s for timeline in emitted.added] == [0.5, 0.5]
    assert [batch.t.tolist() for batch in emitted] == [[1.0], [2.0], [3.0], [4.0]]


def test_reset_of_a_timeline_without_samples_is_left_until_it_has_some():
    back, fields = SetBack(1, 5.0, 8.0), (Field("x"),)
    emitted, counters = recorded(((), back), (fields, back), (fields, as_batch("tl", [9.0], {"x": [9.0]})))
    assert emitted.resets == [("n::tl", 1, 5.0, 8.0)]
    assert counters["set_back"] == 2
    assert len(emitted) == 1
