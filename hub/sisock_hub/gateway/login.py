"""Logging in and out, by a cookie that is signed."""

import asyncio

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from sisock.errors import NotAllowed
from sisock.site import GatewaySecrets
from sisock_hub.gateway.door import COOKIE, is_password
from sisock_hub.gateway.signing import SESSION_S, Signer

# A wrong password costs so many seconds, one after the other.
_PENALTY_S = 0.5


class Login(BaseModel):
    """Who wants to come in."""

    user: str = Field(max_length=200)
    password: str = Field(max_length=1000)


class Who(BaseModel):
    """Who somebody is, and what they may."""

    user: str | None
    operator: bool


def login(secrets: GatewaySecrets, signer: Signer, *, secure: bool) -> APIRouter:
    """Return the routes for logging in and out.

    Parameters
    ----------
    secrets : GatewaySecrets
    signer : Signer
    secure : bool
        Whether the cookie is for ``https`` alone.
    """
    routes = APIRouter(tags=["login"])
    turn = asyncio.Lock()

    @routes.post("/login")
    async def log_in(said: Login, response: Response) -> Who:
        """Log in, as a user of the secrets file."""
        if not is_password(secrets, said.user, said.password):
            async with turn:
                await asyncio.sleep(_PENALTY_S)
            raise NotAllowed("user or password is wrong")
        response.set_cookie(
            COOKIE, signer.signed(said.user), max_age=SESSION_S, httponly=True, samesite="strict", secure=secure
        )
        return Who(user=said.user, operator=secrets.users[said.user].operator)

    @routes.post("/logout")
    async def log_out(response: Response) -> Who:
        """Log out."""
        response.delete_cookie(COOKIE)
        return Who(user=None, operator=False)

    @routes.get("/api/v1/who")
    async def who(request: Request) -> Who:
        """Who you are here, and whether you may have nodes do something."""
        visitor = request.scope["visitor"]
        return Who(user=visitor.name, operator=visitor.operator)

    return routes
