"""The former place of `sisock.procedure`; deprecated."""

import warnings
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from sisock.procedure import TAKEN, Command, explained

__all__ = ["TAKEN", "Procedure", "explained"]


def Procedure(  # noqa: N802 - it was a class
    name: str, description: str, parameters: type[BaseModel], run: Callable[[Any], Any]
) -> Command:
    """Return a command. Deprecated: use `sisock.procedure.Query`, `Command` or `Operation`."""
    warnings.warn(
        "sisock.control.Procedure is deprecated; use Query, Command or Operation of sisock.procedure",
        DeprecationWarning,
        stacklevel=2,
    )
    return Command(name, description, parameters, None, run)
