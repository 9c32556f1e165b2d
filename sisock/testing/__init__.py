"""What tests of data nodes need: a source driven by hand, a clock that is stepped, a real router.

The fixtures (`sisock.testing.fixtures`) come with pytest once sisock is installed with the extra ``testing``:

``sisock_router``
    A real Crossbar and hub on free ports, one for the test session.
``sisock_serve``
    Serves nodes in this process, through that router, until the test ends.
``sisock_stepped_site``
    A hub, nodes and consumers in this process, over a small router of its own, with a clock that is stepped.
"""

from sisock.testing.clock import StepClock
from sisock.testing.sources import ManualSource

__all__ = ["ManualSource", "StepClock"]
