"""What a request brings: its body, its token, and whom it comes from."""

from __future__ import annotations

import asyncio
import json
import math
from ipaddress import ip_address
from typing import Any, Final

import aiohttp
from aiohttp import web

from stream.relay.refusal import Refusal

LARGEST_JSON: Final = 4 << 10  # bytes

_BODY_S: Final = 10.0  # for a body to arrive
_UNREAD_BYTES: Final = 256 << 10
_UNREAD_S: Final = 1.0
_BEARER: Final = "bearer "


async def read_body(request: web.Request, most: int) -> bytes:
    """The whole body.

    Args:
        request: not read yet.
        most: bytes; what is larger is not read any further.

    Raises:
        Refusal: it is larger (413), too slow (408) or incomplete (400).
    """
    too_large = Refusal(413, f"The body is larger than {most >> 10} kB.")
    if (request.content_length or 0) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for part in request.content.iter_any():
                body += part
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise Refusal(408, f"The body did not arrive within {_BODY_S:.0f} s.") from None
    except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, ConnectionError):
        raise Refusal(400, "The body did not arrive as it was announced.") from None
    return bytes(body)


async def read_json(request: web.Request) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        Refusal: there is none (400, 415), or see ``read_body``.
    """
    if request.content_type != "application/json":
        raise Refusal(415, "Send JSON, as application/json.")
    body = await read_body(request, LARGEST_JSON)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is no valid JSON.") from None
    if not isinstance(content, dict):
        raise Refusal(400, "The body must be a JSON object.")
    return content


def token_of(request: web.Request) -> tuple[str | None, bool]:
    """The token of a request, and whether it stands in its URL.

    Some WHIP clients, and browsers' ``EventSource``, can set nothing but the URL. A header counts
    for more.
    """
    header = request.headers.get("Authorization")
    if header is not None:
        is_bearer = header.lower().startswith(_BEARER)
        return (header[len(_BEARER) :].strip() or None if is_bearer else None), False
    token = request.query.get("token")
    return token or None, bool(token)


def address_of(request: web.Request, *, trust_proxy: bool) -> str:
    """The client's address.

    Args:
        request: any.
        trust_proxy: whether the connection comes from a proxy of our own, which puts the address
            of its client at the end of ``X-Forwarded-For``. What stands before can be forged.
    """
    if trust_proxy:
        last = ",".join(request.headers.getall("X-Forwarded-For", [])).rpartition(",")[2].strip()
        try:
            return str(ip_address(last))
        except ValueError:
            pass
    return request.remote or ""


async def hang_up_on_unread(request: web.Request, response: web.StreamResponse) -> None:
    """Send a response that did not take the body, and end the connection where that is large.

    A connection that is closed with bytes unread breaks, and the response might be lost with it.
    So some of them are taken first, for the client to notice the response.
    """
    announced = request.content_length
    if request.content.is_eof() or (math.inf if announced is None else announced) <= _UNREAD_BYTES:
        return
    response.force_close()
    taken = 0
    try:
        await response.prepare(request)
        await response.write_eof()
        async with asyncio.timeout(_UNREAD_S):
            while taken < _UNREAD_BYTES and not request.content.is_eof():
                taken += len(await request.content.readany())
    except (TimeoutError, aiohttp.ClientError, aiohttp.http.HttpProcessingError, ConnectionError):
        pass  # the client is slow, or gone
    request.protocol.force_close()
