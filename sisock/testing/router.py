"""A small WAMP router in this process, for tests: what sisock's sessions need of one, and nothing more."""

import itertools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autobahn.twisted.rawsocket import WampRawSocketServerFactory
from autobahn.wamp import message, role
from autobahn.wamp.auth import compute_wcs
from autobahn.wamp.serializer import MsgPackSerializer

from sisock.access import Access

_ROLES = {
    "broker": role.RoleBrokerFeatures(
        publisher_identification=True,
        pattern_based_subscription=True,
        session_meta_api=True,
        subscription_meta_api=True,
        publisher_exclusion=True,
    ),
    "dealer": role.RoleDealerFeatures(
        caller_identification=True,
        session_meta_api=True,
        registration_meta_api=True,
        call_canceling=True,
        progressive_call_results=True,
    ),
}


class MemoryRouter:
    """A broker and dealer with one realm, whose state is in this process; not Crossbar, which cannot be stepped.

    It has wampcra, progressive results, cancelling, disclosed callers, and of the meta API what sisock uses. It has no
    permissions: each user may do everything, except subscribe to `refused` topics.

    Parameters
    ----------
    accounts : mapping of str to str
        Secrets, by user.
    realm, base_uri : str, optional

    Attributes
    ----------
    factory : twisted.internet.protocol.Factory
        Makes the server's side of a RawSocket connection; listen with it, or give it to a `MemoryReactor`.
    refused : set of str
        Topics that nobody may subscribe to.
    """

    def __init__(self, accounts: Mapping[str, str], realm: str = "test_realm", base_uri: str = "observatory") -> None:
        self.accounts, self.realm, self.base_uri = accounts, realm, base_uri
        self.ids = itertools.count(1)
        self.clients: dict[int, _Client] = {}
        self.procedures: dict[str, _Registration] = {}
        self.topics: dict[tuple[str, str], _Subscription] = {}
        self.calls: dict[int, _Call] = {}
        self.refused: set[str] = set()
        self.factory = WampRawSocketServerFactory(lambda: _Client(self), serializers=[MsgPackSerializer()])
        self.factory.noisy = False

    def access(self, user: str, url: str = "unix:memory", **more: Any) -> Access:
        """Return how to reach the router as one of its users."""
        return Access(url, self.realm, self.base_uri, user, self.accounts[user], **more)

    def disconnect(self) -> None:
        """Abort the connections of all sessions, as a router that is killed does."""
        for client in tuple(self.clients.values()):
            client.transport.abort()

    def publish(self, topic: str, *args: Any, publisher: "_Client | None" = None, **kwargs: Any) -> int:
        """Send an event to the subscribers of a topic, except its publisher; return its id."""
        number = next(self.ids)
        for subscription in self.matching(topic):
            for client in tuple(subscription.clients):
                if client is not publisher:
                    named = None if subscription.match == "exact" else topic
                    event = message.Event(subscription.id, number, list(args), kwargs or None, topic=named)
                    client.send(event)
        return number

    def matching(self, topic: str) -> "list[_Subscription]":
        """Return the subscriptions that a topic matches."""
        return [each for each in self.topics.values() if each.matches(topic)]

    def meta(self, procedure: str) -> Callable[..., Any] | None:
        """Return the implementation of a procedure of the meta API."""
        known: dict[str, Callable[..., Any]] = {
            "wamp.session.list": lambda: list(self.clients),
            "wamp.session.get": lambda number: self._about(self.clients[number]),
            "wamp.registration.lookup": lambda uri, *_: self.procedures[uri].id if uri in self.procedures else None,
            "wamp.registration.list_callees": lambda number: [
                each.callee.id for each in self.procedures.values() if each.id == number
            ],
            "wamp.subscription.match": lambda topic: [each.id for each in self.matching(topic)] or None,
        }
        return known.get(procedure)

    @staticmethod
    def _about(client: "_Client") -> dict[str, Any]:
        return {"session": client.id, "authid": client.user, "authrole": client.user}


@dataclass(slots=True)
class _Registration:
    id: int
    callee: "_Client"


@dataclass(slots=True)
class _Call:
    caller: "_Client"
    request: int
    callee: "_Client"


@dataclass(slots=True)
class _Subscription:
    id: int
    uri: str
    match: str
    clients: "list[_Client]" = field(default_factory=list)

    def matches(self, topic: str) -> bool:
        if self.match == "exact":
            return topic == self.uri
        if self.match == "prefix":
            return topic.startswith(self.uri)
        parts, wanted = topic.split("."), self.uri.split(".")
        return len(parts) == len(wanted) and all(b in ("", a) for a, b in zip(parts, wanted, strict=True))


class _Client:
    """The router's side of a session; autobahn calls `onOpen`, `onMessage` and `onClose`."""

    def __init__(self, router: MemoryRouter) -> None:
        self.router, self.id, self.user = router, 0, ""
        self.transport: Any = None
        self._challenge = ""

    def onOpen(self, transport: Any) -> None:
        self.transport = transport

    def onClose(self, _was_clean: bool) -> None:
        self.transport = None
        self._leave()

    def onMessage(self, received: Any) -> None:
        getattr(self, f"_on_{type(received).__name__.lower()}")(received)

    def send(self, sent: Any) -> None:
        """Send a message, unless the session has gone meanwhile."""
        if self.transport is not None:
            self.transport.send(sent)

    def _on_hello(self, hello: Any) -> None:
        self.user = hello.authid or ""
        if hello.realm != self.router.realm:
            self._refuse("wamp.error.no_such_realm", f"no realm {hello.realm!r}")
        else:
            self._challenge = secrets.token_hex(16)
            self.send(message.Challenge("wampcra", {"challenge": self._challenge}))

    def _on_authenticate(self, answer: Any) -> None:
        secret = self.router.accounts.get(self.user)
        expected = compute_wcs((secret or "").encode(), self._challenge.encode()).decode()
        if secret is None or answer.signature != expected:
            self._refuse("wamp.error.authentication_failed", "the signature is invalid")
            return
        self.id = next(self.router.ids)
        self.router.clients[self.id] = self
        about = {"realm": self.router.realm, "authid": self.user, "authrole": self.user, "authmethod": "wampcra"}
        self.send(message.Welcome(self.id, _ROLES, authprovider="memory", **about))

    def _refuse(self, reason: str, text: str) -> None:
        self.send(message.Abort(reason, text))
        self.transport.close()

    def _on_abort(self, _abort: Any) -> None:
        self._leave()

    def _on_goodbye(self, _goodbye: Any) -> None:
        self.send(message.Goodbye("wamp.close.goodbye_and_out"))
        self._leave()

    def _leave(self) -> None:
        """Take back what the session has registered, subscribed to and called, and report that it has left."""
        if self.router.clients.pop(self.id, None) is None:
            return
        for uri in [uri for uri, each in self.router.procedures.items() if each.callee is self]:
            del self.router.procedures[uri]
        for subscription in tuple(self.router.topics.values()):
            self._unsubscribe(subscription)
        for number, call in tuple(self.router.calls.items()):
            if call.caller is self:
                del self.router.calls[number]
                call.callee.send(message.Interrupt(number, mode="killnowait"))
            elif call.callee is self:
                del self.router.calls[number]
                call.caller.fail(message.Call, call.request, "wamp.error.canceled", "the callee has left")
        self.router.publish("wamp.session.on_leave", self.id, self.user, self.user)

    def fail(self, kind: Any, request: int, error: str, text: str) -> None:
        """Answer a request with an error."""
        self.send(message.Error(kind.MESSAGE_TYPE, request, error, [text]))

    # Dealer

    def _on_register(self, register: Any) -> None:
        uri = register.procedure
        if uri in self.router.procedures:
            text = f"{uri} is registered"
            self.fail(message.Register, register.request, "wamp.error.procedure_already_exists", text)
            return
        self.router.procedures[uri] = _Registration(next(self.router.ids), self)
        self.send(message.Registered(register.request, self.router.procedures[uri].id))

    def _on_unregister(self, unregister: Any) -> None:
        for uri, each in tuple(self.router.procedures.items()):
            if each.id == unregister.registration and each.callee is self:
                del self.router.procedures[uri]
        self.send(message.Unregistered(unregister.request))

    def _on_call(self, call: Any) -> None:
        if (meta := self.router.meta(call.procedure)) is not None:
            try:
                self.send(message.Result(call.request, [meta(*(call.args or ()))]))
            except KeyError as error:
                self.fail(message.Call, call.request, "wamp.error.no_such_session", f"no session {error}")
        elif (found := self.router.procedures.get(call.procedure)) is None:
            text = f"no callee registered for procedure <{call.procedure}>"
            self.fail(message.Call, call.request, "wamp.error.no_such_procedure", text)
        else:
            number = next(self.router.ids)
            self.router.calls[number] = _Call(self, call.request, found.callee)
            who = {"caller": self.id, "caller_authid": self.user, "caller_authrole": self.user}
            arguments = {"args": call.args, "kwargs": call.kwargs, "receive_progress": call.receive_progress}
            found.callee.send(message.Invocation(number, found.id, procedure=call.procedure, **arguments, **who))

    def _on_cancel(self, cancel: Any) -> None:
        for number, call in tuple(self.router.calls.items()):
            if call.caller is self and call.request == cancel.request:
                if cancel.mode != "kill":
                    del self.router.calls[number]
                    self.fail(message.Call, call.request, "wamp.error.canceled", "the call was cancelled")
                if cancel.mode != "skip":
                    call.callee.send(message.Interrupt(number, mode=cancel.mode or "killnowait"))

    def _on_yield(self, result: Any) -> None:
        calls = self.router.calls
        call = calls.get(result.request) if result.progress else calls.pop(result.request, None)
        if call is not None:  # it was not cancelled meanwhile
            call.caller.send(message.Result(call.request, result.args, result.kwargs, progress=result.progress))

    def _on_error(self, error: Any) -> None:
        call = self.router.calls.pop(error.request, None)
        if call is not None:
            kind = message.Call.MESSAGE_TYPE
            call.caller.send(message.Error(kind, call.request, error.error, error.args, error.kwargs))

    # Broker

    def _on_subscribe(self, subscribe: Any) -> None:
        match = subscribe.match or "exact"
        key = (subscribe.topic, match)
        if subscribe.topic in self.router.refused:
            text = f"nobody may subscribe to {subscribe.topic}"
            self.fail(message.Subscribe, subscribe.request, "wamp.error.not_authorized", text)
            return
        if key not in self.router.topics:
            self.router.topics[key] = made = _Subscription(next(self.router.ids), *key)
            about = {"id": made.id, "uri": made.uri, "match": match}
            self.router.publish("wamp.subscription.on_create", self.id, about)
        subscription = self.router.topics[key]
        if self not in subscription.clients:
            subscription.clients.append(self)
        self.send(message.Subscribed(subscribe.request, subscription.id))

    def _on_unsubscribe(self, unsubscribe: Any) -> None:
        for subscription in tuple(self.router.topics.values()):
            if subscription.id == unsubscribe.subscription:
                self._unsubscribe(subscription)
        self.send(message.Unsubscribed(unsubscribe.request))

    def _unsubscribe(self, subscription: _Subscription) -> None:
        if self in subscription.clients:
            subscription.clients.remove(self)
            if not subscription.clients:
                del self.router.topics[subscription.uri, subscription.match]
                self.router.publish("wamp.subscription.on_delete", self.id, subscription.id)

    def _on_publish(self, publish: Any) -> None:
        publisher = None if publish.exclude_me is False else self
        number = self.router.publish(
            publish.topic, *(publish.args or ()), publisher=publisher, **(publish.kwargs or {})
        )
        if publish.acknowledge:
            self.send(message.Published(publish.request, number))
