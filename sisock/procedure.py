"""Procedures of a node: queries, commands and operations, described so that any program can offer them.

All three take typed arguments and return a typed result. A **query** reads, and is safe to repeat; a **command**
changes something and returns soon; an **operation** takes long, so that it has runs, see `sisock.operation`.
"""

import inspect
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sisock.child.function import name_of
from sisock.errors import BadAnswer, BadRequest, NameTaken

TAKEN = frozenset({"f", "fun", "options", "procedure", "self"})
"""Names that no argument of a call may have: autobahn and Twisted hand them on beside their own of these names."""
RESERVED = frozenset(
    {
        *("operations", "operation", "cancel_operation", "events"),
        *("alarms", "set_alarm", "delete_alarm", "acknowledge_alarm", "shelve_alarm", "unshelve_alarm"),
        *("suppress_alarm", "reset_alarm", "tables", "table"),
    }
)
"""Names of procedures that a node has itself."""

Kind = Literal["query", "command", "operation"]

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Principal:
    """A person or program for whom the gateway calls.

    Attributes
    ----------
    user : str
    role : str
        The role in which they have logged in at the gateway.
    """

    user: str
    role: str


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a procedure, as the router discloses it; never taken from an argument.

    Attributes
    ----------
    authid : str or None
        Account of the caller's session. None where the router does not disclose it, or the node itself calls.
    role : str or None
    session : int or None
        WAMP session id.
    on_behalf_of : Principal or None
        The person or program for which the gateway calls.
    """

    authid: str | None = None
    role: str | None = None
    session: int | None = None
    on_behalf_of: Principal | None = None

    @property
    def name(self) -> str:
        """The name of the person or the account, as records show it."""
        if self.on_behalf_of is not None:
            return self.on_behalf_of.user
        return self.authid or "the node"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, as records and events keep it."""
        behalf = self.on_behalf_of
        return {
            "authid": self.authid,
            "role": self.role,
            "session": self.session,
            "on_behalf_of": None if behalf is None else {"user": behalf.user, "role": behalf.role},
        }


@dataclass(frozen=True, slots=True)
class CallContext:
    """The context of a query or a command.

    Attributes
    ----------
    caller : Caller
    """

    caller: Caller = field(default_factory=Caller)


class NoArguments(BaseModel):
    """The arguments of a procedure without parameters."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Procedure:
    """A query, a command or an operation: its name, its arguments and its code.

    Attributes
    ----------
    name : str
        The end of its URI: letters, digits, ``_`` and ``-``, in components joined by dots.
    description : str
        Its effect, in a sentence.
    parameters : type of pydantic.BaseModel, or None
        Names, types, defaults and limits of its arguments; None where it takes none.
    result : type of pydantic.BaseModel, or None
        Its result; None for any value that can be serialized.
    run : callable
        Its code. Called with the validated arguments and a context (`CallContext`, or `sisock.run_context.RunContext`
        for an operation), or with as many of the two as it takes; without parameters with the context, or with
        nothing. A plain function runs in a thread, and a coroutine function, or one that `inlineCallbacks` decorates,
        in the reactor's thread, which it must not block.
    destructive : bool
        Whether it destroys something; consoles ask before they call it.
    is_builtin : bool
        Whether it is one of a node's own, whose names are `RESERVED`.

    Raises
    ------
    BadRequest
        If the name is not valid, or a parameter has a name that is `TAKEN` or begins with ``_``.
    """

    name: str
    description: str
    parameters: type[BaseModel] | None
    result: type[BaseModel] | None
    run: Callable[..., Any]
    destructive: bool = field(default=False, kw_only=True)
    is_builtin: bool = field(default=False, kw_only=True)

    kind: ClassVar[Kind]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or len(self.name) > _LONGEST_NAME:
            raise BadRequest(
                f"{self.name!r} is not a valid name of a {self.kind}; use letters, digits, _ and -, in components "
                f"joined by dots, at most {_LONGEST_NAME} characters"
            )
        for name in self.schema.get("properties", {}):
            if name in TAKEN:
                raise BadRequest(f"{self.name}: a parameter cannot be called {name!r}, which WAMP's library keeps")
            if name.startswith("_"):
                raise BadRequest(f"{self.name}: a parameter cannot be called {name!r}; choose one without _ first")

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of its parameters."""
        return (self.parameters or NoArguments).model_json_schema()

    @cached_property
    def _known(self) -> frozenset[str] | None:
        """Names of arguments, where the model of the parameters would leave out unknown ones without an error."""
        model = self.parameters
        if model is None or model.model_config.get("extra", "ignore") != "ignore":
            return None
        aliases = (each.alias for each in model.model_fields.values() if each.alias)
        return frozenset((*model.model_fields, *aliases))

    @cached_property
    def runs_in_reactor(self) -> bool:
        """Whether `run` belongs into the reactor's thread: a coroutine function, or one with `inlineCallbacks`."""
        run: Any = self.run
        while isinstance(run, partial):
            run = run.func
        if not inspect.isroutine(run):
            run = run.__call__
        return inspect.iscoroutinefunction(run) or inspect.isgeneratorfunction(inspect.unwrap(run))

    @cached_property
    def _given(self) -> slice:
        """Which of arguments and context `run` takes."""
        first = 0 if self.parameters is not None else 1
        try:
            parameters = inspect.signature(self.run).parameters.values()
        except (TypeError, ValueError):  # some functions that are written in C have none
            return slice(first, first + 1 if first == 0 else first)
        positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        takes_any = any(each.kind is each.VAR_POSITIONAL for each in parameters)
        return slice(first, 2 if takes_any else min(2, first + len(positional)))

    def described(self) -> dict[str, Any]:
        """Return name, kind, description, and parameters and result as JSON schemas."""
        return {
            "name": self.name,
            "kind": self.kind,
            "description": self.description,
            "destructive": self.destructive,
            "parameters": self.schema,
            "result": None if self.result is None else self.result.model_json_schema(),
        }

    def validated(self, arguments: Mapping[str, Any]) -> BaseModel:
        """Return validated arguments.

        Raises
        ------
        BadRequest
            With all validation errors.
        """
        model = self.parameters or NoArguments
        unknown = (
            [f"{name}: is not known" for name in sorted(arguments.keys() - self._known)]
            if self._known is not None
            else []
        )
        try:
            validated = model.model_validate(arguments)
        except ValidationError as error:
            raise BadRequest(f"{self.name}: {'; '.join([*explained(error), *unknown])}") from error
        if unknown:
            raise BadRequest(f"{self.name}: {'; '.join(unknown)}")
        return validated

    def call(self, arguments: BaseModel, context: Any) -> Any:
        """Run the code with validated arguments; return a value, a coroutine, or a Deferred."""
        return self.run(*(arguments, context)[self._given])

    def shaped(self, value: Any) -> Any:
        """Return a result in the form of the model `result`, with plain values.

        Raises
        ------
        BadAnswer
            If it does not validate.
        """
        if self.result is None:
            return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        try:
            model = value if isinstance(value, self.result) else self.result.model_validate(value, from_attributes=True)
            return model.model_dump(mode="json")
        except ValidationError as error:
            raise BadAnswer(f"the result of {self.name} is not valid: {'; '.join(explained(error))}") from error


@dataclass(frozen=True)
class Query(Procedure):
    """A procedure that reads and changes nothing, so that it is safe to repeat: ``consumer.<node>.query.<name>``."""

    kind: ClassVar[Kind] = "query"


@dataclass(frozen=True)
class Command(Procedure):
    """A procedure that changes something and returns soon, within a second: ``control.<node>.<name>``."""

    kind: ClassVar[Kind] = "command"


@dataclass(frozen=True)
class Operation(Procedure):
    """A procedure that takes long: it has runs, which report progress and can be cancelled: ``control.<node>.<name>``.

    Attributes
    ----------
    exclusive : str or None
        Runs of all operations of the node with the same name here never run at the same time: the name of what they
        need, such as an axis.
    when_busy : {"queue", "refuse"}
        What is done with a run while another one has `exclusive`.
    deadline : float or None
        Seconds after which a run is cancelled and fails, from its start on.
    isolated : bool
        Whether a run has a process of its own, so that it can be killed; `run` is then an importable function.
    """

    kind: ClassVar[Kind] = "operation"
    exclusive: str | None = None
    when_busy: Literal["queue", "refuse"] = "queue"
    deadline: float | None = None
    isolated: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deadline is not None and not self.deadline > 0:
            raise BadRequest(f"{self.name}: deadline is {self.deadline}; give seconds above 0, or None")
        if self.when_busy not in ("queue", "refuse"):
            raise BadRequest(f"{self.name}: when_busy is {self.when_busy!r}; give 'queue' or 'refuse'")
        if self.isolated:
            if self.runs_in_reactor:
                raise BadRequest(f"{self.name}: isolated code runs in a process without a reactor; write a function")
            try:
                name_of(self.run)
            except BadRequest as error:
                raise BadRequest(f"{self.name} cannot be isolated: {error.message}") from error

    def described(self) -> dict[str, Any]:
        """Return the description of `Procedure.described`, and `exclusive` and `deadline`."""
        return {**super().described(), "exclusive": self.exclusive, "deadline": self.deadline}


class Offers:
    """The procedures that a node offers at present, by name; used from any thread.

    Attributes
    ----------
    revision : int
        Rises when an offer or a withdrawal has taken effect.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._lock = threading.Lock()
        self._procedures: dict[str, Procedure] = {}

    def add(self, procedure: Procedure) -> None:
        """Add a procedure.

        Raises
        ------
        NameTaken
            If there is one of that name, whatever its kind, or it is one of a node's own.
        """
        if procedure.name in RESERVED and not procedure.is_builtin:
            raise NameTaken(f"{procedure.name!r} is a procedure of every node; give yours another name")
        with self._lock:
            if (other := self._procedures.get(procedure.name)) is not None:
                raise NameTaken(f"there is a {other.kind} {procedure.name!r} already; withdraw it first")
            self._procedures[procedure.name] = procedure

    def remove(self, name: str) -> Procedure:
        """Remove a procedure and return it.

        Raises
        ------
        BadRequest
            If there is none of that name, or it is one of a node's own.
        """
        with self._lock:
            procedure = self._procedures.get(name)
            if procedure is None or procedure.is_builtin:
                raise BadRequest(f"no procedure {name!r} is offered")
            return self._procedures.pop(name)

    def discard(self, procedure: Procedure) -> None:
        """Remove a procedure, unless it was removed already; another one of its name stays."""
        with self._lock:
            if self._procedures.get(procedure.name) is procedure:
                del self._procedures[procedure.name]

    def get(self, name: str) -> Procedure | None:
        """Return the procedure of that name; None if there is none."""
        return self._procedures.get(name)

    def all(self) -> list[Procedure]:
        """Return all procedures, in the order in which they were offered."""
        with self._lock:
            return list(self._procedures.values())


def explained(error: ValidationError) -> list[str]:
    """Return the validation errors of arguments, each with the name of the argument."""
    errors = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        message = {"missing": "is missing", "extra_forbidden": "is not known"}.get(problem["type"], problem["msg"])
        message = message.removeprefix("Value error, ")
        where = ".".join(str(part) for part in problem["loc"])
        errors.append(f"{where}: {message}" if where else message)
    return errors
