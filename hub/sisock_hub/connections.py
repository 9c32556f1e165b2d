"""Connections of the router: bounds on their number, on the time to log in, and on bytes that their peers do not read.

Knows Twisted's transports and WAMP's sessions by their attributes only; see `sisock_hub.guard` for what is Crossbar's.
"""

import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sisock.metrics import Counters
from sisock.settings import is_loopback

# Bytes of a chunk of a large answer, with its envelope; so many more may wait for a client that reads, which gets the
# next one unasked.
_CHUNK = (1 << 20) + (1 << 16)
_AHEAD = 2
# Seconds after which other clients no longer wait for one that reads nothing.
_STUCK_S = 1.0
# Seconds after which a chunk that was announced is no longer waited for.
_ANNOUNCED_S = 5.0
# More wrong logins of an address than this within so many seconds are answered with a delay.
_WRONG_LOGINS, _WRONG_LOGINS_S, _WRONG_LOGIN_DELAY_S = 10, 60.0, 2.0
# Log lines about refused and cut connections within one check.
_LINES = 5
# Twisted's value for the method of an incomplete HTTP request.
_INCOMPLETE = b"(no method yet)"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on the connections of a router; sizes in bytes, times in seconds.

    Attributes
    ----------
    connections, connections_per_address : int
        Addresses of the machine itself have only the first bound.
    login_s : float
        Time within which a client must have logged in.
    unsent, unsent_total : int
        Bytes that wait for one client, and for all of them.
    unsent_s : float
        Time after which a client that takes nothing is cut, when more than `unsent` bytes wait for it.
    """

    connections: int
    connections_per_address: int
    login_s: float
    unsent: int
    unsent_total: int
    unsent_s: float


class Connection:
    """One connection of a client: its transport, its session after the login, and the bytes that wait for it."""

    def __init__(self, wrapper: Any, address: str, now: float) -> None:
        self.wrapper, self.address = wrapper, address
        self.waiting_since = now
        self.stuck_since: float | None = None
        self.cut = False
        self._announced: list[float] = []
        self._mark: Any = None

    @property
    def transport(self) -> Any:
        """The socket's own transport, below TLS."""
        return self.wrapper.transport

    @property
    def protocol(self) -> Any:
        """Its current protocol: HTTP, WebSocket or RawSocket."""
        protocol = self.wrapper.wrappedProtocol
        while (inner := getattr(protocol, "wrappedProtocol", None)) is not None:
            protocol = inner
        return protocol

    @property
    def session(self) -> Any:
        """The WAMP session, or None before it has joined a realm."""
        session = getattr(self.protocol, "_session", None)
        return session if getattr(session, "_session_id", None) else None

    @property
    def answering(self) -> bool:
        """Whether a complete HTTP request is being answered."""
        channel = getattr(self.protocol, "_channel", None)
        return any(request.method != _INCOMPLETE for request in getattr(channel, "requests", ()))

    @property
    def unsent(self) -> int:
        """Bytes that wait in this process because the buffer of the kernel is full."""
        transport = self.transport
        return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)  # noqa: SLF001 - no public way

    def announce(self, now: float) -> None:
        """Note that a chunk for this client is on its way through the router."""
        self._announced.append(now)

    def arrived(self) -> None:
        """Note that an answer, or a part of one, was sent to this client."""
        if self._announced:
            self._announced.pop(0)

    def announced(self, now: float) -> int:
        """Return how many chunks are on their way to this client."""
        self._announced = [then for then in self._announced if now - then < _ANNOUNCED_S]
        return len(self._announced)

    def look(self, now: float) -> None:
        """Note whether the kernel has accepted anything since the last check."""
        transport = self.transport
        mark = (id(transport.dataBuffer), len(transport.dataBuffer), transport.offset)
        if not self.unsent:
            self.stuck_since = None
        elif self.stuck_since is None or mark != self._mark:
            self.stuck_since = now
        self._mark = mark
        if self.session is not None or self.answering:
            self.waiting_since = now

    def __str__(self) -> str:
        session = self.session
        who = f"{session._authid} ({session._authrole})" if session else "a client that has not logged in"  # noqa: SLF001
        return f"{who} at {self.address}"


class Connections:
    """All connections of a router.

    Parameters
    ----------
    limits : Limits
    clock : callable
        Returns seconds of a clock that only goes forward.
    log : callable
        Gets a line for people.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float], log: Callable[[str], None]) -> None:
        self.limits = limits
        self.counters = Counters(
            "accepted",
            "refused",
            "not_logged_in",
            "not_read",
            "not_read_total",
            "bad_messages",
            "wrong_logins",
            "ended",
            "end_refused",
        )
        self._clock, self._log = clock, log
        self._by_transport: dict[Any, Connection] = {}
        self._per_address: dict[str, int] = {}
        self._lines = 0
        self._unlogged = 0
        # Never less than what waits: counted exactly when that reaches the bound.
        self._at_most_unsent = 0
        self._wrong_logins: dict[str, int] = {}
        self._wrong_logins_since = clock()

    def __len__(self) -> int:
        return len(self._by_transport)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._by_transport.values())

    def may_open(self, address: str) -> bool:
        """Return whether one more connection of an address is accepted; the oldest that waits for its login yields."""
        everybody = len(self) >= self.limits.connections
        bounded = address != "unix" and not is_loopback(address)
        if not everybody and not (bounded and self._per_address.get(address, 0) >= self.limits.connections_per_address):
            self.counters.add("accepted")
            return True
        rivals = (each for each in self if (everybody or each.address == address) and not each.cut)
        yielding = min(
            (each for each in rivals if each.session is None and not each.answering),
            key=lambda each: each.waiting_since,
            default=None,
        )
        if yielding is None:
            self.counters.add("refused")
            which = (
                f"{self.limits.connections} connections"
                if everybody
                else (f"{self.limits.connections_per_address} connections of {address}")
            )
            self._report(f"a connection of {address} is refused: there are {which} already")
            return False
        self._cut(yielding, "not_logged_in", "others want to log in")
        self.counters.add("accepted")
        return True

    def opened(self, wrapper: Any, address: str) -> None:
        """Take a new connection."""
        self._by_transport[wrapper.transport] = Connection(wrapper, address, self._clock())
        self._per_address[address] = self._per_address.get(address, 0) + 1

    def closed(self, wrapper: Any) -> None:
        """Forget a connection."""
        connection = self._by_transport.pop(wrapper.transport, None)
        if connection is None:
            return
        self._per_address[connection.address] -= 1
        if not self._per_address[connection.address]:
            del self._per_address[connection.address]

    def of(self, transport: Any) -> Connection | None:
        """Return the connection of a transport, or of one that TLS is spoken on."""
        return self._by_transport.get(transport) or self._by_transport.get(getattr(transport, "transport", None))

    def wrote(self, size: int) -> None:
        """Note that so many bytes were handed to a transport; where too many wait, cut the worst clients at once."""
        self._at_most_unsent += size
        if self._at_most_unsent <= self.limits.unsent_total:
            return
        waiting = self.unsent()
        if waiting > self.limits.unsent_total:
            self._cut_worst(waiting)
        self._at_most_unsent = self.unsent()

    def unsent(self) -> int:
        """Return the bytes that wait for all clients together."""
        return sum(each.unsent for each in self if not each.cut)

    def has_room(self, session: int) -> bool:
        """Return whether a chunk for a session may be sent to the router, and count it as on its way if it may."""
        now = self._clock()
        connection = self._of_session(session)
        if connection is None:
            return True  # it has left, or is none of a client: nothing waits for it
        if connection.unsent + (connection.announced(now) - _AHEAD) * _CHUNK > self.limits.unsent:
            return False
        # Those that read nothing are left to the bounds; they must not hold up the others.
        moving = sum(each.unsent for each in self if each.stuck_since is None or now - each.stuck_since < _STUCK_S)
        announced = 1 + sum(each.announced(now) for each in self)
        if moving + announced * _CHUNK > self.limits.unsent_total // 2:
            return False
        connection.announce(now)
        return True

    def end_session(self, session: int) -> bool:
        """Cut the connection of a session that another replaces; False if there is none."""
        connection = self._of_session(session)
        if connection is not None:
            self._cut(connection, "ended", "the hub asked for it")
        return connection is not None

    def refuse_ending(self, session: int, caller: int) -> None:
        """Count, and log, that a session other than the hub's asked to end one."""
        self.counters.add("end_refused")
        by = self._of_session(caller) or f"session {caller}"
        self._report(f"{by} may not end session {session}: only the hub may")

    def _of_session(self, session: int) -> Connection | None:
        return next((each for each in self if each.session and each.session._session_id == session), None)  # noqa: SLF001

    def look(self) -> None:
        """Cut clients that have not logged in, or read nothing, in time."""
        now = self._clock()
        self._lines = 0
        if self._unlogged:
            self._log(f"{self._unlogged} more connections were refused or cut")
            self._unlogged = 0
        for each in list(self):
            if each.cut:
                continue
            each.look(now)
            if now - each.waiting_since > self.limits.login_s:
                self._cut(each, "not_logged_in", f"it has not logged in within {self.limits.login_s:g} s")
            elif (
                each.stuck_since is not None
                and each.unsent > self.limits.unsent
                and now - each.stuck_since >= self.limits.unsent_s
            ):
                self._cut(each, "not_read", f"it has read none of {each.unsent} bytes for {self.limits.unsent_s:g} s")
        if now - self._wrong_logins_since > _WRONG_LOGINS_S:
            self._wrong_logins.clear()
            self._wrong_logins_since = now
        self._at_most_unsent = self.unsent()

    def wrong_login(self, connection: Connection, user: str | None, why: str) -> float:
        """Count and log a login that was refused, and return the seconds by which its answer is to be delayed."""
        self.counters.add("wrong_logins")
        address = connection.address
        self._report(f"a login{f' as {user!r}' if user else ''} from {address} is refused: {why}")
        wrong = self._wrong_logins[address] = self._wrong_logins.get(address, 0) + 1
        if wrong <= _WRONG_LOGINS:
            return 0.0
        connection.waiting_since = self._clock()  # the delay is not the client's
        return _WRONG_LOGIN_DELAY_S

    def status(self) -> dict[str, Any]:
        """Return the numbers of connections and of bytes that wait, their bounds, and the counters of cuts."""
        return {
            "connections": len(self),
            "logged_in": sum(each.session is not None for each in self),
            "unsent": self.unsent(),
            "connections_limit": self.limits.connections,
            "unsent_limit": self.limits.unsent_total,
            "counters": self.counters.as_dict(),
        }

    def refuse_message(self, transport: Any, why: str) -> None:
        """Cut a client that sent an invalid message."""
        connection = self.of(transport)
        if connection is not None and not connection.cut:
            self._cut(connection, "bad_messages", why)

    def _cut_worst(self, waiting: int) -> None:
        """Cut those for which most bytes wait, and whose kernel buffer is full, until a quarter is free."""
        waits = [each for each in self if not each.cut and each.unsent]
        blocked = _blocked(waits)
        for worst in sorted(blocked, key=lambda each: -each.unsent):
            if waiting <= self.limits.unsent_total * 3 // 4:
                break
            waiting -= worst.unsent
            self._cut(worst, "not_read_total", f"it does not read {worst.unsent} bytes, the most of all clients")

    def _cut(self, connection: Connection, counter: str, why: str) -> None:
        self.counters.add(counter)
        self._report(f"the connection of {connection} is cut: {why}")
        connection.cut = True
        transport = connection.transport
        transport.abortConnection()
        # Twisted would keep them until whoever holds the transport lets go.
        transport.dataBuffer, transport.offset = b"", 0
        transport._tempDataBuffer, transport._tempDataLen = [], 0  # noqa: SLF001 - no public way

    def _report(self, line: str) -> None:
        self._lines += 1
        if self._lines <= _LINES:
            self._log(line)
        else:
            self._unlogged += 1


def _blocked(connections: list[Connection]) -> list[Connection]:
    """Return those whose kernel buffer is full; bytes of the others wait only for this process."""
    poll = select.poll()
    by_number = {each.transport.fileno(): each for each in connections}
    for number in by_number:
        poll.register(number, select.POLLOUT)
    for number, _ in poll.poll(0):
        del by_number[number]
    return list(by_number.values())
