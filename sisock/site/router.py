"""Where the router listens."""

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from sisock.settings import InputPath, Seconds, Settings, SitePath, Size, is_loopback

OCS_URI = "observatory"
"""The root of the URIs of OCS agents."""


class TlsSettings(Settings):
    """The router's certificate, as ``sisock init --tls`` makes it."""

    certificate: SitePath = Path("tls/server.pem")
    """The server's certificate (PEM), with intermediate certificates after it where there are any."""
    key: SitePath = Path("tls/server.key")
    """The server's private key (PEM)."""
    ca: SitePath = Path("tls/ca.pem")
    """The certificate (PEM) of the authority that clients verify the server by."""


class OcsRouterSettings(Settings):
    """A door for OCS agents and clients as they are: without a login, into ``observatory.`` and nothing else."""

    host: str = "127.0.0.1"
    """The address to listen on; beyond this machine whoever reaches it may act as an agent."""
    port: int = Field(8001, ge=1, le=65535)
    """WebSocket on ``/ws`` and HTTP calls on ``/call``."""


class RouterSettings(Settings):
    """Where the router listens; or, with `url`, where a router that runs elsewhere is reached."""

    url: str | None = None
    """Address of a router that this site does not start: ``ws``, ``wss``, ``rs``, ``rss`` (RawSocket) or ``unix:``."""
    ca: InputPath | None = None
    """The certificate (PEM) of the authority that signed that router's certificate; the system's when not given."""
    host: str = "127.0.0.1"
    """Address that the router binds to."""
    port: int = Field(8080, ge=1, le=65535)
    """TCP port of WebSocket, on the path ``/ws``."""
    rawsocket_port: int | None = Field(None, ge=1, le=65535)
    """TCP port of RawSocket; one above `port` when not given."""
    tls: TlsSettings | None = None
    """Serve ``wss`` and TLS RawSocket with this certificate; ``tls: {}`` takes the files of ``sisock init --tls``."""
    plain: bool = False
    """Must be set to allow the router to listen beyond this machine without TLS."""
    heartbeat: Seconds = 10.0
    """Seconds between the router's pings on WebSocket."""
    heartbeat_timeout: Seconds = 5.0
    """Seconds after which a peer that does not answer a ping is dropped."""
    handshake_timeout: Seconds = 5.0
    """Seconds within which a client must have logged in, on every transport."""
    max_connections: int = Field(4096, ge=10)
    """Most connections at a time; beyond it the oldest that has not logged in yields, or the new one is refused."""
    max_connections_per_address: int = Field(512, ge=1)
    """Most connections of one address at a time, this machine's own addresses excepted."""
    max_unsent: Size = Field(2**18, ge=2**12)
    """Bytes that may wait for a client which reads nothing, for longer than `unsent_timeout`."""
    unsent_timeout: Seconds = Field(10.0, gt=0)
    """Seconds after which a client that reads nothing is cut, when more than `max_unsent` waits for it."""
    max_unsent_total: Size = Field(32 * 2**20, ge=2**23)
    """Bytes that may wait for all clients together; beyond it those that read least are cut at once."""
    ocs: OcsRouterSettings | None = None
    """A door for OCS, off by default."""
    max_message_size: int = Field(16 * 2**20, ge=2**16, le=2**24)
    """Largest message, in bytes. RawSocket cannot carry more than 16 MiB."""

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("ws://", "wss://", "rs://", "rss://", "unix:")):
            raise ValueError(f"{url!r} has no scheme that is known; give ws, wss, rs, rss or unix:")
        return url

    @model_validator(mode="after")
    def _no_plain_text_beyond_loopback(self) -> "RouterSettings":
        if self.url is None and self.tls is None and not self.plain and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines, and there is no tls; run `sisock init --tls` "
                "and add `tls: {}`, or write `plain: true` if secrets and data may cross the network unprotected"
            )
        return self

    @property
    def runs_here(self) -> bool:
        """Whether this site starts the router."""
        return self.url is None
