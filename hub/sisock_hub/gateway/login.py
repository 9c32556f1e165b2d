"""Login and logout, by a signed cookie."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from sisock.errors import NotAllowed
from sisock.site import GatewaySecrets, GatewaySettings
from sisock_hub.gateway.auth import COOKIE, address_of
from sisock_hub.gateway.passwords import Passwords
from sisock_hub.gateway.signing import SESSION_S, Signer


class Login(BaseModel):
    """User and password of a login."""

    user: str = Field(max_length=200)
    password: str = Field(max_length=1000)


class WhoAmI(BaseModel):
    """The account of a request, and its rights."""

    user: str | None
    operator: bool


def login(settings: GatewaySettings, secrets: GatewaySecrets, passwords: Passwords, signer: Signer) -> APIRouter:
    """Return the routes of login and logout; with TLS, the cookie is sent over ``https`` only.

    Parameters
    ----------
    settings : GatewaySettings
    secrets : GatewaySecrets
    passwords : Passwords
    signer : Signer
    """
    routes, secure = APIRouter(tags=["login"]), settings.tls is not None

    @routes.post("/login")
    async def log_in(sent: Login, request: Request, response: Response) -> WhoAmI:
        """Log in, as a user of the secrets file."""
        fingerprint = passwords.fingerprint(sent.user)
        if not await passwords.hold(sent.user, sent.password, address_of(request.scope)) or fingerprint is None:
            raise NotAllowed("user or password is incorrect")
        session = signer.signed(sent.user, fingerprint)
        response.set_cookie(COOKIE, session, max_age=SESSION_S, httponly=True, samesite="strict", secure=secure)
        return WhoAmI(user=sent.user, operator=settings.operator and secrets.users[sent.user].operator)

    @routes.post("/logout")
    async def log_out(request: Request, response: Response) -> WhoAmI:
        """Log out."""
        signer.end(request.cookies.get(COOKIE, ""))
        response.delete_cookie(COOKIE)
        return WhoAmI(user=None, operator=False)

    @routes.get("/api/v1/who")
    async def who(request: Request) -> WhoAmI:
        """Return your account, and whether you may call procedures of nodes."""
        principal = request.scope["principal"]
        return WhoAmI(user=principal.name, operator=principal.operator)

    return routes
