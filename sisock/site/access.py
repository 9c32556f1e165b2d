"""How a program reaches the router."""

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_REALM = "test_realm"
DEFAULT_BASE_URI = "org.simonsobservatory"
DEFAULT_URL = "ws://127.0.0.1:8080/ws"


@dataclass(frozen=True, slots=True)
class Access:
    """How a program reaches the router: address, realm and who it is."""

    url: str
    realm: str
    base_uri: str
    user: str
    secret: str
    ca: Path | None = None
    max_message_size: int = 16 * 2**20

    def __repr__(self) -> str:
        return f"Access({self.user}@{self.url}, realm {self.realm!r})"


def access_from_environment() -> Access:
    """Return how the environment says that the router is reached.

    Reads WAMP_URI, REALM, BASE_URI, WAMP_USER, WAMP_SECRET and, for TLS by an authority of one's own,
    WAMP_CA (the path of its certificate).
    """
    ca = os.environ.get("WAMP_CA")
    return Access(
        url=os.environ.get("WAMP_URI", DEFAULT_URL),
        realm=os.environ.get("REALM", DEFAULT_REALM),
        base_uri=os.environ.get("BASE_URI", DEFAULT_BASE_URI),
        user=os.environ.get("WAMP_USER", "server"),
        secret=os.environ.get("WAMP_SECRET", ""),
        ca=Path(ca) if ca else None,
    )
