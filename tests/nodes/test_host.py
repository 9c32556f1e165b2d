"""The host node reads this machine."""

import math
import queue
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from sisock.access import access_from_environment
from sisock.node import open_node
from sisock.nodetype import NodeContext
from sisock.testing import StepClock
from sisock.times import Interval, KernelClock, SystemClock, kernel_clock
from sisock_nodes.host import make_sources
from sisock_nodes.host import source as host_source
from sisock_nodes.host.settings import HostSettings
from sisock_nodes.host.source import Rates

HERE = NodeContext("host", SystemClock(), access_from_environment())


def read_once(settings=None):
    """Start all sources and return the first batch of each, by timeline."""
    batches, first = queue.Queue(), {}
    sources = make_sources(settings or HostSettings(type="host", intervals={"disks": 0.2}), HERE)
    for source in sources:
        source.start(batches.put)
    while len(first) < len(sources):
        batch = batches.get(timeout=60.0)
        first.setdefault(batch.timeline, batch)
    for source in sources:
        source.stop()
    return first, {tl.name: tl for source in sources for tl in source.timelines}


def test_every_timeline_gives_what_it_declares():
    first, timelines = read_once()
    assert {"cpu", "load", "memory", "network", "system"} <= first.keys()
    for name, batch in first.items():
        kinds = {"number": "f", "string": "O", "bool": "b"}
        assert {f.name: kinds[f.type] for f in timelines[name].fields} == {
            field: values.dtype.kind for field, values in batch.columns.items()
        }


def test_there_are_numbers_strings_and_bools_with_units():
    _, timelines = read_once()
    fields = {f.name: f for tl in timelines.values() for f in tl.fields}
    assert {f.type for f in fields.values()} == {"number", "string", "bool"}
    assert (fields["cpu.total"].units, fields["load.1m"].units, fields["memory.used"].units) == ("%", "1", "B")
    assert all(f.description for f in fields.values())
    assert all(f.units for f in fields.values() if f.type == "number")


def test_values_are_those_of_the_machine():
    first, _ = read_once()
    memory = psutil.virtual_memory()
    assert first["memory"]["memory.total"][0] == memory.total
    assert first["memory"]["memory.available"][0] == pytest.approx(memory.available, rel=0.5)
    assert 0 < first["load"]["process.count"][0] < 10 * len(psutil.pids())
    assert first["network"]["network.lo.up"][0] == psutil.net_if_stats()["lo"].isup
    cores = [values[0] for name, values in first["cpu"].columns.items() if name[4:].isdigit()]
    assert len(cores) == psutil.cpu_count()


def test_fields_that_are_not_wanted_are_left_out():
    settings = HostSettings(type="host", intervals={"disks": 0.2}, leave_out=("network.*", "cpu.[0-9]*"))
    first, _ = read_once(settings)
    assert "network" not in first
    assert "cpu.total" in first["cpu"].columns
    assert "cpu.0" not in first["cpu"].columns


def test_device_that_vanished_reads_as_nothing(monkeypatch):
    sources = {s.timelines[0].name: s for s in make_sources(HostSettings(type="host"), HERE)}
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: {})
    monkeypatch.setattr(psutil, "net_if_stats", dict)
    batches = queue.Queue()
    sources["network"].start(batches.put)
    batch = batches.get(timeout=60.0)
    sources["network"].stop()
    assert math.isnan(batch["network.lo.received"][0])
    assert batch["network.lo.up"].tolist() == [False]
    assert sources["network"].counters["failures"] == 0


def test_rates_are_differences_over_the_time_between():
    clock = StepClock()
    rates = Rates(clock)
    assert math.isnan(rates.of("x", 100))
    clock.step(2.0)
    assert rates.of("x", 300) == 100.0
    clock.step(1.0)
    assert math.isnan(rates.of("x", 5))  # the counter was reset
    clock.step(1.0)
    assert rates.of("x", 6) == 1.0


def test_unknown_first_rate_is_not_a_sample():
    first, _ = read_once()
    assert not np.isnan(first["cpu"]["cpu.total"]).any()
    for name in ("network.lo.received", "network.lo.sent"):
        assert not np.isnan(first["network"][name]).any()


def test_node_keeps_what_was_read():
    node = open_node("host", HostSettings(type="host", intervals={"cpu": 0.1}))
    seen = queue.Queue()
    node.listen(SimpleNamespace(on_batch=lambda b: seen.put(b) if b.timeline == "cpu" else None, add=lambda tl: None))
    node.start()
    for _ in range(3):
        seen.get(timeout=60.0)
    node.stop()
    samples = node.history.read(["cpu.total"], Interval(0.0, 1e12)).timelines["cpu"]
    assert len(samples.t) >= 3
    assert node.counters["bad_batches"] == 0


def clock_reading(monkeypatch, kernel):
    monkeypatch.setattr(host_source, "kernel_clock", lambda: kernel)
    clock = StepClock()
    (source,) = (
        each for each in host_source.host_sources(HostSettings(type="host"), clock) if each.timelines[0].name == "clock"
    )
    batches = queue.Queue()
    source.start(batches.put)
    batches.get(timeout=30.0)
    clock.wait_for_sleepers()
    clock.jump(-3600.0)
    clock.step(5.0)
    values = batches.get(timeout=30.0).columns
    source.stop()
    return {field.name: field.units for field in source.timelines[0].fields}, {k: v[0] for k, v in values.items()}


@pytest.mark.parametrize(("synchronised", "offset"), [(True, -2e-6), (False, math.nan)])
def test_health_of_the_clock_is_measured(monkeypatch, synchronised, offset):
    units, values = clock_reading(monkeypatch, KernelClock(synchronised, offset))
    assert units == {"clock.jumps": "1", "clock.offset": "s", "clock.synchronised": None}
    assert (values["clock.jumps"], values["clock.synchronised"]) == (1, synchronised)
    np.testing.assert_equal(values["clock.offset"], offset)


def test_where_the_kernel_does_not_report_its_clock_that_is_missing_and_not_false(monkeypatch):
    assert clock_reading(monkeypatch, None) == ({"clock.jumps": "1"}, {"clock.jumps": 1})


def test_the_kernel_reports_its_clock_here():
    state = kernel_clock()
    assert state is None or math.isnan(state.offset_s) != state.synchronised
