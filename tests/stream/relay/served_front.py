"""The relay's HTTP side on a real socket of this computer, with rooms that only remember."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
from aiohttp import web

from stream.relay.front.access import Access
from stream.relay.front.app import FACTS, FrontCounts, FrontSettings, create_app
from stream.relay.front.http_server import FrontRunner
from stream.relay.refusal import Refusal

SECRET = "an-example-of-a-secret-of-32-bytes"
ANSWER = "v=0\r\ns=answer\r\n"
SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}


class FakeRooms:
    """Rooms that answer every offer alike.

    Attributes:
        asked: what was asked: room, what to do, the fields.
        refusal: raised instead, where it is not None.
        states: of the rooms that there are.
        before_answer: called while an offer waits for its answer.
    """

    def __init__(self) -> None:
        self.draining = False
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.refusal: Refusal | None = None
        self.states: dict[str, dict[str, Any]] = {}
        self.before_answer: Callable[[str], None] = lambda resource: None
        self.told: Callable[[str], None] = lambda resource: None

    async def ask(
        self, room: str, do: str, *, start: bool = False, **fields: Any
    ) -> dict[str, Any]:
        self.asked.append((room, do, fields | ({"start": True} if start else {})))
        if self.refusal is not None:
            raise self.refusal
        if do in ("publish", "listen"):
            self.before_answer(fields["resource"])
            return {"answer": ANSWER}
        return {}

    def state(self, room: str) -> dict[str, Any] | None:
        return self.states.get(room)

    def on_ended(self, told: Callable[[str], None]) -> None:
        self.told = told

    def did(self, do: str) -> list[dict[str, Any]]:
        """The fields of all requests to do something."""
        return [fields for _, done, fields in self.asked if done == do]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Answer:
    """A response that was read."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def text(self) -> str:
        return self.body.decode()


class Served:
    """The HTTP side, and a client for it."""

    def __init__(
        self, app: web.Application, port: int, client: aiohttp.ClientSession, rooms: FakeRooms
    ) -> None:
        self.app, self.port, self.client, self.rooms = app, port, client, rooms
        self.clock = Clock()
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def counts(self) -> FrontCounts:
        return self.app[FACTS].counts()

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        options.setdefault("allow_redirects", False)
        async with self.client.request(method, self.url + path, **options) as response:
            return Answer(response, await response.read())

    async def refused(self, method: str, path: str, **options: Any) -> Answer:
        """An answer that is an error, and one sentence of plain text."""
        answer = await self.ask(method, path, **options)
        assert 400 <= answer.status < 600, answer.text
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.text.endswith(".")
        assert "\n" not in answer.text
        return answer

    async def begin(self, path: str, offer: str, **headers: str) -> Answer:
        """A session that is granted."""
        answer = await self.ask("POST", path, data=offer, headers=SDP | headers)
        assert answer.status == 201, answer.text
        return answer


def bearer(*acts: str, room: str = "hall", **only: str) -> dict[str, str]:
    """The header with a token for some acts."""
    token = Access(SECRET).mint(room, acts, lifetime=timedelta(hours=1), **only)
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def front(
    *,
    secret: str | None = None,
    access: Access | None = None,
    settings: FrontSettings | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    rooms, clock, statuses = FakeRooms(), Clock(), list[int]()
    app = create_app(
        rooms,
        access or Access(secret),
        settings or FrontSettings(),
        clock=clock,
        counted=statuses.append,
        **options,
    )
    runner = FrontRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession() as client:
            served = Served(app, port, client, rooms)
            served.clock, served.statuses = clock, statuses
            yield served
    finally:
        await runner.cleanup()
