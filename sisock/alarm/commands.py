"""The query and the commands about alarms that every node offers."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sisock.alarm.alarms import Alarms, Outcome
from sisock.alarm.settings import AlarmName, AlarmSettings
from sisock.procedure import CallContext, Command, Procedure, Query
from sisock.settings import Seconds
from sisock.times import Clock, parse_time

Comment = Annotated[str | None, Field(max_length=1000, description="for those who read about it later")]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Which(_Arguments):
    """Arguments of ``query.alarms``."""

    name: str = Field("*", description="an alarm, or a pattern such as room/*")


class WithComment(_Arguments):
    """Alarms, and a comment."""

    name: str = Field(description="an alarm, or a pattern such as room/*")
    comment: Comment = None


class WithEnd(WithComment):
    """Alarms, an end, and a comment."""

    until: float | str | None = Field(None, description="end: UNIX seconds, or ISO 8601 text in UTC")
    duration: Seconds | None = Field(None, alias="for", description="or for how long: seconds, or text such as 2h")

    @model_validator(mode="after")
    def _has_one_end(self) -> Self:
        if (self.until is None) == (self.duration is None):
            raise ValueError("give either until, the time of the end, or for, a duration such as 2h")
        return self

    def end(self, now: float) -> float:
        """Return the end in UNIX seconds.

        Raises
        ------
        BadRequest
            If it is not a valid time.
        """
        if self.duration is not None:
            return now + self.duration
        until = self.until
        return parse_time(until) if isinstance(until, str) else float(until or 0.0)


class Definition(AlarmSettings):
    """Arguments of ``set_alarm``: a name, and the keys of an alarm in the site file."""

    name: AlarmName
    """Name of the alarm; room/temperature is in the group room."""


class One(_Arguments):
    """Arguments of ``delete_alarm``."""

    name: str = Field(description="an alarm that was set by command")


def alarm_procedures(alarms: Alarms, clock: Clock) -> list[Procedure]:
    """Return the query and the commands for the alarms of a node."""

    def listed(which: Which) -> list[dict[str, Any]]:
        return alarms.list(which.name)

    def acknowledge(which: WithComment, context: CallContext) -> Outcome:
        return alarms.acknowledge(which.name, which.comment, context.caller.name)

    def reset(which: WithComment, context: CallContext) -> Outcome:
        return alarms.reset(which.name, which.comment, context.caller.name)

    def shelve(which: WithEnd, context: CallContext) -> Outcome:
        return alarms.shelve(which.name, which.end(clock.now()), which.comment, context.caller.name)

    def unshelve(which: WithComment, context: CallContext) -> Outcome:
        return alarms.unshelve(which.name, which.comment, context.caller.name)

    def suppress(which: WithEnd, context: CallContext) -> Outcome:
        return alarms.suppress(which.name, which.end(clock.now()), which.comment, context.caller.name)

    def define(definition: Definition, context: CallContext) -> Outcome:
        content = definition.as_content()
        settings = AlarmSettings.model_validate({key: value for key, value in content.items() if key != "name"})
        return alarms.set(definition.name, settings, context.caller.name)

    def delete(which: One, context: CallContext) -> Outcome:
        return alarms.delete(which.name, context.caller.name)

    commands: list[tuple[str, str, type[BaseModel], Any]] = [
        ("acknowledge_alarm", "Acknowledge alarms: somebody knows of them.", WithComment, acknowledge),
        ("reset_alarm", "Reset latched alarms that are acknowledged and have cleared.", WithComment, reset),
        ("shelve_alarm", "Shelve alarms until a time: nobody is notified of them.", WithEnd, shelve),
        ("unshelve_alarm", "End the shelving or suppression of alarms.", WithComment, unshelve),
        ("suppress_alarm", "Suppress alarms of equipment that is out of service until a time.", WithEnd, suppress),
        ("set_alarm", "Define an alarm, or replace its definition.", Definition, define),
    ]
    return [
        Query("alarms", "List the alarms with their states.", Which, None, listed, is_builtin=True),
        *(Command(name, text, model, Outcome, run, is_builtin=True) for name, text, model, run in commands),
        Command(
            *("delete_alarm", "Delete an alarm that was set by command.", One, Outcome, delete),
            destructive=True,
            is_builtin=True,
        ),
    ]
