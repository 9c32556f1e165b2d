"""Fields whose samples are arrays: in memory, in answers, downsampled, and refused where they do not fit."""

import numpy as np
import pytest

from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo
from sisock.errors import BadData, BadRequest
from sisock.fields import Field, Timeline, as_batch
from sisock.history import History
from sisock.node import Node
from sisock.recording import create_recording
from sisock.settings import HistorySettings
from sisock.shapes import Axis
from sisock.testing import ManualSource, StepClock
from sisock.times import Interval
from sisock.wamp import replies
from sisock.wamp.chunks import Assembly, chunks, envelope
from sisock.wamp.wire import batch_of, event_of

AXIS = Axis("frequency", (0.0, 10.0, 20.0), "Hz")
SPECTRUM, IMAGE = Field("spectrum", units="V", shape=(3,), axis=AXIS), Field("image", shape=(2, 2))
LINE = Timeline("tl", (SPECTRUM, IMAGE, Field("x")), lateness_s=5.0, follows_clock=False)
EVER = Interval(-1e9, 1e9)


def history(**more):
    return History([LINE], HistorySettings(keep=1e12, **more), StepClock(5e4))


def columns_of(t):
    t = np.asarray(t, float)
    spectrum = t[:, None] + np.arange(3)
    spectrum[t % 7 == 3, 1] = np.nan
    return {"spectrum": spectrum, "image": np.arange(4).reshape(2, 2) + t[:, None, None], "x": t}


def put(kept, t):
    kept.append(as_batch("tl", t, columns_of(t)))


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def filled(n=100):
    kept = history()
    for i in range(0, n, 10):
        put(kept, np.arange(i + 9, i - 1, -1.0))
        put(kept, [i + 5.0])  # a repetition
    return kept, columns_of(np.arange(float(n)))


def test_arrays_are_sorted_in_and_read_back():
    kept, expected = filled()
    same(kept.read(list(expected), EVER).timelines["tl"].columns, expected)
    assert kept.summary() is not None
    assert kept.count(["spectrum", "image"], EVER) == 100 * (1 + 3 + 4)
    assert kept.read(list(expected), EVER).n_values == 100 * (1 + 3 + 4 + 1)


@pytest.mark.parametrize("encoding", ["list", "packed"])
def test_answers_and_feeds_carry_arrays(encoding):
    kept, expected = filled()
    reply = kept.read(list(expected), EVER)
    answer = replies.encode(reply, encoding)
    same(replies.decode(answer).timelines["tl"].columns, expected)
    if encoding == "packed":
        assert answer["data"]["image"]["shape"] == [100, 2, 2]
    else:
        assert answer["data"]["spectrum"][3] == [3.0, None, 5.0]
    batch = as_batch("tl", np.arange(10.0), columns_of(np.arange(10)))
    same(batch_of("tl", event_of(batch, encoding)).columns, columns_of(np.arange(10)))


def test_chunks_have_as_many_rows_as_fit_and_are_put_together():
    kept, expected = filled()
    reply, assembly = kept.read(list(expected), EVER), Assembly()
    parts = list(chunks(reply, replies.measure(reply).bytes, size=720))
    assert [len(part["t"]["data"]) // 8 for part in parts] == [10] * 10
    for part in parts:
        assembly.add(part)
    same(replies.decode(assembly.whole(envelope(reply, len(parts)))).timelines["tl"].columns, expected)


def test_mean_is_of_each_value_and_other_methods_keep_the_first_sample():
    kept, expected = filled()
    found = kept.downsampled(list(expected), EVER, "mean", 10.0).timelines["tl"]
    bins = expected["spectrum"].reshape(10, 10, 3)
    np.testing.assert_allclose(found.columns["spectrum"], np.nanmean(bins, axis=1))
    np.testing.assert_allclose(found.columns["image"], expected["image"].reshape(10, 10, 2, 2).mean(axis=1))
    assert found.downsample.first == ()
    for method in ("min", "max"):
        found = kept.downsampled(list(expected), EVER, method, 10.0).timelines["tl"]
        assert found.downsample.first == ("spectrum", "image")
        same({"spectrum": found.columns["spectrum"]}, {"spectrum": expected["spectrum"][::10]})
    for method in ("minmax", "lttb", "first"):
        for names in (["spectrum"], list(expected)):
            found = kept.downsampled(names, EVER, method, 10.0, 15).timelines["tl"]
            assert 5 <= len(found.t) <= 15
            rows = found.t.astype(int)
            if method != "minmax":
                np.testing.assert_array_equal(found.columns["spectrum"], expected["spectrum"][rows])


def test_bounds_count_values():
    kept = history(max_samples=400)  # the image has 4 of them
    put(kept, np.arange(150.0))
    assert kept.status()["tl"]["oldest"] == 50.0


@pytest.mark.parametrize("shape", [(0,), (-1,), (1, 1, 1), (10**9,), (1001, 1000), (2.0,), "x", (True,)])
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(BadRequest, match="'a' has shape"):
        Field("a", shape=shape)


def test_axis_has_a_value_for_each_place():
    with pytest.raises(BadRequest, match="has 3 values"):
        Field("a", shape=(4,), axis=AXIS)
    with pytest.raises(BadRequest, match="not finite"):
        Axis("f", (1.0, float("nan")))
    with pytest.raises(BadRequest, match="arrays are of numbers"):
        Field("a", "string", shape=(4,))


def test_samples_of_another_shape_are_refused_and_counted():
    source = ManualSource(LINE)
    node = Node("n", None, [source], HistorySettings(keep=1e12), StepClock(5e4))
    node.start()
    for shape in ((1, 4), (1, 0), (1,), (1, 3, 1)):
        source.emit("tl", [1.0], {**columns_of([1.0]), "spectrum": np.zeros(shape)})
    with pytest.raises(BadData, match="not a column"):
        as_batch("tl", [1.0, 2.0], {"spectrum": [[1.0], [1.0, 2.0]]})
    source.emit("tl", [2.0], columns_of([2.0]))
    node.stop()
    assert node.counters.as_dict()["bad_batches"] == 4
    assert node.history.count(["x"], EVER) == 2


def test_places_that_do_not_hold_arrays_refuse_them(tmp_path):
    with pytest.raises(BadRequest, match=r"leave out `history\.path`"):
        history(path=tmp_path / "history")
    assert not (tmp_path / "history").exists()
    with pytest.raises(BadData, match="'spectrum' are arrays"), create_recording(tmp_path / "a.parquet") as recording:
        recording.append(LINE, as_batch("tl", [1.0], columns_of([1.0])))
    assert not (tmp_path / "a.parquet").exists()


def test_frames_and_datasets_have_arrays():
    kept, expected = filled()
    infos = {f.name: FieldInfo(f.name, f.type, f.units, None, "tl", None, (), f.shape, f.axis) for f in LINE.fields}
    data = Data("n", kept.read(list(expected), EVER).timelines, (), infos)
    dataset = data.to_xarray()
    assert dataset["spectrum"].dims == ("tl", "spectrum.frequency")
    assert dataset["spectrum"].sel({"spectrum.frequency": 20.0}).values[2] == 4.0
    assert dataset["image"].shape == (100, 2, 2)
    assert data.to_pandas()["image"].iloc[1].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    np.testing.assert_allclose(data.resample("10s")["image"][0], expected["image"][:10].mean(axis=0))


def test_clients_get_arrays_and_their_axis(sisock_stepped_site):
    site, source = sisock_stepped_site, ManualSource(LINE)
    site.serve(Node("n", None, [source], clock=site.clock))
    t = site.clock.now() - np.arange(100.0, 0.0, -1.0)
    source.emit("tl", t, columns_of(t))
    with site.consumer() as consumer:
        info = consumer.fields("n")["spectrum"]
        assert (info.shape, info.axis) == ((3,), AXIS)
        same(dict(consumer.data("n", list(columns_of(t)), 1, 0)), columns_of(t))
        found = consumer.data("n", ["image"], 1, 0, min_stride=1000.0, downsample="mean")
        assert found["image"].shape[1:] == (2, 2)
