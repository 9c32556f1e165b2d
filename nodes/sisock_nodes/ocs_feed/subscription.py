"""The subscription to the feeds: in the reactor, made again after every loss of the router."""

import logging
from collections.abc import Callable
from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import ComponentConfig, SessionDetails, SubscribeOptions
from twisted.internet.defer import Deferred, inlineCallbacks

from sisock.access import Access
from sisock.consumer import in_reactor
from sisock.wamp.connection import Connection
from sisock.wamp.session import Session

Put = Callable[[Any], None]

log = logging.getLogger(__name__)


class _Listening(Session):
    def __init__(self, config: ComponentConfig, topic: str, put: Put, *, anonymous: bool) -> None:
        super().__init__(config)
        self._topic, self._put, self._anonymous = topic, put, anonymous

    def onConnect(self) -> None:
        if self._anonymous:
            self.join(self.access.realm, ["anonymous"])
        else:
            super().onConnect()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def onJoin(self, details: SessionDetails) -> Any:
        try:
            yield self.subscribe(self._event, self._topic, SubscribeOptions(match="wildcard"))
        except ApplicationError as error:
            hint = "give the router `ocs: {}`" if "authorized" in str(error.error) else error.error_message()
            log.error("may not subscribe to the feeds of OCS at %s; %s", self.access.url, hint)

    def _event(self, *args: Any, **_kwargs: Any) -> None:
        self._put(args[0] if args else None)


class FeedSubscription:
    """A subscription that lasts until it is closed.

    Parameters
    ----------
    access : Access
    topic : str
        A WAMP wildcard.
    anonymous : bool
        Whether to enter without a login.
    """

    def __init__(self, access: Access, topic: str, *, anonymous: bool) -> None:
        self._access, self._topic, self._anonymous = access, topic, anonymous
        self._connection: Connection | None = None

    def open(self, put: Put) -> None:
        """Hand the argument of each event to `put`, in the reactor's thread, from now on."""

        def begin() -> None:
            how = {"anonymous": self._anonymous}
            self._connection = Connection(self._access, lambda config: _Listening(config, self._topic, put, **how))
            self._connection.ended.addErrback(lambda failure: log.error("%s", failure.value))
            self._connection.start()

        from twisted.python import threadable

        if threadable.isInIOThread():
            begin()  # the node is started by the reactor itself
        else:
            in_reactor(begin).result(10.0)

    def close(self) -> None:
        """End the subscription; called from another thread than the reactor's."""
        connection = self._connection
        if connection is None:
            return

        def end() -> Deferred[None]:
            return connection.stop()

        in_reactor(end).result(5.0)
        self._connection = None
