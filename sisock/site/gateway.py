"""Where the gateway listens, and who may come in."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from sisock.access import GATEWAY
from sisock.settings import Seconds, Settings, Size, is_loopback
from sisock.site.router import TlsSettings


class GatewaySettings(Settings):
    """Where the gateway serves Grafana, the HTTP API and the console."""

    host: str = "127.0.0.1"
    """The address to listen on; beyond this machine the secrets file must have users or tokens."""
    port: int = Field(8082, ge=1, le=65535)
    """TCP port of HTTP."""
    tls: TlsSettings | None = None
    """Serve ``https`` with this certificate; ``tls: {}`` takes the files of ``sisock init --tls``."""
    plain: bool = False
    """Must be set to allow the gateway to listen beyond this machine without TLS."""
    operator: bool = False
    """Whether the gateway has the operator's account, so that it can call commands of nodes."""
    cors: list[str] = Field(default_factory=list)
    """Origins of pages elsewhere that may ask the gateway, such as ``https://example.org``."""
    connections: int = Field(800, ge=10)
    """Most connections at a time; where there are as many, the one that is idle longest is cut for a new one."""
    connections_per_address: int = Field(400, ge=5)
    """Most connections of one address at a time; behind a proxy all come from its address."""
    request_timeout: Seconds = Field(20.0, ge=1.0)
    """Within which a request must have come as a whole, from the connection or the answer before it on."""
    unread_timeout: Seconds = Field(30.0, ge=1.0)
    """After which a connection whose reader takes nothing of what waits for it is cut."""
    unsent_bytes: Size = Field(128_000_000, ge=1_000_000)
    """Most bytes that wait for all readers together; beyond it those furthest behind are cut."""

    @model_validator(mode="after")
    def _no_plain_text_beyond_loopback(self) -> Self:
        if self.tls is None and not self.plain and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines, and there is no tls; run `sisock init --tls` "
                "and add `tls: {}`, or write `plain: true` if passwords and data may cross the network unprotected, "
                "such as behind a proxy"
            )
        return self

    @property
    def url(self) -> str:
        """Where it is, as it is typed into a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/"


def _not_the_gateway(name: str) -> str:
    if name == GATEWAY:
        raise ValueError("this is the account of the gateway itself; choose another name")
    return name


_Name = Annotated[str, AfterValidator(_not_the_gateway)]


class GatewayUser(Settings):
    """An account of a person at the gateway."""

    password: SecretStr = Field(min_length=8)
    operator: bool = False
    """Whether they may have nodes do something."""


class GatewaySecrets(Settings):
    """The gateway's own account, and the accounts of those who log in there; without any it needs no login."""

    secret: SecretStr | None = Field(None, min_length=1)
    """The secret of the account `gateway`, with which the gateway joins the router."""
    users: dict[_Name, GatewayUser] = Field(default_factory=dict)
    """People, by name; they log in at the console, or by HTTP's basic authentication."""
    tokens: dict[_Name, Annotated[SecretStr, Field(min_length=16)]] = Field(default_factory=dict)
    """Programs, by name; they send ``Authorization: Bearer <token>`` and may only ask."""
