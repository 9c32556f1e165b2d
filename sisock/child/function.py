"""Functions by name, `module:function`, so that another process can import them."""

import importlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sisock.child.frames import CALL, Message, encode
from sisock.errors import BadRequest


def name_of(function: Callable[..., Any] | str) -> str:
    """Return the name by which another process can import a function.

    Raises
    ------
    BadRequest
        If it cannot be imported by that name.
    """
    if isinstance(function, str):
        module, colon, attribute = function.partition(":")
        if not colon or not module or not attribute.replace(".", "").isidentifier():
            raise BadRequest(f"{function!r} is not a function's name; write package.module:function")
        return function
    module, attribute = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if not module or not attribute:
        raise BadRequest(f"{function!r} is not a function that another process can import; give a function of a module")
    name = f"{module}:{attribute}"
    if module == "__main__":
        raise BadRequest(
            f"{attribute} is in the program that is run, which another process cannot import; move it into a module"
        )
    if not _is(function, name):
        raise BadRequest(
            f"{name} is not what another process finds by that name; define the function at the top of its module"
        )
    return name


def _is(function: Callable[..., Any], name: str) -> bool:
    try:
        return bool(load(name) == function)
    except BadRequest:
        return False


def load(name: str) -> Callable[..., Any]:
    """Return the function of a name.

    Raises
    ------
    BadRequest
        If its module cannot be imported, or has no such function.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise BadRequest(f"{module} of {name} cannot be imported: {error}") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise BadRequest(f"{module} has no {attribute}") from None
    if not callable(found):
        raise BadRequest(f"{name} is not a function, but {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def encoded_call(name: str, arguments: Sequence[Any] | Mapping[str, Any]) -> bytes:
    """Return the message that asks a process to call a function.

    Raises
    ------
    BadRequest
        If an argument cannot be pickled.
    TooLarge
        If the arguments are larger than a message may be.
    """
    positional, named = ((), dict(arguments)) if isinstance(arguments, Mapping) else (tuple(arguments), {})
    try:
        call = pickle.dumps((name, positional, named), pickle.HIGHEST_PROTOCOL)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise BadRequest(f"the arguments of {name} cannot be sent to another process: {error}") from error
    return encode(Message(CALL, call))
