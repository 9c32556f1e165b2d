"""Logging in and out, by a cookie that is signed."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from sisock.errors import NotAllowed
from sisock.site import GatewaySecrets, GatewaySettings
from sisock_hub.gateway.door import COOKIE, address_of
from sisock_hub.gateway.passwords import Passwords
from sisock_hub.gateway.signing import SESSION_S, Signer


class Login(BaseModel):
    """Who wants to come in."""

    user: str = Field(max_length=200)
    password: str = Field(max_length=1000)


class Who(BaseModel):
    """Who somebody is, and what they may."""

    user: str | None
    operator: bool


def login(settings: GatewaySettings, secrets: GatewaySecrets, passwords: Passwords, signer: Signer) -> APIRouter:
    """Return the routes for logging in and out; the cookie is for ``https`` alone where there is TLS.

    Parameters
    ----------
    settings : GatewaySettings
    secrets : GatewaySecrets
    passwords : Passwords
    signer : Signer
    """
    routes, secure = APIRouter(tags=["login"]), settings.tls is not None

    @routes.post("/login")
    async def log_in(said: Login, request: Request, response: Response) -> Who:
        """Log in, as a user of the secrets file."""
        fingerprint = passwords.fingerprint(said.user)
        if not await passwords.hold(said.user, said.password, address_of(request.scope)) or fingerprint is None:
            raise NotAllowed("user or password is wrong")
        session = signer.signed(said.user, fingerprint)
        response.set_cookie(COOKIE, session, max_age=SESSION_S, httponly=True, samesite="strict", secure=secure)
        return Who(user=said.user, operator=settings.operator and secrets.users[said.user].operator)

    @routes.post("/logout")
    async def log_out(request: Request, response: Response) -> Who:
        """Log out."""
        signer.end(request.cookies.get(COOKIE, ""))
        response.delete_cookie(COOKIE)
        return Who(user=None, operator=False)

    @routes.get("/api/v1/who")
    async def who(request: Request) -> Who:
        """Who you are here, and whether you may have nodes do something."""
        visitor = request.scope["visitor"]
        return Who(user=visitor.name, operator=visitor.operator)

    return routes
