"""Tools for tests of data nodes: a source driven by hand, a stepped clock, a real router.

Pytest finds the fixtures (`sisock.testing.fixtures`) if sisock is installed with the extra ``testing``:

``sisock_router``
    A real Crossbar and hub on free ports, one for the test session.
``sisock_serve``
    Serves nodes in this process, through that router, until the test ends.
``sisock_stepped_site``
    A hub, nodes and consumers in this process, over an in-memory router, with a stepped clock.
"""

from sisock.testing.clock import StepClock
from sisock.testing.sources import ManualSource

__all__ = ["ManualSource", "StepClock"]
