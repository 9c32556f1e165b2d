"""The unique name of a node: registered at the router, claimed and announced at the hub."""

import logging
from collections.abc import Callable
from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import RegisterOptions
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure

from sisock.errors import NameTaken
from sisock.wamp.session import Session

log = logging.getLogger(__name__)


class NodeName:
    """The name of a session's node.

    Parameters
    ----------
    session : Session
        Joined.
    name : str
    description : str or None
    """

    def __init__(self, session: Session, name: str, description: str | None) -> None:
        self._session, self._name, self._description = session, name, description
        self._is_added = False

    def register(self, name: str, procedure: Callable[..., Any], options: RegisterOptions | None = None) -> Any:
        """Register a procedure below the name; a Deferred.

        Raises
        ------
        NameTaken
            If another session has registered it.
        """
        registering = self._session.register(procedure, self._session.uri(f"consumer.{self._name}.{name}"), options)

        def refused(failure: Failure) -> None:
            failure.trap(ApplicationError)
            if failure.value.error == ApplicationError.PROCEDURE_ALREADY_EXISTS:
                raise self._taken() from failure.value
            raise failure.value

        return registering.addErrback(refused)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def register_first(self, name: str, procedure: Callable[..., Any], options: RegisterOptions | None = None) -> Any:
        """Register the first procedure, as `register`; the hub ends a session that has the name and is dead or ours."""
        try:
            yield self.register(name, procedure, options)
        except NameTaken:
            if not (yield self._claim()):
                raise
            yield self.register(name, procedure, options)

    def _claim(self) -> Deferred[bool]:
        """Return whether the name is free now."""

        def failed(failure: Failure) -> bool:
            failure.trap(ApplicationError)
            log.warning("the hub does not settle who is %s: %s", self._name, failure.value.error)
            return False

        claiming: Deferred[bool] = self._session.call(self._uri("claim"), self._name, *self._identity())
        return claiming.addErrback(failed)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def announce(self) -> Any:
        """Have the hub add the node; return whether it has.

        Raises
        ------
        NameTaken
            If the hub has a node of that name already.
        """
        try:
            added = yield self._session.call(self._uri("add"), self._name, self._description, *self._identity())
        except ApplicationError as error:
            if error.error != ApplicationError.NO_SUCH_PROCEDURE:
                raise
            log.info("no hub yet; %s is added as soon as one is available", self._name)
            return self._is_added
        if not added:
            raise self._taken()
        if not self._is_added:
            log.info("%s is added to the hub", self._name)
            self._is_added = True
        return True

    def _uri(self, procedure: str) -> str:
        return self._session.uri(f"data_node.{procedure}")

    def _identity(self) -> tuple[Any, ...]:
        """Return the id of the session, and that of the node over its sessions where the runner has made one."""
        instance = (self._session.config.extra or {}).get("instance")
        return (self._session._session_id, *((instance,) if instance else ()))  # noqa: SLF001 - no public way

    def _taken(self) -> NameTaken:
        return NameTaken(
            f"the name {self._name!r} is taken by another node; give this one another name, or stop that one"
        )
