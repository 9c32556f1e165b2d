"""Notifications of alarms: which alarm goes to which target, and when.

Each target has a bounded queue and a thread of its own, so that one that hangs holds up nothing else.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from sisock.alarm.settings import SEVERITIES, Severity
from sisock.alarm.state import State
from sisock.errors import BadRequest, MissingExtra
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.patterns import expanded, matching
from sisock.printable import printable
from sisock.settings import Seconds, Settings
from sisock.times import Clock, iso
from sisock.worker import Worker

log = logging.getLogger(__name__)

# Most notices that wait for a target, and most that one message lists.
_MOST_WAITING, _MOST_LISTED = 1000, 50
# Most alarms of which it is remembered whether a target wants them.
_MOST_NAMES = 10_000
# Seconds for which alarms that come together are gathered before the first message.
_GATHER_S = 1.0
# Seconds until a target that failed is tried again, doubled each time up to the second one.
_BACK_OFF_S, _LONGEST_BACK_OFF_S = 2.0, 300.0
# Seconds after which a delivery that has not ended is reported.
_LONGEST_DELIVERY_S = 60.0
# Seconds for which a stop waits for a delivery.
_PATIENCE_S = 3.0
_WAYS = ("webhook", "email", "apprise")


def _valid_pattern(pattern: str) -> str:
    try:
        expanded(pattern)
    except BadRequest as error:
        raise ValueError(error.message) from None
    return pattern


Patterns = Annotated[list[Annotated[str, AfterValidator(_valid_pattern)]], Field(min_length=1)]
"""Names, or patterns of names."""


class EmailSettings(Settings):
    """A mail server, and the addresses of sender and recipients."""

    server: str = Field(min_length=1)
    """Host name of the SMTP server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    """Its port."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls`, `tls` from the first byte on (port 465), or `none`."""
    user: str | None = None
    """Login, whose password is the target's secret; without it there is none."""
    sender: str = Field(min_length=3, pattern=r"^[^\s<>,]+@[^\s<>,]+$", alias="from")
    """Address of the sender."""
    to: Annotated[list[Annotated[str, Field(pattern=r"^[^\s<>,]+@[^\s<>,]+$")]], Field(min_length=1)]
    """Addresses of the recipients."""


class NotificationSettings(Settings):
    """A target of notifications, and the alarms that go there."""

    webhook: str | None = Field(None, pattern=r"^https?://[^\s/]+")
    """URL that gets a POST with JSON; {secret} in it is replaced by the target's secret."""
    email: EmailSettings | None = None
    """A mail server with addresses."""
    apprise: str | None = Field(None, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://\S+$")
    """URL of apprise: Slack, Matrix, Telegram, SMS and others; {secret} is replaced."""
    severity: Severity = "warning"
    """The lowest severity that goes there."""
    nodes: Patterns = Field(default_factory=lambda: ["*"])
    """Nodes, by name or pattern."""
    alarms: Patterns = Field(default_factory=lambda: ["*"])
    """Alarms, by name or pattern such as `room/*`."""
    interval: Seconds = 60.0
    """Time between two messages of a node at least; what comes meanwhile goes into one message."""
    cleared: bool = True
    """Whether alarms that have cleared are reported as well."""

    @model_validator(mode="after")
    def _has_one_way(self) -> Self:
        given = [way for way in _WAYS if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError(f"has {' and '.join(given) or 'no way to reach it'}; give one of {', '.join(_WAYS)}")
        if self.webhook is not None:
            parts = urlsplit(self.webhook)
            if parts.username is not None:
                raise ValueError("webhook has a user in its address; give a token in its path or query, as {secret}")
            _ = parts.port  # raises ValueError if it is not a number
        return self

    @property
    def needs_secret(self) -> bool:
        """Whether the target has a secret, which is in `secrets.yaml`."""
        if self.email is not None:
            return self.email.user is not None
        return "{secret}" in (self.webhook or self.apprise or "")

    def concerns(self, node: str) -> bool:
        """Whether alarms of a node go there."""
        return any(matching(pattern, [node]) for pattern in self.nodes)

    def check(self) -> None:
        """Raise MissingExtra where the target needs apprise and it is not installed."""
        if self.apprise is not None and find_spec("apprise") is None:
            raise MissingExtra("apprise is not installed; pip install 'sisock[notify]'")


@dataclass(frozen=True, slots=True)
class Target:
    """A target of notifications, ready to be used.

    Attributes
    ----------
    name : str
    settings : NotificationSettings
    secret : SecretStr or None
    """

    name: str
    settings: NotificationSettings
    secret: SecretStr | None = None


class Notice(NamedTuple):
    """An alarm that was raised, or has cleared."""

    t: float
    """UNIX seconds."""
    node: str
    alarm: str
    severity: Severity
    state: State
    text: str


class Message(NamedTuple):
    """A message to a target: one notice, or a digest of several."""

    title: str
    text: str
    severity: Severity
    """The highest one of the alarms that were raised; info if all have cleared."""
    notices: Sequence[Notice]
    more: int
    """Notices that are not listed."""


def is_raised(notice: Notice) -> bool:
    """Whether a notice reports an alarm that was raised, and not one that has cleared."""
    return notice.state == "unacknowledged"


def digest(notices: Sequence[Notice], dropped: int = 0) -> Message:
    """Return the message of some notices, the most severe first.

    Parameters
    ----------
    notices : sequence of Notice
        One at least.
    dropped : int
        How many more there were that were dropped.
    """
    ranked = sorted(notices, key=lambda each: (not is_raised(each), -SEVERITIES.index(each.severity)))
    listed, raised = ranked[:_MOST_LISTED], sum(map(is_raised, notices))
    more = len(ranked) - len(listed) + dropped
    first = listed[0]
    severity = first.severity if is_raised(first) else "info"
    if len(notices) + dropped == 1:
        title = f"{first.severity if is_raised(first) else 'cleared'}: {first.node} {first.alarm}"
    else:
        title = f"{raised} alarms raised, {len(notices) - raised} cleared; highest severity: {severity}"
    lines = [
        f"{iso(each.t)} {each.severity if is_raised(each) else 'cleared'} {each.node} {each.alarm}: {each.text}"
        for each in listed
    ]
    if more:
        lines.append(f"and {more} more; `sisock alarms` lists all")
    return Message(printable(title), "\n".join(map(printable, lines)), severity, listed, more)


class Notifier:
    """Sends notices to one target, gathered so that there are few messages.

    Parameters
    ----------
    target : Target
    clock : Clock
    outages : OutageLog
        Where a target that cannot be reached is reported.
    send : callable
        Delivers a message, or raises; see `sisock.alarm.delivery.sender`.
    """

    def __init__(
        self,
        target: Target,
        clock: Clock,
        outages: OutageLog,
        send: Callable[[Message], None],
    ) -> None:
        self.name = target.name
        self.counters = Counters("notices", "messages", "failures", "dropped")
        self._settings, self._clock, self._outages = target.settings, clock, outages
        self._send = send
        self._is_named = lru_cache(_MOST_NAMES)(
            lambda alarm: any(matching(pattern, [alarm]) for pattern in target.settings.alarms)
        )
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._waiting: deque[Notice] = deque()
        self._dropped = 0
        self._sending_since: float | None = None  # by the monotonic clock
        self._worker = Worker(f"notify {self.name}", self._run, patience_s=_PATIENCE_S, wake=self._wake.set)

    @property
    def waiting(self) -> int:
        """How many notices wait."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to send; once more does nothing."""
        if not self._worker.is_alive:
            self._worker.start()

    def stop(self) -> None:
        """End sending; what waits is sent first, if the target takes it at once."""
        if not self._worker.stop() or self._waiting:
            log.warning("notification target %s: %d notices are not sent", self.name, len(self._waiting))

    def put(self, notice: Notice) -> None:
        """Have a notice sent if it is for this target; does not wait. Beyond a thousand the oldest are dropped."""
        settings = self._settings
        if SEVERITIES.index(notice.severity) < SEVERITIES.index(settings.severity):
            return
        if not (is_raised(notice) or settings.cleared) or not self._is_named(notice.alarm):
            return
        with self._lock:
            self._waiting.append(notice)
            if len(self._waiting) > _MOST_WAITING:
                self._waiting.popleft()
                self._dropped += 1
                self.counters.add("dropped")
        self.counters.add("notices")
        self._wake.set()

    def _run(self) -> None:
        stopping, back_off = self._worker.stopping, _BACK_OFF_S
        while not stopping.is_set():
            self._clock.wait(self._wake, _LONGEST_BACK_OFF_S)
            self._wake.clear()
            if not self._waiting:
                continue
            self._clock.wait(stopping, _GATHER_S)
            if self._deliver():
                back_off = _BACK_OFF_S
                self._clock.wait(stopping, self._settings.interval)
            else:
                self._clock.wait(stopping, back_off)
                back_off = min(2 * back_off, _LONGEST_BACK_OFF_S)
            self._wake.set()
        if self._waiting and not self._outages.failing(self._key):
            self._deliver()

    def tick(self) -> None:
        """Report a delivery that does not end, as to a target that answers a byte at a time."""
        since = self._sending_since
        if since is None or self._clock.monotonic() - since < _LONGEST_DELIVERY_S:
            return
        self._sending_since = None
        self.counters.add("failures")
        self._outages.failed(
            self._key, f"a delivery has not ended for {_LONGEST_DELIVERY_S:g} s; later ones wait for it"
        )

    @property
    def _key(self) -> str:
        return f"notification target {self.name}"

    def _deliver(self) -> bool:
        """Send what waits in one message, and forget it if that succeeds; return whether it has."""
        with self._lock:
            notices, dropped = tuple(self._waiting), self._dropped
        self._sending_since = self._clock.monotonic()
        try:
            self._send(digest(notices, dropped))
        except Exception as error:  # noqa: BLE001 - libraries of many services raise anything; it is counted and logged
            self.counters.add("failures")
            self._outages.failed(self._key, error)
            return False
        finally:
            self._sending_since = None
        with self._lock:
            # Some may have been dropped meanwhile.
            gone = self._dropped - dropped
            for _ in range(len(notices) - gone):
                self._waiting.popleft()
            self._dropped = max(0, gone - len(notices))
        self.counters.add("messages")
        self._outages.recovered(self._key)
        return True

    def status(self) -> dict[str, Any]:
        """Return counters, and how many notices wait."""
        return {"target": self.name, "waiting": self.waiting, "counters": self.counters.as_dict()}
