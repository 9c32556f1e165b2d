"""Finding the class that a node of ``type: python`` names."""

import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sisock.errors import BadRequest

if TYPE_CHECKING:
    from sisock_nodes.python.settings import PythonSettings


def load_class(name: str, path: str) -> type[Any]:
    """Return a class by its name, ``package.module:Class``, from a folder or from what is installed.

    Raises
    ------
    BadRequest
        If its module cannot be imported, or has no such class, or it is neither a `DataNodeServer` nor a `Service`.
    """
    from sisock.base import DataNodeServer
    from sisock.service import Service

    module, _, attribute = name.partition(":")
    if path not in sys.path:
        sys.path.insert(0, path)
    found: Any = _imported(module, path)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise BadRequest(f"class {name}: {module} has no {attribute}{_offered(found, (DataNodeServer, Service))}")
        found = getattr(found, part)
    if not isinstance(found, type) or not issubclass(found, DataNodeServer | Service):
        raise BadRequest(
            f"class {name} is neither a sisock.base.DataNodeServer nor a sisock.service.Service; derive it from one"
        )
    if found in (DataNodeServer, Service):
        raise BadRequest(f"class {name} is the base itself; derive a class of your own from it")
    return found


def _imported(module: str, path: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise BadRequest(
                f"module {module} is neither in {path} nor installed; `path` sets the folder to look in"
            ) from error
        raise BadRequest(f"module {module} cannot be imported: {error}") from error
    except Exception as error:  # whatever the module raises
        raise BadRequest(f"module {module} cannot be imported: {type(error).__name__}: {error}") from error


def _offered(module: Any, bases: tuple[type, ...]) -> str:
    own = getattr(module, "__name__", None)
    classes = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == own]
    names = [each.__name__ for each in classes if issubclass(each, bases)]
    return f"; it has {', '.join(sorted(names))}" if names else ""


def made(settings: "PythonSettings", found: type[Any], *more: Any) -> Any:
    """Return an instance of a class, made with the arguments of the site file.

    Raises
    ------
    BadRequest
        If the class does not take them.
    """
    _check_arguments(settings.class_, found, settings.arguments, *more)
    return found(*more, **settings.arguments)


def _check_arguments(name: str, found: type[Any], arguments: Mapping[str, Any], *more: Any) -> None:
    try:
        inspect.signature(found).bind(*more, **arguments)
    except TypeError as error:
        given = ", ".join(arguments) or "none"
        raise BadRequest(f"class {name} does not take these arguments (given: {given}): {error}") from error


def check_class(name: str, path: str, arguments: Mapping[str, Any]) -> None:
    """Raise BadRequest if a class cannot be used; called in a process of its own, since it runs the module."""
    from sisock.service import Service

    found = load_class(name, path)
    _check_arguments(name, found, arguments, *([] if issubclass(found, Service) else [None]))
