"""A class of your own, a `DataNodeServer` or a `Service`, as a node of the site."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sisock.errors import BadRequest, ChildFailed
from sisock.nodetype import NodeContext, NodeType
from sisock_nodes.python.settings import PythonSettings

if TYPE_CHECKING:
    from sisock.service import Service

# Seconds that a module may take to be imported when it is checked.
_IMPORT_S = 60.0


def make_service(settings: PythonSettings, context: NodeContext) -> "Service | Callable[[Any], Any]":
    """Return a service, or a function that makes the session of a `DataNodeServer`.

    Raises
    ------
    BadRequest
        If the class cannot be loaded, or does not take its arguments.
    """
    from sisock.service import Service
    from sisock_nodes.python.loading import load_class, made

    found = load_class(settings.class_, str(settings.path))
    if issubclass(found, Service):
        service: Service = made(settings, found)
        return service

    def make_session(config: Any) -> Any:
        session = made(settings, found, config)
        session.name = context.name
        if settings.description is not None:
            session.description = settings.description
        return session

    return make_session


def check(settings: PythonSettings) -> None:
    """Raise BadRequest if the class cannot be loaded; its module is imported in a process of its own."""
    from sisock.child import Child

    arguments = [settings.class_, str(settings.path), settings.arguments]
    child = Child("sisock_nodes.python.loading:check_class", arguments, deadline_s=_IMPORT_S)
    child.start()
    try:
        child.result()
    except ChildFailed as error:
        raise BadRequest(f"class {settings.class_} cannot be imported: {error.message}") from error


node_type = NodeType(PythonSettings, make_service=make_service, check=check)
