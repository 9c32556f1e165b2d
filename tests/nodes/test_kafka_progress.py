"""What of a topic is final, by how far its partitions were read."""

import math

from sisock_nodes.kafka.progress import Progress


def progress(*partitions):
    made = Progress(lateness_s=5.0)
    for number in partitions:
        made.begin(number, 0)
    return made


def test_nothing_is_final_before_each_partition_has_said_something():
    made = progress(0, 1)
    assert made.finalized_until == -math.inf
    made.on_samples(0, 100.0)
    assert made.finalized_until == -math.inf
    assert made.slowest == [1]
    made.on_samples(1, 50.0)
    assert made.finalized_until == 45.0
    made.on_samples(1, 120.0)
    made.on_samples(1, 110.0)
    assert made.finalized_until == 95.0
    assert made.slowest == [0]


def test_partition_at_its_end_holds_up_no_others():
    made = progress(0, 1)
    made.on_samples(0, 100.0)
    made.is_within(1, 0, 0, asked=80.0)  # it is empty
    assert made.finalized_until == 75.0  # what comes there was written after that
    made.is_within(1, 0, 0, asked=200.0)
    assert made.finalized_until == 95.0  # no farther than the samples
    made.on_samples(0, 300.0)
    assert made.finalized_until == 195.0
    made.on_offsets(1, 0, 2)
    made.is_within(1, 0, 10, asked=310.0)
    assert made.finalized_until == 195.0
    made.is_within(1, 10, 10, asked=310.0)  # what it had was removed
    assert made.finalized_until == 295.0


def test_offsets_that_are_never_given_hold_up_nothing_for_long():
    made = progress(0, 1)
    made.on_samples(0, 100.0)
    made.on_offsets(1, 0, 6)
    for asked in (90.0, 199.0):
        made.is_within(1, 0, 8, asked, mine=False)  # others may have died
        assert made.finalized_until == -math.inf
    made = progress(0, 1)
    made.on_samples(0, 100.0)
    made.on_offsets(1, 0, 6)
    for asked in (100.0, 105.0):
        made.is_within(1, 0, 8, asked)
        assert made.finalized_until == -math.inf
    made.is_within(1, 0, 8, 111.0)
    assert made.finalized_until == 95.0
    made.on_samples(0, 200.0)
    made.on_offsets(1, 7, 7)
    made.is_within(1, 0, 20, 150.0)
    assert made.finalized_until == 96.0


def test_others_who_keep_up_hold_up_no_more_than_what_they_may_leave_behind():
    made = progress(0, 1)
    made.on_samples(0, 1000.0)
    for asked in range(900, 1000, 10):  # they commit after what is written meanwhile
        made.begin(1, asked - 900)
        made.is_within(1, 0, asked - 890, float(asked), mine=False)
    assert made.finalized_until == 980.0 - 5.0
    made.is_within(1, 0, 5000, 2000.0, mine=False)  # they have stopped
    made.on_samples(0, 2000.0)
    assert made.finalized_until == 980.0 - 5.0
    made.begin(1, 90)
    made.on_samples(1, 990.0)  # it is ours now
    assert made.finalized_until == 990.0 - 5.0


def test_partitions_of_others_count_no_more():
    made = progress(0, 1)
    made.on_samples(0, 100.0)
    made.keep([0])
    made.on_samples(1, 50.0)  # was on its way
    assert made.on_offsets(1, 3, 8) == 6
    assert made.finalized_until == 95.0
    made.keep([])
    assert made.finalized_until == -math.inf


def test_offsets_that_are_not_given_are_told():
    made = progress(0)
    made.begin(0, 10)
    assert made.on_offsets(0, 10, 14) == 5
    assert made.on_offsets(0, 17, 18) == 4  # 15 and 16 were removed
    assert made.on_offsets(0, 12, 20) == 9  # some are given anew
    made.begin(0, 100)  # others have read it meanwhile
    assert made.on_offsets(0, 101, 101) == 2
