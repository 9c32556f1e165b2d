"""Every source of measurements of a site, served and read in one way.

The names below are loaded when they are first used, so that ``import sisock`` stays cheap and a program
that only handles data never loads the network library.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sisock import base as base
    from sisock.base import DataNodeServer, sisock_to_unix_time, uri
    from sisock.consumer import BlockingConsumer, Consumer
    from sisock.fields import Batch, Field, Timeline
    from sisock.procedure import Command, Operation, Query
    from sisock.runner import run, serve
    from sisock.source import Polled, Source

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "BlockingConsumer",
    "Command",
    "Consumer",
    "DataNodeServer",
    "Field",
    "Operation",
    "Polled",
    "Query",
    "Source",
    "Timeline",
    "__version__",
    "run",
    "serve",
    "sisock_to_unix_time",
    "uri",
]

_HOME = {
    "Batch": "fields",
    "BlockingConsumer": "consumer",
    "Command": "procedure",
    "Consumer": "consumer",
    "DataNodeServer": "base",
    "Field": "fields",
    "Operation": "procedure",
    "Polled": "source",
    "Query": "procedure",
    "Source": "source",
    "Timeline": "fields",
    "run": "runner",
    "serve": "runner",
    "sisock_to_unix_time": "base",
    "uri": "base",
}


# A program that sets up no logging sees errors as exceptions, not as lines of ours on its terminal.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"sisock.{_HOME[name]}"), name)
    if name == "base":  # the published API is used as `sisock.base.DataNodeServer` after `import sisock`
        return import_module("sisock.base")
    raise AttributeError(f"module 'sisock' has no attribute {name!r}")
