"""Events of nodes, as a consumer asks for them and reads the answer."""

from collections.abc import Mapping
from typing import Any, ClassVar

from sisock.errors import BadAnswer, NoSuchNode, SisockError
from sisock.event import SEVERITIES, Event, EventPage
from sisock.timelike import Time, as_start, as_time

# Seconds for which events gather before they are read, and after which they are read though nothing was published.
GATHER_S, LOOK_S = 0.05, 30.0
# Seconds until a node that has not answered is asked again.
_RETRY_S = 2.0
_MOST = 1000


class EventReading:
    """The requests of a reader of a node's events, and when they are due; it does not wait or request itself.

    Parameters
    ----------
    node : str
    which : mapping
        Selects events, see `Consumer.events`.
    position : int or None
        The cursor of an earlier answer; None to begin with what happens next.
    """

    query = "events"
    """The query of the node that is called."""
    _newest: ClassVar[Mapping[str, Any]] = {"limit": 1}  # the arguments with which the cursor is that of the end

    def __init__(self, node: str, which: Mapping[str, Any], position: int | None) -> None:
        self.topics = (f"consumer.{node}.{self._topic(which)}", "consumer.data_node_added")
        self._node, self._position = node, position
        self._which = {name: value for name, value in which.items() if value is not None}
        self._has_answered = False
        self.wait_s = 0.0
        """Seconds to wait before the next request, at most: until something is published."""

    def request(self) -> dict[str, Any]:
        """Return the arguments of the next request."""
        more = self._newest if self._position is None else {"limit": _MOST, "after": self._position}
        return {**self._which, **more}

    def answered(self, answer: Any) -> Any:
        """Return the page of an answer; None if it is empty.

        Raises
        ------
        BadAnswer
            If it is not of the contract.
        """
        page, begins = self._page(answer), self._position is None
        is_at_end = page.cursor == self._position
        self._has_answered, self._position, self.wait_s = True, page.cursor, LOOK_S if is_at_end else 0.0
        return page if self._has_some(page) and not begins else None

    def _topic(self, _which: Mapping[str, Any]) -> str:
        return "events"

    def _page(self, answer: Any) -> Any:
        return events_of(self._node, answer)

    def _has_some(self, page: Any) -> bool:
        return bool(page.events)

    def failed(self, error: SisockError) -> None:
        """Request again later; raises the error where that would be in vain, or the node has never answered."""
        if not self._has_answered or not (error.retriable or isinstance(error, NoSuchNode)):
            raise error
        self.wait_s = _RETRY_S


def events_asked(start: Time | None, end: Time | None, which: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``query.events``, without those that are None.

    Raises
    ------
    BadRequest
        If a bound is not a time.
    """
    bounds = {
        "start": None if start is None else as_start(start),
        "end": None if end is None else as_time(end, "end"),
    }
    return {name: value for name, value in {**bounds, **which}.items() if value is not None}


def events_of(node: str, answer: Any) -> EventPage:
    """Return the events that an answer of ``query.events`` stands for.

    Raises
    ------
    BadAnswer
        If it is not of the contract.
    """
    try:
        events = [_event(each) for each in answer["events"]]
        return EventPage(events, int(answer["cursor"]), int(answer["oldest"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(f"query.events of node {node!r} answered something else than events: {error!r}") from error


def _event(content: Mapping[str, Any]) -> Event:
    severity = content["severity"]
    if severity not in SEVERITIES:
        raise ValueError(f"{severity!r} is not a severity")
    kind, subject, text = (str(content[name]) for name in ("kind", "subject", "text"))
    return Event(float(content["time"]), kind, subject, text, severity, dict(content["data"]), int(content["seq"]))
