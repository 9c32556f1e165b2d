"""Probing the router before anything is registered; another than ours may lack features that sisock needs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallDetails, CallOptions, RegisterOptions
from twisted.internet.defer import Deferred, inlineCallbacks

from sisock.errors import UnsuitableRouter

if TYPE_CHECKING:
    from sisock.wamp.session import Session

_DISCLOSURE = "callers are not disclosed: have it disclose them for calls below {base}"
_PROGRESS = "calls below {base} have no progressive results: enable progressive_call_results"
_LEAVING = "the event wamp.session.on_leave is missing: enable its session meta API and let {user!r} subscribe to it"
_SUBSCRIPTIONS = (
    "the events and procedures below wamp.subscription. are missing: enable its subscription meta API, and let "
    "{user!r} subscribe to on_create and on_delete, and call match"
)


def probe_for_hub(session: "Session") -> Deferred[None]:
    """Check that the router has what the hub needs.

    Raises
    ------
    UnsuitableRouter
        With all that is missing.
    """
    return _probe(session, _has_session_events, _LEAVING)


def probe_for_node(session: "Session") -> Deferred[None]:
    """Check that the router has what nodes need.

    Raises
    ------
    UnsuitableRouter
        With all that is missing.
    """
    return _probe(session, _has_subscription_events, _SUBSCRIPTIONS)


@inlineCallbacks  # type: ignore[untyped-decorator]
def _probe(session: "Session", has_events: Callable[["Session"], Deferred[bool]], lacks: str) -> Any:
    missing = yield _missing_calls(session)
    if not (yield has_events(session)):
        missing.append(lacks)
    _report(session, missing)


def _report(session: "Session", missing: list[str]) -> None:
    if missing:
        access = session.access
        lacks = "; ".join(missing).format(base=f"{access.base_uri}.", user=access.user)
        raise UnsuitableRouter(
            f"the router at {access.url} lacks what sisock needs: {lacks} (docs/other-routers.md shows how)"
        )


@inlineCallbacks  # type: ignore[untyped-decorator]
def _missing_calls(session: "Session") -> Any:
    """Return the features that calls lack, by calling a procedure of our own."""

    def answer(details: CallDetails) -> int | None:
        if details.progress is not None:
            details.progress(None)
        return details.caller  # type: ignore[no-any-return]

    procedure, progressed = _own(session), list[None]()
    registration = yield session.register(answer, procedure, RegisterOptions(details_arg="details"))
    caller = yield session.call(procedure, options=CallOptions(on_progress=progressed.append))
    yield registration.unregister()
    return [*([] if caller == session._session_id else [_DISCLOSURE]), *([] if progressed else [_PROGRESS])]  # noqa: SLF001


@inlineCallbacks  # type: ignore[untyped-decorator]
def _has_session_events(session: "Session") -> Any:
    """Return whether sessions that leave are reported."""
    return _announced(session, "session_meta_api") and (yield _may_subscribe(session, "wamp.session.on_leave"))


@inlineCallbacks  # type: ignore[untyped-decorator]
def _has_subscription_events(session: "Session") -> Any:
    """Return whether subscriptions are reported, and can be asked for."""
    if not _announced(session, "subscription_meta_api"):
        return False
    for topic in ("wamp.subscription.on_create", "wamp.subscription.on_delete"):
        if not (yield _may_subscribe(session, topic)):
            return False
    try:
        yield session.call("wamp.subscription.match", _own(session))
    except ApplicationError:
        return False
    return True


def _announced(session: "Session", feature: str) -> bool:
    """Return whether the router announces a feature; events of what another session does cannot be tried alone."""
    roles = session._router_roles or {}  # noqa: SLF001 - no public way
    return any(getattr(role, feature, None) for role in roles.values())


@inlineCallbacks  # type: ignore[untyped-decorator]
def _may_subscribe(session: "Session", topic: str) -> Any:
    try:
        subscription = yield session.subscribe(lambda *_: None, topic)
    except ApplicationError:
        return False
    yield subscription.unsubscribe()
    return True


def _own(session: "Session") -> str:
    """Return a URI that no other session uses."""
    return session.uri(f"data_node.probe.{session._session_id}")  # noqa: SLF001 - no public way
