"""What docs/commands.md says of exported files in pandas, as it stands."""

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from sisock import Field, Timeline
from sisock.fields import Batch
from sisock.recording import create_recording
from sisock.times import Interval

DOCS = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
T0 = 1_772_366_400.25  # 2026-03-01T12:00:00.25Z


def test_exported_file_is_plotted_as_it_says(tmp_path, monkeypatch):
    cpu = Timeline("cpu", [Field("cpu.total", units="%")])
    disk = Timeline("disk", [Field("disk.free", units="B"), Field("disk.ok", "bool")])
    with create_recording(tmp_path / "today.parquet", node="host", interval=Interval(T0, T0 + 100)) as recording:
        recording.append(cpu, Batch("cpu", T0 + np.arange(10.0), {"cpu.total": np.arange(10.0)}))
        t = T0 + np.arange(3.0) * 30
        recording.append(disk, Batch("disk", t, {"disk.free": np.arange(3.0), "disk.ok": np.ones(3, bool)}))
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    (recipe,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    told = {}
    exec(recipe, told)
    table = told["table"]
    assert table.index[0] == pd.Timestamp("2026-03-01T12:00:00.25Z")
    assert table["cpu.total"].dropna().tolist() == list(range(10))
    (expression,) = re.findall(r"^`(table\[table.*?)` is one timeline", DOCS, re.M)
    one = eval(expression, told)
    assert set(one) == {"t", "timeline", "cpu.total"}
    assert not one.isna().any().any()
