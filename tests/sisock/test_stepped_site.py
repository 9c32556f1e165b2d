"""A whole site in one process, in which ten hours pass in seconds."""

import pytest

from sisock import Field, Polled, Timeline
from sisock.consumer import in_reactor
from sisock.errors import SisockError
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.times import wait_until

HOUR = 3600.0
EVER = 1e-6


class Counting:
    """A sink that counts what it gets."""

    def __init__(self):
        self.samples = 0

    def start(self):
        pass

    def stop(self):
        pass

    def add(self, timeline):
        pass

    def put(self, batch):
        self.samples += len(batch.t)

    def status(self):
        return {"samples": self.samples}


def test_ten_hours_of_a_site(sisock_stepped_site):
    site, clock, sink = sisock_stepped_site, sisock_stepped_site.clock, Counting()
    polled = Polled(Timeline("level", [Field("level")], interval_s=10.0), lambda: {"level": clock.now()}, clock)
    manual = ManualSource(Timeline("door", [Field("open", "bool")], interval_s=60.0))
    history = HistorySettings(keep=2 * HOUR)
    site.serve(Node("tank", "a tank", [polled, manual], history, clock, sinks=[sink]))
    clock.wait_for_sleepers(2)  # the node, and its source, which has been read once
    began = clock.now()
    for _ in range(10):
        manual.emit("door", [clock.now()], {"open": [True]})
        site.run(60.0)
    with site.consumer() as consumer:
        assert consumer.status("tank")["timelines"]["door"]["state"] == "live"
        site.run(10 * HOUR - 600.0)
        status = consumer.status("tank")["timelines"]
        assert status["level"]["state"] == "live"
        assert status["door"]["state"] == "stale"
        data = consumer.data("tank", ["level"], EVER, clock.now() + 1.0)
        t = data.t("level")
        assert t[-1] == clock.now()
        assert clock.now() - t[0] == pytest.approx(2 * HOUR, abs=120.0)
        assert set(t[1:] - t[:-1]) == {10.0}
        assert [node.name for node in consumer.nodes()] == ["tank"]
    assert clock.now() == began + 10 * HOUR
    assert sink.samples == 3601 + 10


def test_history_on_disk_is_kept_up_by_the_clock_that_is_stepped(sisock_stepped_site, tmp_path):
    site, clock = sisock_stepped_site, sisock_stepped_site.clock
    polled = Polled(Timeline("level", [Field("level")], interval_s=60.0), lambda: {"level": 1.0}, clock)
    history = HistorySettings(path=tmp_path / "h", keep=600.0, memory=60.0, sync_interval=0.5)
    site.serve(Node("tank", None, [polled], history, clock))
    clock.wait_for_sleepers(2)  # the source, and the upkeep of the history
    site.run(1200.0)
    with site.consumer() as consumer:
        t = consumer.data("tank", ["level"], EVER, clock.now() + 1.0).t("level")
    assert t[-1] == clock.now()
    assert clock.now() - t[0] >= 600.0


def test_sessions_that_the_router_loses_join_again(sisock_stepped_site):
    site, source = sisock_stepped_site, ManualSource(Timeline("tl", [Field("x")], follows_clock=False))
    site.serve(Node("mine", None, [source], clock=site.clock))
    with site.consumer() as consumer:
        source.emit("tl", [site.clock.now()], {"x": [1.0]})
        in_reactor(site.router.disconnect).result(10.0)
        source.emit("tl", [site.clock.now() + 1.0], {"x": [2.0]})

        def answered():
            try:
                return consumer.data("mine", ["x"], EVER, site.clock.now() + 2.0)["x"].tolist() == [1.0, 2.0]
            except SisockError:
                return False

        assert wait_until(answered, 30.0)
