"""A source of your own, from a class in the site's folder."""

import inspect
import sys
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

from sisock.errors import BadRequest
from sisock.nodetype import NodeContext, NodeType
from sisock.source import Source
from sisock_nodes.python_source.settings import PythonSourceSettings


def make_sources(settings: PythonSourceSettings, context: NodeContext) -> Sequence[Source]:
    """Return an instance of the class, which gets the context of the node if it has a parameter of that name.

    Raises
    ------
    BadRequest
        If the class cannot be imported or made, or is not a source.
    """
    if str(settings.path) not in sys.path:
        sys.path.insert(0, str(settings.path))
    try:
        own = resolve_name(settings.class_)
        known: dict[str, Any] = {"context": context} if _takes_context(own) else {}
        source = own(**(known | settings.arguments))
    except Exception as error:  # whatever the module and the class raise
        raise BadRequest(
            f"class {settings.class_} from {settings.path} cannot be used: {type(error).__name__}: {error}"
        ) from error
    if missing := [name for name in ("timelines", "counters", "start", "stop") if not hasattr(source, name)]:
        raise BadRequest(f"class {settings.class_} is not a sisock.Source: it has no {', '.join(missing)}")
    return [source]


def _takes_context(own: Any) -> bool:
    try:
        return "context" in inspect.signature(own).parameters
    except (TypeError, ValueError):  # a class of an extension module may have no signature
        return False


node_type = NodeType(PythonSourceSettings, make_sources)
