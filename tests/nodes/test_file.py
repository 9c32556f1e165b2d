"""Recordings as a node: what is served, how files of a folder go together, what is counted."""

import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sisock.errors import BadData, BadRequest
from sisock.fields import Field, Timeline, as_batch
from sisock.node import open_node
from sisock.recording import create_recording
from sisock.times import Interval
from sisock_nodes.file.settings import FileSettings

EVER = Interval(-1e12, 1e12)
formats = pytest.mark.parametrize("ending", ["parquet", "csv", "h5"])


def record(path, t, columns, timeline="tl", units=None, gaps=()):
    kinds = {"f": "number", "i": "number", "b": "bool", "O": "string"}
    batch = as_batch(timeline, t, columns)
    fields = [Field(name, kinds[values.dtype.kind], units) for name, values in batch.columns.items()]
    with create_recording(path) as recording:
        recording.append(Timeline(timeline, fields), batch, gaps)
    return path


class Served:
    """A node of recordings that is running and has emitted everything."""

    def __init__(self, path, **more):
        self.node = open_node("r", FileSettings(type="file", path=path, **more))

    def __enter__(self):
        self.node.start()
        deadline = time.monotonic() + 60.0
        while any(source.is_running for source in self.node.sources):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return self

    def __exit__(self, *_):
        self.node.stop()

    def samples(self, name):
        (samples,) = self.node.history.read([name], EVER).timelines.values()
        return samples

    def names(self):
        return {tl.name: [field.name for field in tl.fields] for tl in self.node.history.timelines}

    def count(self, name):
        return sum(source.counters[name] for source in self.node.sources)


@formats
def test_samples_units_and_gaps_are_served_as_they_were_recorded(ending, tmp_path):
    columns = {"x": [1.5, np.nan, 3.0], "s": ["a", "b", ""], "b": [True, False, True]}
    path = record(tmp_path / f"r.{ending}", [1.0, 2.0, 9.0], columns, units="V", gaps=[(2.0, 9.0)])
    with Served(path) as served:
        samples = served.samples("x")
        assert samples.t.tolist() == [1.0, 2.0, 9.0]
        np.testing.assert_array_equal(samples.columns["x"], [1.5, np.nan, 3.0])
        assert samples.gaps == [(2.0, 9.0)]
        assert served.samples("s").columns["s"].tolist() == ["a", "b", ""]
        assert served.samples("b").columns["b"].tolist() == [True, False, True]
        assert [(f.name, f.type, f.units) for f in served.node.history.timelines[0].fields] == [
            ("x", "number", "V"),
            ("s", "string", "V"),
            ("b", "bool", "V"),
        ]
        assert served.node.history.finalized_until("tl") == 9.0
        assert served.count("rows") == 3


def test_files_with_the_same_fields_are_one_timeline_in_the_order_of_their_times(tmp_path):
    record(tmp_path / "b.parquet", [1.0, 2.0], {"x": [1.0, 2.0]})
    record(tmp_path / "a.h5", [3.0, 4.0], {"x": [3.0, 4.0]})
    record(tmp_path / "c.csv", [3.5, 5.0], {"x": [35.0, 5.0]})
    (tmp_path / "notes.txt").write_text("not a recording")
    with Served(tmp_path) as served:
        assert served.names() == {"tl": ["x"]}
        assert served.samples("x").columns["x"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
        assert served.node.history.status()["tl"]["late"] == 1


def test_names_that_mean_different_things_are_told_apart_by_their_file_and_others_are_not(tmp_path):
    record(tmp_path / "a.parquet", [1.0], {"x": [1.0]}, units="V")
    record(tmp_path / "b.parquet", [1.0], {"x": [2.0]}, units="mV")
    record(tmp_path / "c.parquet", [1.0], {"y": [3.0]}, timeline="other")
    with Served(tmp_path) as served:
        assert served.names() == {"a.tl": ["a.x"], "b.tl": ["b.x"], "other": ["y"]}
        assert served.samples("b.x").columns["b.x"].tolist() == [2.0]


def test_parquet_from_elsewhere_is_served_and_what_it_lacks_is_said(tmp_path, caplog):
    times = pa.array([0, 1_500_000], pa.timestamp("us"))
    table = pa.table({"time": times, "flag": [True, None], "list": [[1], [2]]})
    pq.write_table(table, tmp_path / "other.parquet")
    with Served(tmp_path) as served:
        assert served.names() == {"other": ["flag"]}
        assert served.samples("flag").t.tolist() == [0.0, 1.5]
        assert served.samples("flag").columns["flag"].tolist() == [True, False]
        assert served.count("filled") == 1
    assert "left out: list" in caplog.text
    assert "1 missing bools and strings" in caplog.text


def test_what_is_no_recording_is_named_before_the_node_starts(tmp_path):
    for path, error, why in (
        (tmp_path / "nothing", BadData, "there is no file or folder"),
        (tmp_path, BadData, r"has no files that end with \.parquet"),
    ):
        with pytest.raises(error, match=why):
            open_node("r", FileSettings(type="file", path=path))
    (tmp_path / "x.dat").write_text("")
    with pytest.raises(BadRequest, match="has no known format"):
        open_node("r", FileSettings(type="file", path=tmp_path / "x.dat"))
    (tmp_path / "t.csv").write_text("time,x\n1,2\n")
    with pytest.raises(BadData, match=r"t\.csv: is not a recording of sisock's"):
        open_node("r", FileSettings(type="file", path=tmp_path))


def test_damage_is_counted_and_the_other_files_are_served(tmp_path, caplog):
    path = record(tmp_path / "a.csv", [1.0, 2.0], {"x": [1.0, 2.0]})
    lines = path.read_text().splitlines(keepends=True)
    record(tmp_path / "b.csv", [3.0], {"x": [3.0]})
    node = Served(tmp_path)
    path.write_text("".join(lines[:-1]))
    with node as served:
        assert served.samples("x").columns["x"].tolist() == [1.0, 3.0]
        assert served.count("failures") == 1
    assert f"{path}: has 1 rows, where its first line promises 2; what was before that is served" in caplog.text


def test_more_samples_than_are_kept_are_warned_of(tmp_path, caplog):
    path = record(tmp_path / "r.parquet", [1.0, 2.0, 3.0], {"x": [1.0, 2.0, 3.0]})
    with Served(path, history={"keep": 1e12, "max_samples": 2}) as served:
        assert served.samples("x").t.tolist() == [2.0, 3.0]
    assert "timeline tl has 3 samples, and `history.max_samples` is 2" in caplog.text
