"""How a life of a child ended: its result, or the text of its error."""

import pickle
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sisock.child.frames import ERROR, RESERVED, RESULT, Message
from sisock.errors import ChildFailed

# Programs of sisock exit with 2 when their settings or their environment are invalid, after they have logged why.
_HINTS = {2: ": its settings or its environment must be corrected, see its output above"}


@dataclass(slots=True)
class Outcome:
    """How a life ended, as far as it is known."""

    name: str
    limits: Mapping[str, int]
    is_function: bool
    status: int | None = None
    """Exit status, minus the signal that killed it; None where it has not started."""
    reason: str | None = None
    """The reason for which there is no exit status, or for which it was ended."""
    result: bytes | None = None
    """Result of a function, pickled."""
    is_reported: bool = False
    """Whether an operator knows of the end already."""
    error: Mapping[str, Any] | None = None
    """Exception of a function, see `sisock.child.called.described`."""

    @property
    def succeeded(self) -> bool:
        """Whether a function returned, or a program ended by itself without an error."""
        if self.is_function:
            return self.result is not None
        return self.status == 0 and self.reason is None

    @property
    def last_exit(self) -> str:
        """How it ended, in a few words."""
        return self.reason or _ending(self.status or 0)

    @property
    def sentence(self) -> str:
        """How it ended, with a hint at the cause where there is one."""
        if self.reason is not None:
            return f"{self.name} {self.reason}"
        return f"{self.name} ended ({self.last_exit}{self._hint()})"

    def take(self, message: Message) -> bool:
        """Keep the message that ends a function's run, and return whether it is one."""
        if message.kind == RESULT:
            self.result = message.value
        elif message.kind == ERROR:
            self.error = message.value
        return message.kind in RESERVED

    def value(self, last_lines: Sequence[str]) -> Any:
        """Return the result of the function, or the exit status of the program.

        Raises
        ------
        ChildFailed
            If it died, was stopped, or did not start; with the last lines that it printed.
        Exception
            The one that the function raised.
        """
        if self.result is not None:
            return self._loaded(self.result)
        if self.error is not None:
            raise self._raised(self.error) from _Origin(self.error["traceback"])
        if self.succeeded:
            return self.status
        text = self.sentence
        lines = "".join(f"\n  {line}" for line in last_lines)
        raise ChildFailed(f"{text}; its last lines:{lines}" if lines else text, last_lines=list(last_lines))

    def _loaded(self, result: bytes) -> Any:
        try:
            return pickle.loads(result)  # noqa: S301 - see `sisock.child.frames.encode`
        except Exception as error:  # whatever its classes raise
            raise ChildFailed(f"the result of {self.name} cannot be read here: {error}") from error

    def _raised(self, error: Mapping[str, Any]) -> Exception:
        if error["type"] == "MemoryError" and "memory" in self.limits:
            return ChildFailed(f"{self.name} needed more memory than its limit of {self.limits['memory']} bytes")
        try:
            raised = pickle.loads(error["pickled"])  # noqa: S301 - see `sisock.child.frames.encode`
        except Exception:  # noqa: BLE001 - its class is known to the child alone, or cannot be made again
            raised = None
        if isinstance(raised, Exception):
            return raised
        return ChildFailed(f"{self.name} raised {error['type']}: {error['text']}", traceback=error["traceback"])

    def _hint(self) -> str:
        if self.status == -signal.SIGXCPU and "cpu_s" in self.limits:
            return f": more than its limit of {self.limits['cpu_s']} s of CPU time"
        if self.status != 0 and "memory" in self.limits:
            return f"; its memory is limited to {self.limits['memory']} bytes"
        if self.status == -signal.SIGKILL:
            return ": by a person or a program, or by the kernel because the machine had no memory left"
        if self.status == 0 and self.is_function:
            return " without a result"
        return _HINTS.get(self.status or 0, "")


class _Origin(Exception):
    """The traceback of a child's exception, shown as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # the real-time signals have numbers only
        return f"killed by signal {-status}"
