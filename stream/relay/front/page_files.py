"""The files of the relay's page, read once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from stream.relay.names import NAME, NO_ROOMS

PAGE: Final = Path(__file__).parents[1] / "page"
SHARED: Final = Path(__file__).parents[2] / "web" / "page" / "common.css"
"""What the relay's page has in common with the control page."""

_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
_TEXT: Final = ("text/", "application/")
_INDEX: Final = "index.html"


class PageFiles:
    """Serves ``index.html`` at ``/`` and ``/ROOM``, and every file of the page at its name.

    Args:
        folder: of the page; files of other kinds than a page has are left out.
        shared: single files from elsewhere; those of the folder come first.
    """

    def __init__(self, folder: Path = PAGE, shared: Sequence[Path] = (SHARED,)) -> None:
        found = [path for path in shared if path.is_file()]
        found += sorted(folder.iterdir()) if folder.is_dir() else []
        self._files = {
            path.name: (path.read_bytes(), _TYPES[path.suffix])
            for path in found
            if path.is_file() and path.suffix in _TYPES
        }

    def add_routes(self, app: web.Application) -> None:
        """Serve the files. To be called after all fixed paths have got their routes."""
        for name in self._files:
            app.router.add_get(f"/{name}", self._file)
        if "favicon.ico" not in self._files:
            app.router.add_get("/favicon.ico", _nothing)
        app.router.add_get("/", self._index)
        app.router.add_get(f"/{{room:{NAME}}}", self._index)

    def _respond(self, name: str) -> web.Response:
        if name not in self._files:
            raise web.HTTPNotFound
        content, kind = self._files[name]
        charset = "utf-8" if kind.startswith(_TEXT) else None
        return web.Response(body=content, content_type=kind, charset=charset)

    async def _file(self, request: web.Request) -> web.Response:
        return self._respond(request.path.removeprefix("/"))

    async def _index(self, request: web.Request) -> web.Response:
        if request.match_info.get("room") in NO_ROOMS:
            raise web.HTTPNotFound
        return self._respond(_INDEX)


async def _nothing(request: web.Request) -> web.Response:
    return web.Response(status=204)
