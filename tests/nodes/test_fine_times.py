"""Times that are written finer than a microsecond."""

import pyarrow as pa
import pytest

from sisock_nodes.records.objects import _moment
from sisock_nodes.table.settings import TimeSettings
from sisock_nodes.table.times import read_times


@pytest.mark.parametrize("zone", ["", "Z"])
def test_times_of_a_table_are_the_nearest_ones(zone):
    texts = [f"2026-03-01T12:00:00.1234567{zone}", f"2026-03-01T12:00:01{zone}"]
    t, is_local = read_times(pa.table({"t": pa.array(texts)}), TimeSettings(column="t"))
    assert t.tolist() == [1772366400.1234567, 1772366401.0]
    assert is_local.tolist() == [not zone] * 2


def test_times_of_objects_are_the_nearest_ones():
    assert _moment("2026-03-01T12:00:00.123456789Z", 1.0) == 1772366400.123456789
