"""What a consumer returns."""

import asyncio

import numpy as np
import pytest
from autobahn.wamp.types import CallOptions
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from sisock.access import Access
from sisock.consumer import BlockingConsumer, Consumer, Data, FieldInfo
from sisock.consumer.cache import FinalAnswers
from sisock.consumer.live import LiveFeed
from sisock.consumer.router_thread import RouterThread
from sisock.errors import MissingExtra, NoRouter, NoSuchField, TimedOut
from sisock.fields import Samples
from sisock.testing import StepClock


def info(name, units, timeline):
    return FieldInfo(name, "number", units, f"about {name}", timeline, 1.0)


@pytest.fixture
def data():
    t = np.array([1.5e9, 1.5e9 + 1.25])
    slow = Samples(np.array([1.5e9 + 1.25]), {"v": np.array([7.0])})
    fast = Samples(t, {"x": np.array([1.0, np.nan]), "s": np.array(["a", "b"], object)})
    fields = {"x": info("x", "V", "fast"), "v": info("v", "m/s", "slow"), "s": info("s", None, "fast")}
    return Data("rig", {"fast": fast, "slow": slow}, ["nix"], fields)


def test_data_are_a_mapping_of_names_to_arrays(data):
    assert list(data) == ["x", "s", "v", "nix"]
    assert data["v"].tolist() == [7.0]
    assert data.t("s").tolist() == [1.5e9, 1.5e9 + 1.25]
    assert len(data["nix"]) == len(data.t("nix")) == 0
    assert data.units("v") == "m/s"
    with pytest.raises(NoSuchField, match="'y' was not asked for; there are: x, s, v, nix"):
        data["y"]
    assert "y" not in data


def test_repr_tells_times_units_and_values(data):
    text = repr(data)
    assert "fast: 2 samples, 2017-07-14T02:40:00.000Z to 2017-07-14T02:40:01.250Z" in text
    assert "x [V]: [ 1. nan]" in text
    assert "no samples: nix" in text


def test_pandas_gets_utc_times_and_units(data):
    frame = data.to_pandas()
    assert str(frame.index.tz) == "UTC"
    assert frame["v"].isna().tolist() == [True, False]
    assert frame["s"].tolist() == ["a", "b"]
    assert frame.attrs["units"] == {"x": "V", "s": None, "v": "m/s", "nix": None}
    assert frame.index[1].isoformat() == "2017-07-14T02:40:01.250000+00:00"


def test_xarray_gets_a_dimension_for_each_timeline_and_units(data):
    dataset = data.to_xarray()
    assert dataset["x"].dims == ("fast",)
    assert dataset["v"].dims == ("slow",)
    assert dataset["v"].attrs == {"units": "m/s", "long_name": "about v"}
    assert dataset.attrs["node"] == "rig"


def test_no_data_are_empty_frames():
    empty = Data("rig", {}, ["x"], {})
    assert list(empty.to_pandas().columns) == ["x"]
    assert len(empty.to_xarray()) == 0
    assert "no samples: x" in repr(empty)


def test_package_that_is_missing_is_named_with_its_extra(data, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sisock\[xarray\]'"):
        data.to_xarray()


ACCESS = Access("ws://127.0.0.1:1/ws", "realm", "base", "consumer", "secret")


def test_consumer_that_is_not_open_says_so():
    with pytest.raises(NoRouter, match="use it in a block: async with Consumer"):
        asyncio.run(Consumer(ACCESS).nodes())


def event(seq):
    return {"t": [float(seq)], "data": {"x": [1.0]}, "seq": seq, "finalized_until": None}


def test_jump_in_the_numbers_is_what_was_missed():
    feed = LiveFeed("tl", 10)
    for seq in (5, 6, 9, 1, 2):  # the node was started anew before 1
        feed.put(event(seq))
    assert [feed.get(0.0).missed for _ in range(5)] == [0, 0, 2, 0, 0]
    assert feed.get(0.0) is None


def test_numbers_of_different_runs_are_not_compared():
    feed = LiveFeed("tl", 10)
    for since, seq in ((1.0, 5), (2.0, 9), (2.0, 11)):
        feed.put(event(seq) | {"since": since})
    assert [feed.get(0.0).missed for _ in range(3)] == [0, 0, 1]


def test_full_buffer_drops_the_oldest_and_counts_it():
    feed = LiveFeed("tl", 3)
    for seq in range(1, 11):
        feed.put(event(seq))
    got = [feed.get(0.0) for _ in range(3)]
    assert [batch.seq for batch in got] == [8, 9, 10]
    assert [batch.missed for batch in got] == [7, 0, 0]


def test_full_buffer_is_bounded_in_bytes_and_keeps_the_newest_however_large():
    large = {"t": np.arange(1000.0), "data": {"x": np.zeros(1000), "s": ["x" * 100] * 1000}, "finalized_until": None}
    feed = LiveFeed("tl", 1000, 1_000_000)  # a batch takes 16 KB and 165 KB of texts
    for seq in range(1, 11):
        feed.put(large | {"seq": seq})
    got = [feed.get(0.0) for _ in range(6)]
    assert [batch and batch.seq for batch in got] == [6, 7, 8, 9, 10, None]
    assert [batch.missed for batch in got[:5]] == [5, 0, 0, 0, 0]
    feed = LiveFeed("tl", 1000, 1000)
    for seq in (1, 2):
        feed.put(large | {"seq": seq})
        assert feed.get(0.0).seq == seq


def final(values, **more):
    column = np.array(values, object if isinstance(values[0], str) else float)
    return Data("rig", {"tl": Samples(np.arange(float(len(values))), {"x": column}, **more)}, (), {})


def test_final_answers_are_known_again_and_cannot_be_changed_by_who_gets_them():
    cache = FinalAnswers(1000)
    cache.put("q", 1.0, 2.0, final([1.0, 2.0], gaps=[(0.0, 1.0)]))
    got = cache.get("q")
    got.timelines["tl"].gaps.clear()
    got.timelines["tl"].columns.clear()
    with pytest.raises(ValueError, match="read-only"):
        cache.get("q")["x"][0] = 7.0
    assert cache.get("q")["x"].tolist() == [1.0, 2.0]
    assert cache.get("q").timelines["tl"].gaps == [(0.0, 1.0)]
    assert cache.get("other") is None
    assert cache.info() == {"hits": 4, "misses": 1, "answers": 1, "bytes": 32}


def test_final_answers_from_before_a_reset_are_forgotten():
    cache = FinalAnswers(1000)
    cache.put("q", 1.0, 2.0, final([1.0]))
    cache.reset("other", "tl", 1)
    cache.reset("rig", "other", 1)
    assert cache.get("q") is not None
    cache.reset("rig", "tl", 1)
    assert cache.get("q") is None
    cache.put("q", 1.0, 2.0, final([2.0], reset=1))
    cache.reset("rig", "tl", 1)
    assert cache.get("q")["x"].tolist() == [2.0]
    cache.put("p", 1.0, 2.0, final([3.0], reset=2))  # an answer tells it as well
    assert cache.get("q") is None
    assert cache.info()["bytes"] == 16


def test_final_answers_are_forgotten_when_ones_own_clock_is_set_back():
    clock = StepClock()
    cache, now = FinalAnswers(1000, clock), clock.now()
    clock.jump(3600.0)
    cache.get("q")
    cache.put("q", 1.0, now + 1000.0, final([1.0]))
    assert cache.get("q") is not None
    clock.jump(-3600.0)
    assert cache.get("q") is None


@pytest.mark.parametrize(
    ("start", "end", "answer"),
    [
        (-10.0, 2.0, final([1.0])),
        (1.0, 0.0, final([1.0])),
        (1.0, 1e12, final([1.0])),
        (1.0, 2.0, final([1.0], finalized_until=1.5)),
        (1.0, 2.0, Data("rig", final([1.0]).timelines, ("y",), {})),
        (1.0, 2.0, Data("rig", {}, (), {})),
    ],
    ids=["relative start", "relative end", "future", "not final", "field without samples", "no samples"],
)
def test_answer_that_may_be_another_one_later_is_not_kept(start, end, answer):
    cache = FinalAnswers(1000)
    cache.put("q", start, end, answer)
    assert cache.get("q") is None


def test_kept_answers_are_bounded_by_their_bytes_texts_included_and_the_oldest_go():
    cache = FinalAnswers(1000)
    cache.put("large", 1.0, 2.0, final(["x" * 1000]))
    assert cache.info()["answers"] == 0
    for i in range(3):
        cache.put(i, 1.0, 2.0, final(["x" * 400]))
        cache.get(0)
    assert [cache.get(i) is not None for i in range(3)] == [True, False, True]
    assert cache.info()["bytes"] <= 1000


class _Session:
    """A session whose calls are answered by hand."""

    def __init__(self):
        self.calls = []

    def uri(self, name):
        return name

    def is_attached(self):
        return True

    def on(self, _event, _handler):
        pass

    def call(self, _procedure, *_args, options: CallOptions, **_kwargs):
        answering = Deferred()
        self.calls.append((answering, options.on_progress))
        return answering


def test_time_out_counts_from_the_last_sign_of_life():
    clock = Clock()
    link = RouterThread(Access("unix:/nowhere", "realm", "org.x", "me", "secret"), clock)
    session = _Session()
    link.joined(session)
    heard, ended = [], []
    for _ in range(2):
        link.call(10.0, "p", on_progress=heard.append).addBoth(ended.append)
    (answering, progress), _silent = session.calls
    for chunk in range(5):
        clock.advance(8.0)
        progress(chunk)
    (silent,) = ended
    assert silent.check(TimedOut)
    answering.callback("all")
    assert ended[1] == "all"
    assert heard == list(range(5))
    assert clock.getDelayedCalls() == []


def test_what_is_kept_can_be_told_before_and_after_the_consumer_is_open():
    assert BlockingConsumer(ACCESS).cache_info() == {"hits": 0, "misses": 0, "answers": 0, "bytes": 0}


def test_fields_of_which_all_samples_are_lost_are_empty_columns_of_their_types():
    lost = Samples(np.empty(0), {}, gaps=[(1.0, 9.0)], dropped=5)
    kinds: dict = {"x": "number", "word": "string", "on": "bool"}
    fields = {name: FieldInfo(name, kind, None, None, "tl", None) for name, kind in kinds.items()}
    fields["other"] = FieldInfo("other", "string", None, None, "elsewhere", None)
    data = Data("rig", {"tl": lost}, ["x", "word", "on", "other"], fields)
    assert list(data) == ["x", "word", "on", "other"]
    assert [data[name].dtype for name in data] == [np.dtype(kind) for kind in (float, object, bool, object)]
    assert {name: len(values) for name, values in data.timelines["tl"].columns.items()} == dict.fromkeys(kinds, 0)
    assert (data.timelines["tl"].gaps, data.timelines["tl"].dropped) == ([(1.0, 9.0)], 5)
    assert len(data.t("x")) == 0
    assert list(data.to_pandas().columns) == ["x", "word", "on", "other"]
    assert lost.columns == {}  # what was given is as it was
