"""What a recorder records."""

import pytest
from pydantic import ValidationError

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
