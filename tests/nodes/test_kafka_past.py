"""What logs have from before a history, read once for all timelines of a topic; without a broker."""

import weakref

import numpy as np

from sisock.fields import Batch
from sisock.testing import StepClock
from sisock.times import Interval
from sisock_nodes.kafka import shared
from sisock_nodes.kafka.shared import SharedPast

NAMES = ["t.a", "t.b", "t.c"]


class Log:
    """A log with a sample of each timeline each second, which remembers what was read from it."""

    def __init__(self):
        self.reads, self.given, self.clock = [], [], StepClock()
        self.past = SharedPast(self.read, self.clock)

    def read(self, topic, partitions, interval, timelines):
        self.reads.append((topic, sorted(partitions), *interval, sorted(timelines)))
        t = np.arange(interval.start, interval.end)
        self.given.append(weakref.ref(t))
        return {name: [Batch(name, t, {f"{name}.x": t + len(topic)})] for name in NAMES if name in timelines}

    def times(self, timeline, start, end, *, topic="t", partitions=(0, 1), others=NAMES):
        found = self.past.samples(topic, partitions, Interval(start, end), timeline, others)
        assert {batch.timeline for batch in found} <= {timeline}
        t = np.concatenate([np.empty(0), *(batch.t for batch in found)])
        return [each for each in t.tolist() if start <= each < end]


def test_question_for_many_keys_reads_the_log_once():
    log = Log()
    for name in [*NAMES, *NAMES]:
        assert log.times(name, 0.0, 5.0) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert log.times("t.b", 2.0, 4.0) == [2.0, 3.0]
    assert log.reads == [("t", [0, 1], 0.0, 5.0, NAMES)]


def test_timeline_whose_history_begins_later_costs_only_the_rest():
    log = Log()
    log.times("t.a", 0.0, 5.0)
    assert log.times("t.b", 0.0, 7.0) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert log.times("t.c", 0.0, 6.0) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert [read[2:4] for read in log.reads] == [(0.0, 5.0), (5.0, 7.0)]


def test_log_is_read_anew_for_what_is_not_known():
    log = Log()
    log.times("t.a", 0.0, 5.0, others=["t.a", "t.b"])
    assert log.times("t.c", 0.0, 5.0) == [0.0, 1.0, 2.0, 3.0, 4.0]  # a key that has come meanwhile
    assert log.times("t.a", 0.0, 5.0, partitions=(0,)) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert log.times("t.a", 0.0, 5.0, topic="u") == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert log.times("t.a", -2.0, 5.0, topic="u") == [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    assert log.times("t.a", 8.0, 9.0, topic="u") == [8.0]
    assert len(log.reads) == 6


def test_what_was_read_is_forgotten_so_that_messages_that_came_since_are_seen():
    log = Log()
    log.times("t.a", 0.0, 5.0)
    log.clock.step(9.9)
    log.times("t.b", 0.0, 5.0)
    assert len(log.reads) == 1
    log.clock.step(0.1)
    log.times("t.c", 0.0, 5.0)
    assert len(log.reads) == 2
    log.clock.step(10.0)
    assert log.given[-1]() is not None
    log.past.forget_old()
    assert [each() for each in log.given] == [None, None]


def test_more_than_the_bound_is_not_kept(monkeypatch):
    monkeypatch.setattr(shared, "_MOST_KEPT", 30)  # three timelines of 5 rows with 2 values each
    log = Log()
    for name in NAMES:
        log.times(name, 0.0, 5.0)
    assert len(log.reads) == 1
    for name in NAMES:
        assert len(log.times(name, 10.0, 16.0)) == 6
    assert len(log.reads) == 4
