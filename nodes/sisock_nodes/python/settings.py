"""The settings of ``type: python``."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sisock.nodetype import NodeSettings
from sisock.settings import SitePath


def _named(name: str) -> str:
    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise ValueError(f"{name!r} does not name a class; write package.module:Class")
    return name


class PythonSettings(NodeSettings):
    """A class of your own: a `DataNodeServer` or a `Service`."""

    type: Literal["python"]
    class_: Annotated[str, AfterValidator(_named)] = Field(alias="class")
    """The class, as ``package.module:Class``."""
    path: SitePath = Path()
    """The folder that the module is in, by default that of the site file."""
    arguments: dict[str, Any] = Field({})
    """Arguments of the class, by name; a `DataNodeServer` gets them after its config."""

    @model_validator(mode="after")
    def _own(self) -> Self:
        if kept := self.model_fields_set & {"history", "allowance", "publish_to", "expect_every", "alarms"}:
            raise ValueError(f"{', '.join(sorted(kept))}: a class of your own has no history here; leave it out")
        return self
