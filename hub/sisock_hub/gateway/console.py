"""The console: one page with its scripts and styles."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.staticfiles import StaticFiles

# The sources from which the page may load: none of them is another host.
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
_KINDS = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


def console() -> APIRouter:
    """Return the routes of the page."""
    routes = APIRouter(include_in_schema=False)
    folder = Path(str(files("sisock_hub.gateway") / "page"))
    # The plotting library is in the package plotly.
    parts = {"plotly.min.js": Path(str(files("plotly") / "package_data" / "plotly.min.js"))}
    parts |= {path.name: path for path in folder.iterdir() if path.suffix in _KINDS}

    static = StaticFiles(directory=folder)

    def file(path: Path, kind: str, request: Request) -> Response:
        """Return a file, or 304 where the browser has the same version."""
        response = static.file_response(path, path.stat(), request.scope)
        response.headers.update(_HEADERS | {"Content-Type": kind})
        return response

    @routes.get("/")
    async def page(request: Request) -> Response:
        return file(folder / "index.html", "text/html; charset=utf-8", request)

    @routes.get("/console/{name}")
    async def part(name: str, request: Request) -> Response:
        if name not in parts:
            return Response("there is no such file", 404, media_type="text/plain")
        return file(parts[name], _KINDS[parts[name].suffix], request)

    return routes
