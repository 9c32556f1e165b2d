"""The console: one page, and what it is made of."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

# What of the page may be loaded, and from where: nothing from other hosts.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def console() -> APIRouter:
    """Return the routes of the page."""
    routes = APIRouter(include_in_schema=False)
    folder = Path(str(files("sisock_hub.gateway") / "page"))
    # The plotting library comes from a package of its own.
    parts = {"plotly.min.js": Path(str(files("plotly") / "package_data" / "plotly.min.js"))}
    parts |= {path.name: path for path in folder.iterdir() if path.suffix in _KINDS}

    @routes.get("/")
    async def page() -> Response:
        return FileResponse(folder / "index.html", headers=_HEADERS, media_type="text/html")

    @routes.get("/console/{name}")
    async def part(name: str) -> Response:
        if name not in parts:
            return Response("there is no such file", 404, media_type="text/plain")
        return FileResponse(parts[name], headers=_HEADERS, media_type=_KINDS[parts[name].suffix])

    return routes
