"""Parts of all publishers: the next turn of the reactor, and the publication of one event."""

from collections.abc import Callable
from typing import Any

from autobahn.wamp.types import PublishOptions

from sisock.wamp.session import Session

_UNACKNOWLEDGED = PublishOptions(acknowledge=False)


class NextTurn:
    """Has a function called in the reactor's next turn, once however often that is asked for; used from any thread.

    Parameters
    ----------
    function : callable
    """

    def __init__(self, function: Callable[[], object]) -> None:
        from twisted.internet import reactor  # the one that runs the session; importing it installs it

        self._function, self._reactor = function, reactor
        self._is_scheduled = False

    def __call__(self) -> None:
        """Have the function called."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._reactor.callFromThread(self._run)

    def _run(self) -> None:
        self._is_scheduled = False  # first: what is added meanwhile asks again
        self._function()


def publish(session: Session, topic: str, content: Any) -> Exception | None:
    """Publish an event without acknowledgement; return the error that kept it from being sent, if any.

    One event that is too large, or that cannot be serialized, must not stop the others.
    """
    try:
        session.publish(topic, content, options=_UNACKNOWLEDGED)
    except Exception as error:  # noqa: BLE001 - returned
        return error
    return None
