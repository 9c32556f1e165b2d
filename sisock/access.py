"""How a program reaches the router."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from sisock.running import known_to_run

DEFAULT_REALM = "test_realm"
DEFAULT_BASE_URI = "org.simonsobservatory"
DEFAULT_URL = "ws://127.0.0.1:8080/ws"
GATEWAY = "gateway"
"""The account of the gateway, and its role; it names the person for whom it calls."""


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
    site: Path | None = None
    """The site file that this is from, where that site starts the router."""
    secret_source: str | None = None
    """The file that the secret is from, as an absolute path, or the environment variable."""
    user_source: str | None = None
    """The environment variable that names the user; None where an account of the site, or the program, does."""

    def __repr__(self) -> str:
        return f"Access({self.user}@{self.url}, realm {self.realm!r})"

    @property
    def operator_hint(self) -> str:
        """The remedy when a procedure is for operators only."""
        if self.user_source is None:
            return (
                'log in with the account of the operator role: BlockingConsumer(role="operator") in Python, '
                '`sisock call`, or eval "$(sisock env --role operator)" for other programs'
            )
        return (
            f"{self.user_source} in the environment decides who logs in: `sisock env --role operator` prints the "
            f"operator's account, or unset {self.user_source} and WAMP_SECRET to use that of the site"
        )

    @property
    def login_hint(self) -> str:
        """Where user and secret are from, and what to do when the router refuses them."""
        if self.user_source and self.secret_source != "WAMP_SECRET":  # noqa: S105 - its name
            return (
                f"the user is from {self.user_source} in the environment, and the secret from {self.secret_source}: "
                f"unset {self.user_source} to use the account of the site, or set WAMP_SECRET to that user's secret"
            )
        if not self.secret:
            return "there is no secret: set WAMP_SECRET, or name a site"
        if self.secret_source is None:
            return "the secret was given by the program"
        if not self.secret_source.startswith("/"):
            return (
                f"the secret is from {self.secret_source} in the environment: unset it to use that of the site, or set "
                "it to the one that the router's site has for this user (`sisock env` prints it)"
            )
        return (
            f"the secret is from {self.secret_source}: restart the router if that file has changed since its start, or "
            "copy the file from the machine of the router"
        )

    @property
    def router_hint(self) -> str:
        """The remedy when no router answers."""
        if self.site is None:
            return "is it running?"
        running = next((each for each in known_to_run() if each.path == self.site), None)
        return running.router_hint if running else f"`sisock up {shlex.quote(str(self.site))}` starts it"


def access_from_environment() -> Access:
    """Return the access to the router from the environment.

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
        secret_source="WAMP_SECRET",  # noqa: S106 - its name
        user_source="WAMP_USER",
    )
