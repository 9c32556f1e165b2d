"""What tests of data nodes need: a source driven by hand, a clock that is stepped, a real router.

The fixtures (`sisock.testing.fixtures`) come with pytest once sisock is installed with the extra ``testing``:

``sisock_router``
    A real Crossbar and hub on free ports, one for the test session.
``sisock_serve``
    Serves nodes in this process, through that router, until the test ends.
"""

from sisock.testing.sources import ManualSource, StepClock

__all__ = ["ManualSource", "StepClock"]
