"""Asking an app of ours without a socket."""

import asyncio

import httpx


class Client:
    """Requests to an ASGI app, each in an event loop of its own; errors of the app are raised here."""

    def __init__(self, app, base_url):
        self._app, self._base_url = app, base_url

    def get(self, path, **how):
        return self._request("GET", path, **how)

    def post(self, path, **how):
        return self._request("POST", path, **how)

    def _request(self, method, path, **how):
        async def asked():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url=self._base_url) as client:
                return await client.request(method, path, **how)

        return asyncio.run(asked())
