"""What keeps other sites away from the pages that this program serves.

A page of another site may send requests to this computer from the user's browser. By rebinding its
name to 127.0.0.1 it might even read the answers: hence the check of the Host. What changes anything
must come from our own page: hence the check of the Origin.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

log = logging.getLogger(__name__)

OWN_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Server": "lipstream",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_CHANGES_NOTHING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SENTENCES: Final = {
    404: "There is nothing here.",
    405: "This can't be done here.",
    413: "That is too large.",
}


def guard(
    host: str,
    *,
    check_host: bool = True,
    check_origin: bool = True,
    allowed_origins: Collection[str] = (),
) -> Middleware:
    """A middleware that refuses what other sites send.

    Args:
        host: the name or address that the server is bound to.
        check_host: whether requests must name this computer, or ``host``, as where they go. Needed
            where only this computer can reach the server; wrong behind a proxy.
        check_origin: whether what changes anything must come from a page of this server. Needed
            where a request is trusted for where it comes from, and not for a token in it.
        allowed_origins: other sites whose pages may do the same as our own.
    """
    names = OWN_NAMES | {host.lower().strip("[]")}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Host", "")
        if check_host and _name(given) not in names:
            return web.Response(status=403, text="This page has another address than that.")
        origin = request.headers.get("Origin")
        own = f"{request.scheme}://{given}"
        foreign = origin not in (None, own) and origin not in allowed_origins
        if check_origin and foreign and request.method not in _CHANGES_NOTHING:
            return web.Response(status=403, text="Only lipstream's own page may do that.")
        return await handler(request)

    return check


@web.middleware
async def errors_as_sentences(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A middleware: whoever gets an error gets one sentence with it."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        text = _SENTENCES.get(error.status, f"{error.reason}.")
        allowed = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return web.Response(status=error.status, text=text, headers=allowed)
    except Exception:
        log.exception("a request failed")
        return web.Response(status=500, text="Something went wrong inside; the log says more.")


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """To be called before any response is sent."""
    response.headers.update(HEADERS)


def _name(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None where there is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
