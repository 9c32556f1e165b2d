"""The settings of ``type: host``."""

from typing import Annotated, Literal

from pydantic import Field

from sisock.nodetype import NodeSettings
from sisock.settings import Seconds, Settings

Interval = Annotated[Seconds, Field(ge=0.1)]


class Intervals(Settings):
    """Seconds between the readings of each timeline."""

    cpu: Interval = 1.0
    load: Interval = 2.0
    memory: Interval = 2.0
    network: Interval = 1.0
    disks: Interval = 10.0
    temperatures: Interval = 5.0
    clock: Interval = 5.0
    system: Interval = 60.0


class HostSettings(NodeSettings):
    """This machine: CPU, load, memory, disks, network, temperatures, clock."""

    type: Literal["host"]
    description: str | None = "This machine: CPU, load, memory, disks, network, temperatures, clock"
    intervals: Intervals = Intervals()
    """Seconds between the readings of each timeline."""
    leave_out: tuple[str, ...] = ("network.veth*", "network.docker*", "disk./snap/*", "disk./boot*")
    """Patterns of fields that are not wanted, such as those of virtual network devices."""
