"""Errors; the name of each is also the end of its error URI on the wire."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from traceback import TracebackException
    from types import TracebackType


class SisockError(Exception):
    """Something that sisock can say clearly; the root of all its errors."""

    name: ClassVar[str] = "error"
    """End of the error URI: an error travels as ``<base>.error.<name>``."""
    retriable: ClassVar[bool] = False
    """Whether the same request may succeed later without being changed."""
    origin: "TracebackException | None" = None
    """Where an error that a `BlockingConsumer` raises came from: ``"".join(error.origin.format())``."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        # KeyError, which some leaves derive from, would print the repr.
        return self.message

    def _render_traceback_(self) -> list[str]:
        """Return the traceback for IPython and Jupyter: the message, and the frames of the caller only."""
        from IPython.core.getipython import get_ipython

        frames = _frames_of_the_caller(self.__traceback__)
        # The first frame is IPython's own.
        shown: list[str] = get_ipython().InteractiveTB.structured_traceback(type(self), self, frames, tb_offset=1)
        return shown


def _frames_of_the_caller(frames: "TracebackType | None") -> "TracebackType | None":
    """Return frames without the last ones, as far as these are of sisock."""
    if frames is None:
        return None
    rest = _frames_of_the_caller(frames.tb_next)
    if rest is None and frames.tb_frame.f_globals.get("__name__", "").startswith("sisock."):
        return None
    return type(frames)(rest, frames.tb_frame, frames.tb_lasti, frames.tb_lineno)


class BadRequest(SisockError, ValueError):
    """The request itself is wrong: a bound that is not finite, `end` before `start`, a bad name."""

    name = "bad_request"


class NoSuchField(SisockError, KeyError):
    """The node has no field of that name."""

    name = "no_such_field"


class NoSuchTimeline(SisockError, KeyError):
    """The node has no timeline of that name."""

    name = "no_such_timeline"


class NoSuchNode(SisockError, KeyError):
    """No node of that name is registered with the hub."""

    name = "no_such_node"


class NoSuchAlarm(SisockError, KeyError):
    """The node has no alarm of that name."""

    name = "no_such_alarm"


class NoSuchTable(SisockError, KeyError):
    """The node has no table of that name."""

    name = "no_such_table"


class NameTaken(SisockError):
    """Another node of that name is already there."""

    name = "name_taken"


class NotAllowed(SisockError, PermissionError):
    """The caller's role does not permit this."""

    name = "not_allowed"


class Busy(SisockError):
    """The node has too much to do at the moment."""

    name = "busy"
    retriable = True


class Conflict(SisockError):
    """A value was not changed, since it is not the one that the change expects."""

    name = "conflict"


class TooLarge(SisockError):
    """The answer, or the request, is larger than the node's allowance."""

    name = "too_large"


class NodeFailed(SisockError, RuntimeError):
    """The node's own code raised an error while it answered, or does not override what it must."""

    name = "node_failed"


class ChildFailed(SisockError, RuntimeError):
    """A program or a function in a process of its own died, was stopped, or could not be started."""

    name = "child_failed"


class BadAnswer(SisockError):
    """A data node answered something that is not a reply of the contract."""

    name = "bad_answer"


class NoRouter(SisockError, ConnectionError):
    """Nothing answers at the router's address, or the connection broke off."""

    name = "no_router"
    retriable = True


class NotOpen(NoRouter):
    """The consumer was closed by its program, or not opened yet."""

    name = "not_open"
    retriable = False


class NoHub(SisockError, ConnectionError):
    """The router is there but no hub has joined it."""

    name = "no_hub"
    retriable = True


class Refused(SisockError, PermissionError):
    """The router refused to let us in: wrong user or secret, or no such realm."""

    name = "refused"


class UnsuitableRouter(SisockError):
    """The router lacks a feature of WAMP, or a permission, that sisock needs."""

    name = "unsuitable_router"
    retriable = True


class NodeLeft(SisockError, ConnectionError):
    """The node left the router while it was to answer."""

    name = "node_left"
    retriable = True


class TimedOut(SisockError, TimeoutError):
    """No answer came in the time allowed."""

    name = "timed_out"
    retriable = True


class NoSuchProcedure(SisockError, KeyError):
    """The node offers no query, command or operation of that name."""

    name = "no_such_procedure"


class NoSuchRun(SisockError, KeyError):
    """The node knows no run of that id; the oldest runs are forgotten."""

    name = "no_such_run"


class RunCancelled(SisockError):
    """A run of an operation was cancelled."""

    name = "run_cancelled"


class RunFailed(SisockError, RuntimeError):
    """A run of an operation failed: its code raised an error, or its deadline passed, or its node stopped."""

    name = "run_failed"


class NotSupported(SisockError, NotImplementedError):
    """The node or the gateway cannot do that, such as end by force a function that runs in a thread."""

    name = "not_supported"


class BadData(SisockError, ValueError):
    """A source emitted something that does not fit what it declared."""

    name = "bad_data"


class BadHistory(SisockError):
    """The folder of a history, or a file in it, cannot be used: not writable, damaged, of a newer format, or in use."""

    name = "bad_history"


class MissingExtra(SisockError, ImportError):
    """A feature needs a package that is an optional extra and is not installed."""

    name = "missing_extra"  # type: ignore[misc]  # ImportError has a name of its own, the module's


class SiteError(SisockError, ValueError):
    """The site file is wrong.

    Attributes
    ----------
    problems : list of str
        One line each: ``file:line: key.path: error``.
    """

    name = "bad_site"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def leaves(root: type[SisockError] = SisockError) -> Iterator[type[SisockError]]:
    """Yield every error class below `root`, so that each can be defined on a session."""
    for kind in root.__subclasses__():
        yield kind
        yield from leaves(kind)
