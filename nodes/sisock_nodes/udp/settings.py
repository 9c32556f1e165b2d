"""The settings of ``type: udp``."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from sisock.nodetype import NodeSettings
from sisock.settings import Seconds
from sisock_nodes.records.settings import RecordSettings


def _address(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IP address; give one such as 192.168.0.7, or leave it out for any"
        ) from None
    return str(getattr(address, "ipv4_mapped", None) or address)


Port = Annotated[int, Field(ge=1, le=65535)]
SourceId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]


class SourceSettings(RecordSettings):
    """One sender's records."""

    address: Annotated[str, AfterValidator(_address)] | None = None
    """The sender's address; by default any."""
    port: Port | None = None
    """The port that it sends from; by default any."""
    receive_on: Port | None = None
    """The node's port that it sends to; by default any of them."""
    lateness: Seconds = 1.0
    """How late a record may come and still be sorted in, by its own time."""
    max_ahead: Seconds = 86400.0
    """Records that are farther ahead of the clock than this are refused."""

    def catches(self, other: "SourceSettings") -> bool:
        """Whether the same datagrams would be for both sources, with none of them meant more exactly."""
        return (self.address, self.port, self.receive_on) == (other.address, other.port, other.receive_on)

    @property
    def exactness(self) -> tuple[bool, bool, bool]:
        """How exactly the sender is named: of several sources that a datagram is for, the most exact has it."""
        return (self.address is not None, self.port is not None, self.receive_on is not None)


class UdpSettings(NodeSettings):
    """Binary datagrams from rigs and sensors: struct formats and HBM's Catman, any number of senders on a port."""

    type: Literal["udp"]
    description: str | None = "Binary datagrams"
    host: str = "0.0.0.0"  # noqa: S104 - rigs are other machines
    """The address to receive on."""
    port: Port | list[Port]
    """The port to receive on; or several."""
    sources: dict[SourceId, SourceSettings] = Field(default_factory=dict)
    """Sources by their ids; more can be created while the node runs."""

    @field_validator("port")
    @classmethod
    def _each_once(cls, port: int | list[int]) -> int | list[int]:
        if isinstance(port, list) and (not port or len(set(port)) < len(port)):
            raise ValueError("give at least one port, each once")
        return port

    @model_validator(mode="after")
    def _apart(self) -> Self:
        known: dict[str, SourceSettings] = {}
        for name, source in self.sources.items():
            check_source(name, source, known, self.ports)
            known[name] = source
        return self

    @property
    def ports(self) -> list[int]:
        """All ports to receive on."""
        return self.port if isinstance(self.port, list) else [self.port]

    def exclusive_resources(self) -> Sequence[str]:
        """Return the ports."""
        return [f"UDP port {port} of {self.host}" for port in self.ports]


def check_source(name: str, source: SourceSettings, known: Mapping[str, SourceSettings], ports: Sequence[int]) -> None:
    """Raise ValueError if a source cannot be beside others."""
    for other, settings in known.items():
        if source.catches(settings):
            raise ValueError(f"sources {other!r} and {name!r} would get the same datagrams; give address or port")
    if source.receive_on is not None and source.receive_on not in ports:
        raise ValueError(f"receive_on is {source.receive_on}, but the node receives on {', '.join(map(str, ports))}")
