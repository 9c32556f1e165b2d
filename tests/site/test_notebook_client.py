"""`BlockingConsumer` as notebooks use it: times, patterns, handles, completion, tables, errors."""

import asyncio
import gc
import inspect
import queue
import re
import subprocess
import sys
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas
import pytest
from pydantic import BaseModel
from twisted.internet.defer import Deferred

from sisock import Field, Timeline
from sisock.access import Access
from sisock.consumer import BlockingConsumer, Consumer, in_reactor
from sisock.errors import BadRequest, NoRouter, NoSuchField, NoSuchNode, NotOpen
from sisock.node import Node
from sisock.procedure import Command
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.testing.fixtures import free_ports

T0 = 1772366400.0  # 2026-03-01T12:00Z
STRAIN = Timeline(
    "strain",
    [Field("strain.beam", units="µε"), Field("strain.mast", units="µε")],
    interval_s=1.0,
    lateness_s=0.0,
    follows_clock=False,
)
HALL = Timeline(
    "hall",
    [
        Field("hall.door", "bool"),
        Field("hall.<phase>", "string", description="What & when"),
        Field("hall.temp", units="°C"),
    ],
    interval_s=10.0,
    lateness_s=0.0,
    follows_clock=False,
)


def wait_until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Zero(BaseModel):
    channel: int
    gain: float = 1.0


class Rig(ManualSource):
    @property
    def procedures(self):
        return [Command("zero", "Set a channel to zero.", Zero, None, lambda zero: {"zeroed": zero.channel})]


@pytest.fixture(scope="module")
def rig(sisock_router):
    """A node with two timelines of 1,000 s, as its name."""
    from sisock.testing.serving import Serving

    serving = Serving(sisock_router.access("server"))
    source = Rig(STRAIN, HALL)
    serving.serve(Node("notebook-rig", "A test rig", [source], HistorySettings(keep=1e12)))
    t = T0 + np.arange(1000.0)
    source.emit("strain", t, {"strain.beam": np.sin(t), "strain.mast": np.where(t == T0 + 501, 99.0, 0.0)})
    columns = {"hall.door": t[::10] % 20 == 0, "hall.<phase>": np.full(100, "<b>run</b>"), "hall.temp": t[::10] - T0}
    source.emit("hall", t[::10], columns)
    yield "notebook-rig"
    serving.stop()


@pytest.fixture
def c(sisock_router, rig):
    consumer = BlockingConsumer(sisock_router.access("operator"))
    yield consumer
    consumer.close()


START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AT_TEN = datetime(2026, 3, 1, 12, 0, 10)  # without a zone: UTC


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (T0, T0 + 10),
        ("2026-03-01T12:00", "2026-03-01T13:00:10+01:00"),
        (START, AT_TEN),
        (pandas.Timestamp(START), pandas.Timestamp("2026-03-01 13:00:10", tz="Europe/Paris")),
        (np.datetime64("2026-03-01T12:00"), np.datetime64("2026-03-01T12:00:10", "ns")),
        ("all", np.float64(T0 + 10)),
    ],
)
def test_data_take_times_in_every_form(c, rig, start, end):
    data = c.data(rig, "strain.beam", start, end)
    assert data.t("strain.beam").tolist() == [T0 + i for i in range(10)]


def test_data_without_a_start_are_those_of_the_last_hour(c, rig):
    last_hour = [name for name, each in inspect.signature(c.data).parameters.items() if each.default == "-1h"]
    assert last_hour == ["start"]
    assert inspect.signature(Consumer.data).parameters["start"].default == "-1h"
    assert len(c.data(rig, "strain.beam")["strain.beam"]) == 0  # the rig's samples are old


@pytest.mark.parametrize("collects", [gc.collect, lambda: in_reactor(gc.collect).result(30.0)], ids=["us", "reactor"])
def test_feed_that_nobody_reads_any_more_ends_in_whichever_thread_it_is_collected(sisock_router, monkeypatch, collects):
    from sisock.testing.serving import Serving

    faults = []
    monkeypatch.setattr(sys, "unraisablehook", lambda fault: faults.append(repr(fault.exc_value)))
    serving = Serving(sisock_router.access("server"))
    source = Rig(STRAIN)
    serving.serve(Node("notebook-live", "A rig that measures", [source], HistorySettings(keep=1e12)))
    with BlockingConsumer(sisock_router.access()) as c:
        feed = c.subscribe("notebook-live", "strain")
        reading = threading.Thread(target=next, args=(feed,), daemon=True)
        reading.start()
        wait_until(lambda: c.status("notebook-live")["timelines"]["strain"]["subscribed"])
        source.emit("strain", [T0], {"strain.beam": [1.0], "strain.mast": [2.0]})
        reading.join(30.0)
        assert not reading.is_alive()
        cycle = [feed]
        cycle.append(cycle)
        del feed, cycle, reading
        collects()
        wait_until(lambda: c.status("notebook-live")["timelines"]["strain"]["subscribed"] is False)
    serving.stop()
    assert faults == []


def test_spans_reach_back_from_now(c, rig):
    years = timedelta(days=-200 * 365)
    assert len(c.data(rig, "strain.beam", "-10000w", "now")["strain.beam"]) == 1000
    assert len(c.data(rig, "strain.beam", -30_000 * 86400.0, 0)["strain.beam"]) == 1000
    assert len(c.data(rig, "strain.beam", timedelta(days=-30_000))["strain.beam"]) == 1000
    assert c.fields(rig, timedelta(hours=-1)) == {}
    assert years < timedelta(0)


def test_time_that_is_none_is_named_before_anything_is_asked(c, rig):
    with pytest.raises(BadRequest, match="start: 'yesterday' is not a valid time"):
        c.data(rig, "strain.beam", "yesterday")
    with pytest.raises(BadRequest, match=r"end is \[\], not a time; give UNIX seconds"):
        c.data(rig, "strain.beam", "all", [])
    with pytest.raises(BadRequest, match="start is None"):
        c.fields(rig, None)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("strain.*", ["strain.beam", "strain.mast"]),
        (["strain.m*", "hall.temp"], ["strain.mast", "hall.temp"]),
        ("hall.{door,temp}", ["hall.door", "hall.temp"]),
        ("*.[bt]e*", ["strain.beam", "hall.temp"]),
    ],
)
def test_patterns_mean_the_fields_that_match(c, rig, pattern, names):
    assert sorted(c.data(rig, pattern, "all")) == sorted(names)


def test_field_that_does_not_exist_is_an_error_with_the_nearest_names(c, rig):
    with pytest.raises(NoSuchField, match=r"no field 'strain.baem'; did you mean strain.beam"):
        c.data(rig, ["strain.baem"], "all")
    with pytest.raises(NoSuchField, match=r"no field 'volts.\*'"):
        c.data(rig, "volts.*", "all")
    assert len(c.data(rig, ["strain.baem"], "all", exact=True)["strain.baem"]) == 0


def test_node_that_does_not_exist_is_an_error_with_the_nearest_names(c):
    for ask in (lambda: c.data("notebok-rig", "*", "all"), lambda: c["notebok-rig"], lambda: c.fields("notebok-rig")):
        with pytest.raises(NoSuchNode, match="no node 'notebok-rig'; did you mean notebook-rig"):
            ask()


def test_downsampling_is_by_minmax_unless_another_way_is_named(c, rig):
    for how in (
        {"min_stride": 100.0},
        {"min_stride": "100s"},
        {"min_stride": timedelta(seconds=100)},
        {"max_points": 20},
    ):
        data = c.data(rig, "strain.mast", "all", **how)
        assert data["strain.mast"].max() == 99.0
        assert data.timelines["strain"].downsample.method == "minmax"
    first = c.data(rig, "strain.mast", "all", min_stride=100.0, downsample="first")
    assert first.t("strain.mast").tolist() == [T0 + 100 * i for i in range(10)]
    assert c.data(rig, "strain.mast", "all").timelines["strain"].downsample is None
    with pytest.raises(BadRequest, match="min_stride is -1"):
        c.data(rig, "strain.mast", "all", min_stride=-1)


def test_nodes_and_fields_are_items_and_complete(c, rig):
    beam = c[rig]["strain.beam"]
    assert (beam.units, beam.info.timeline) == ("µε", "strain")
    assert len(beam.data("all")["strain.beam"]) == 1000
    assert beam.latest() == (T0 + 999, np.sin(T0 + 999), "µε")
    assert beam.latest().time == datetime.fromtimestamp(T0 + 999, UTC)
    assert c[rig]["hall.door"].latest().value is False
    assert rig in c._ipython_key_completions_()
    assert list(c[rig]._ipython_key_completions_()) == list(c.fields(rig))
    assert sorted(c[rig].data("hall.*", "all")._ipython_key_completions_()) == [
        "hall.<phase>",
        "hall.door",
        "hall.temp",
    ]
    assert c[rig].status()["timelines"]["strain"]["newest"] == T0 + 999
    with pytest.raises(NoSuchField, match="did you mean strain.beam"):
        c[rig]["strain.baem"]
    with pytest.raises(BadRequest, match=r"'strain.\*' is a pattern, of 2 fields"):
        c[rig]["strain.*"]


def test_procedures_are_functions_with_help(c, rig):
    procedures = c[rig].procedures
    assert "zero" in dir(procedures)
    assert "zero" in procedures._ipython_key_completions_()
    assert procedures.zero(channel=3) == {"zeroed": 3}
    assert procedures["zero"](channel=4, gain=2.0) == {"zeroed": 4}
    assert str(inspect.signature(procedures.zero)) == "(*, channel, gain=1.0)"
    assert "Set a channel to zero." in procedures.zero.__doc__
    with pytest.raises(BadRequest, match="did you mean zero"):
        procedures["zeroo"]
    with pytest.raises(AttributeError, match="it has: zero"):
        procedures.one  # noqa: B018
    with pytest.raises(BadRequest, match="channel: is missing"):
        procedures.zero()


def test_tables_for_notebooks_are_escaped_and_bounded(c, rig):
    shown = [c.nodes(), c, c.fields(rig), c[rig], c[rig]["hall.<phase>"], c[rig].data("*", "all"), c[rig].procedures]
    for each in shown:
        html = each._repr_html_()
        assert html.startswith("<")
        assert "<b>" not in html
        assert "hall.<phase>" not in html
        assert html.count("<tr>") < 60
    assert "What &amp; when" in c.fields(rig)._repr_html_()
    assert "&lt;b&gt;run&lt;/b&gt;" in c[rig].data("*", "all")._repr_html_()


def test_consumer_opens_by_itself_and_closes_by_hand_or_when_nothing_refers_to_it(sisock_router, rig):
    with BlockingConsumer(sisock_router.access()) as other:

        def connections():
            return other.router_status()["connections"]

        before = connections()
        c = BlockingConsumer(sisock_router.access())
        assert rig in [node.name for node in c.nodes()]
        assert repr(c).endswith("joined>")
        assert connections() == before + 1
        c.close()
        with pytest.raises(NotOpen, match="this consumer is closed; make another one"):
            c.nodes()
        wait_until(lambda: connections() == before)
        c = BlockingConsumer(sisock_router.access())
        c.nodes()
        assert connections() == before + 1
        del c
        gc.collect()
        wait_until(lambda: connections() == before)


SCRIPT = """
from sisock import BlockingConsumer
c = BlockingConsumer()
print([node.name for node in c.nodes()])
{ending}
"""


@pytest.mark.parametrize("ending", ["", "c.close()", "del c", "c = [c]; c.append(c)"])
def test_program_that_leaves_a_consumer_open_ends_quickly_and_quietly(sisock_router, rig, ending):
    access = sisock_router.access()
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-c", SCRIPT.format(ending=ending)],
        env={"WAMP_URI": access.url, "WAMP_USER": access.user, "WAMP_SECRET": access.secret},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert rig in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_consumer_that_found_no_router_tries_anew():
    (port,) = free_ports(1)
    c = BlockingConsumer(Access(f"ws://127.0.0.1:{port}/ws", "r", "b", "u", "s"), patience_s=3.0)
    for _ in range(2):
        with pytest.raises(NoRouter, match=f"no router answers at ws://127.0.0.1:{port}"):
            c.nodes()
    assert repr(c) == f"<BlockingConsumer u@ws://127.0.0.1:{port}/ws: joins when first asked>"
    assert c._repr_html_() is None


def test_errors_have_the_frames_of_the_caller_alone_and_keep_their_origin(c, rig):
    with pytest.raises(NoSuchField) as error:
        c.data(rig, "strain.baem", "all")
    text = "".join(traceback.format_exception(error.value))
    assert "twisted" not in text
    assert "direct cause" not in text
    assert "During handling" not in text
    ours = [
        frame
        for frame in traceback.walk_tb(error.value.__traceback__)
        if "sisock/consumer" in frame[0].f_code.co_filename
    ]
    assert len(ours) <= 2
    assert all(frame.f_locals.get("__tracebackhide__") for frame, _ in ours)
    assert "twisted" in "".join(error.value.origin.format())


def test_ipython_shows_the_message_and_the_frames_of_the_caller(sisock_router, rig):
    access = sisock_router.access()
    cell = f"c = BlockingConsumer()\ndef mine():\n    c.data({rig!r}, 'strain.baem', 'all')\nmine()"
    script = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell("from sisock import BlockingConsumer")
shell.run_cell({cell!r})
shell.run_cell("c.data({rig!r}, 'strain.beam', 'alll')")
print(shell.Completer.complete("c[{rig!r}]['strain.b")[1])
from IPython.core.completer import provisionalcompleter
for text in ("c[{rig!r}].procedures.", "c[{rig!r}].procedures.z", "c[{rig!r}].procedures.q", "c['none'].procedures."):
    with provisionalcompleter():
        print([each.text for each in shell.Completer.completions(text, len(text))])
"""
    env = {"WAMP_URI": access.url, "WAMP_USER": access.user, "WAMP_SECRET": access.secret, "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert "did you mean strain.beam" in done.stdout
    assert "in mine()" in done.stdout
    assert "start: 'alll' is not a valid time" in done.stdout
    assert "/sisock/" not in done.stdout
    assert "twisted" not in done.stdout
    *_, fields, procedures, begun, unlike, unknown = done.stdout.splitlines()
    assert "strain.beam" in fields
    assert "'zero'" in procedures
    assert begun == "['zero']"
    assert unlike == "[]"
    assert "zero" not in unknown


PUBLIC = [
    (kind, name)
    for kind in (Consumer, BlockingConsumer)
    for name, member in inspect.getmembers(kind, callable)
    if not name.startswith("_") and name not in ("suspend", "resume", "counters", "cache_info", "following")
]


@pytest.mark.parametrize(("kind", "name"), PUBLIC, ids=lambda each: getattr(each, "__name__", each))
def test_every_method_has_complete_help(kind, name):
    assert list(inspect.signature(kind).parameters) == ["site", "role", "timeout_s", "patience_s", "cache_bytes"]
    method = getattr(kind, name)
    doc = inspect.getdoc(method)
    parameters = [each for each in inspect.signature(method).parameters if each != "self"]
    assert "Examples\n--------" in doc
    for parameter in parameters:
        assert re.search(rf"^(\w+, )*(\*\*)?{parameter}(, \w+)* : .+|^(\*\*)?{parameter} : ", doc, re.M), parameter
    assert name == "close" or re.search(r"^Raises\n------", doc, re.M)
    if kind is BlockingConsumer:
        assert "await" not in doc


FORKED = """
import os, sys
from sisock import BlockingConsumer
consumer = BlockingConsumer()
consumer.nodes()
sys.stdout.flush()
child = os.fork()
if not child:
    for each in (consumer, BlockingConsumer()):
        try:
            each.nodes()
        except Exception as error:
            print(type(error).__name__, error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(len(consumer.nodes()) > 0)
"""


def test_consumer_in_a_forked_process_is_refused_and_does_not_wait_for_ever(rig, sisock_router):
    access = sisock_router.access()
    env = {"WAMP_URI": access.url, "WAMP_USER": access.user, "WAMP_SECRET": access.secret, "REALM": access.realm}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    *refused, still_works = done.stdout.splitlines()
    assert len(refused) == 2
    assert all(line.startswith("BadRequest this process was forked from one with a consumer") for line in refused)
    assert still_works == "True"


def test_cancelled_request_ends_in_the_thread_of_the_reactor():
    ended = queue.Queue()

    async def cancelled():
        request = in_reactor(lambda: Deferred(ended.put))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(request), 0.1)

    asyncio.run(cancelled())
    assert ended.get(timeout=30.0) is not None
