"""What somebody who has not logged in learns from whether the gateway is ready."""

import asyncio
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from sisock.errors import NoHub, NoRouter, Refused, TimedOut
from sisock_hub.gateway.health import health

SOCKET = "unix:/home/maria/lab/.sisock/router.sock"
TROUBLES = [
    (NoRouter(f"no router answers at {SOCKET} (No such file)"), "the router cannot be reached"),
    (Refused(f"the router at {SOCKET} refused 'gateway'"), "the router cannot be reached"),
    (NoHub(f"the router at {SOCKET} is there, but no hub"), "the hub cannot be reached"),
    (TimedOut(f"the hub at {SOCKET} did not say"), "the hub does not answer"),
]


def asked(path, trouble, *, may_ask):
    app = FastAPI()
    app.include_router(health(SimpleNamespace(trouble=trouble, nodes=[])))

    async def with_visitor(scope, receive, send):
        await app({**scope, "principal": SimpleNamespace(may_ask=may_ask)}, receive, send)

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(with_visitor), base_url="http://gateway") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize(("trouble", "said"), TROUBLES)
def test_reason_names_no_path_of_the_machine_to_who_may_not_read_data(trouble, said):
    ready, prometheus = (asked(path, trouble, may_ask=False) for path in ("/readyz", "/prometheus/-/ready"))
    assert (ready.status_code, ready.json()["reason"]) == (503, said)
    assert (prometheus.status_code, prometheus.text) == (503, f"The gateway is not ready: {said}\n")


@pytest.mark.parametrize(("trouble", "_said"), TROUBLES)
def test_reason_is_whole_for_who_may_read_data(trouble, _said):
    assert asked("/readyz", trouble, may_ask=True).json()["reason"] == trouble.message
    assert trouble.message in asked("/prometheus/-/ready", trouble, may_ask=True).text
