"""aiohttp's server, taught to answer what is no HTTP with one sentence and to keep it out of logs.

As it is, it sends the broken request back and logs it with its sender's address; in its first line
there may be a token.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from aiohttp import web

from stream.web.guard import HEADERS

log = logging.getLogger(__name__)

_OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,
    "keepalive_timeout": 30.0,  # seconds; all of these
    "lingering_time": 2.0,
}
_SHUTDOWN_S: Final = 3.0


class _Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            log.error("a request failed", exc_info=exc)
        else:
            log.debug("a request was no HTTP")
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun already")
        text = "The request is no valid HTTP." if status < 500 else "Something went wrong inside."
        response = web.Response(status=status, text=text, headers=HEADERS)
        response.force_close()
        return response


class _Server(web.Server):
    """Makes the connections."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **_OPTIONS)


class FrontRunner(web.AppRunner):
    """Runs the relay's app: ``setup``, then a site, then ``cleanup``."""

    __slots__ = ()

    def __init__(self, app: web.Application) -> None:
        super().__init__(app, shutdown_timeout=_SHUTDOWN_S)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory)
