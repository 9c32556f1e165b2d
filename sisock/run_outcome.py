"""The end of a run, from what its code has returned or raised."""

import logging
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

from sisock.errors import BadAnswer, BadRequest, RunCancelled, RunFailed, SisockError
from sisock.jsontext import as_encodable, as_text
from sisock.run_context import RunState
from sisock.runs import Run
from sisock.serializable import serializable_copy

# Characters of the text of an error.
_LONGEST = 2000

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """The end of a run: its state, its result as it is sent, the bytes of that, and its error."""

    state: RunState
    result: Any = None
    bytes: int = 0
    error: SisockError | None = None


def outcome_of(run: Run, result: Any, error: BaseException | None) -> Outcome:
    """Return the end of a run whose code has returned or raised; never raises itself."""
    shaped, size = None, 0
    if error is None:
        try:
            shaped, size = serializable_copy(run.operation.shaped(result))
        except BadRequest as invalid:
            error = BadAnswer(f"the result of {run.operation.name} is not valid: {invalid.message}")
        except Exception as invalid:  # noqa: BLE001 - also what the code of a model raises
            error = invalid
    if run.is_overdue:
        return Outcome("failed", shaped, size, RunFailed(str(run.reason)))
    if run.reason is not None and (error is None or _is_cancellation(error)):
        return Outcome("cancelled", shaped, size, RunCancelled(run.reason))
    if error is None:
        return Outcome("done", shaped, size)
    if not isinstance(error, SisockError):
        log.error("run %s of %s failed", run.id, run.operation.name, exc_info=error)
        error = RunFailed(error_text(f"{type(error).__name__}: {as_text(error)}"))
    return Outcome("failed", shaped, size, error)


def error_text(error: object) -> str:
    """Return the text of an error as every message can carry it: without its end if it is long."""
    return as_encodable(as_text(error)[:_LONGEST])


def _is_cancellation(error: BaseException) -> bool:
    """Whether an error is that of a run that has ended since it was cancelled."""
    return isinstance(error, RunCancelled | CancelledError) or type(error).__name__ == "CancelledError"
