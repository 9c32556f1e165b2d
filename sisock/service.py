"""A service: a node that offers work and publishes, and has no samples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sisock.outage import Health
from sisock.procedure import Procedure

if TYPE_CHECKING:
    from sisock.context import NodeContext


class Service:
    """A node without samples; derive from it and override what is needed.

    It is announced to the hub like every node. It does not use the network itself: its context offers procedures,
    publishes, and reads other nodes.
    """

    offers: Sequence[Procedure] = ()
    """Queries, commands and operations, read after `start`; others are offered at run time by `NodeContext.offer`."""
    publishes: Sequence[str] = ()
    """Topics, without blanks, to which `NodeContext.publish` publishes: ``consumer.<node>.<topic>``.

    One that ends with ``.*`` stands for all topics below it.
    """

    def start(self, context: "NodeContext") -> None:
        """Start; called once, before the node joins the router. An error ends the node."""

    def stop(self) -> None:
        """Stop, and wait for that; called once, in a thread."""

    def status(self) -> Health | None:
        """Return its health; None while it works. Must return at once, in any thread."""
        return None
