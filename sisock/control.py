"""Procedures that operators may call on a node, described so that any program can offer them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from sisock.errors import BadRequest

TAKEN = frozenset({"f", "fun", "options", "procedure", "self"})
"""Names that no argument of a call may have: autobahn and Twisted hand them on beside their own of these names."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """A control procedure of a node.

    Attributes
    ----------
    name : str
        The last component of its URI, ``control.<node>.<name>``.
    description : str
        Its effect, in a sentence.
    parameters : type of pydantic.BaseModel
        Names, types, defaults and limits of its arguments.
    run : callable
        Called with the validated arguments, in a thread; returns a value that can be serialized.

    Raises
    ------
    BadRequest
        If a parameter has a name that is `TAKEN`.
    """

    name: str
    description: str
    parameters: type[BaseModel]
    run: Callable[[Any], Any]

    def __post_init__(self) -> None:
        if taken := TAKEN & self.parameters.model_json_schema().get("properties", {}).keys():
            raise BadRequest(f"{self.name}: a parameter cannot be called {min(taken)!r}, which WAMP's library keeps")

    def described(self) -> dict[str, Any]:
        """Return name, description and parameters, these as a JSON schema."""
        schema = self.parameters.model_json_schema()
        return {"name": self.name, "description": self.description, "parameters": schema}

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Validate arguments and run the procedure.

        Raises
        ------
        BadRequest
            With all validation errors of the arguments.
        """
        try:
            checked = self.parameters.model_validate(arguments)
        except ValidationError as error:
            raise BadRequest(f"{self.name}: {'; '.join(explained(error))}") from error
        return self.run(checked)


def explained(error: ValidationError) -> list[str]:
    """Return the validation errors of arguments, each with the name of the argument."""
    errors = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        message = {"missing": "is missing", "extra_forbidden": "is not known"}.get(problem["type"], problem["msg"])
        message = message.removeprefix("Value error, ")
        where = ".".join(str(part) for part in problem["loc"])
        errors.append(f"{where}: {message}" if where else message)
    return errors
