"""The settings of ``type: python-source``."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sisock.nodetype import NodeSettings
from sisock.settings import SitePath


class PythonSourceSettings(NodeSettings):
    """A source of your own: a class with the methods of `sisock.Source`."""

    type: Literal["python-source"]
    class_: str = Field(alias="class", pattern=r"^\w+(\.\w+)*:\w+(\.\w+)*$")
    """The class, as ``package.module:Class``."""
    path: SitePath = Path()
    """The folder that the module is in, by default that of the site file."""
    arguments: dict[str, Any] = Field({})
    """Arguments of the class, by name."""
