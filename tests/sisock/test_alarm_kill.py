"""Alarms of a process that is killed while it writes them."""

import json
import signal
import subprocess
import sys

import pytest

from sisock.alarm.file import Stored

CHILD = """
import sys
from pathlib import Path

from sisock.alarm.alarms import Alarms
from sisock.alarm.settings import AlarmSettings
from sisock.fields import Field, Timeline, as_batch
from sisock.times import SystemClock


class Nothing:
    def report(self, *_args, **_data):
        pass


clock = SystemClock()
definitions = {name: AlarmSettings(field="x", above=60) for name in ("flips", "shelved", "known")}
alarms = Alarms("rig", definitions, clock, Nothing(), None, Path(sys.argv[1]))
alarms.add(Timeline("tl", [Field("x")]))
alarms.start()
began = clock.now()
alarms.on_batch(as_batch("tl", [began], {"x": [90.0]}))
assert alarms.acknowledge("known", "1", "alice").saved
alarms.suppress("known", began + 1000.0, None, "alice")
for i in range(100_000):
    alarms.on_batch(as_batch("tl", [began + 1 + i], {"x": [90.0 * (i % 2)]}))
    assert alarms.shelve("shelved", began + 1000.0 + i, None, "alice").saved
    print(began + 1000.0 + i, flush=True)
"""


@pytest.mark.parametrize("answers", [1, 7, 30])
def test_alarms_are_in_the_states_in_which_commands_were_answered(tmp_path, answers):
    path = tmp_path / "alarms.json"
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        until = [float(child.stdout.readline()) for _ in range(answers)][-1]
        child.send_signal(signal.SIGKILL)
        later = child.stdout.read().split()
    stored = Stored.model_validate(json.loads(path.read_text()))
    assert stored.alarms["known"].state == "suppressed"
    assert stored.alarms["shelved"].state == "shelved"
    assert stored.alarms["shelved"].until >= max([until, *map(float, later[:-1])])
