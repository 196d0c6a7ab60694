"""The page and what it asks: the state of a room, the host's actions, the ICE servers."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from engine.errors import ConfigError
from stream.relay.config import is_loopback
from stream.relay.front import api as api_module
from stream.relay.front.access import Access, utc_now
from stream.relay.front.app import FrontSettings, create_app
from stream.relay.front.page_files import PAGE, PageFiles
from stream.relay.front.turn import IceServers
from stream.relay.refusal import Refusal
from tests.stream.relay.served_front import SECRET, FakeRooms, bearer, front

pytestmark = pytest.mark.unit

ADMIN = "/api/rooms/hall/admin"
NOBODY = {"room": "hall", "speakers": [], "floor": {"speaking": None, "languages": []}}


def a_page(folder: Path) -> PageFiles:
    files = {
        "index.html": "<!doctype html><p>index",
        "page.js": "export {}",
        "page.css": "p {}",
        "notes.txt": "not for the page",
        "logo.svg": "<svg/>",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "folder.js").mkdir()
    (folder / "common.css").write_text("shared")
    return PageFiles(folder, shared=[folder / "common.css", folder / "missing.css"])


# The page


async def test_the_page_is_served_at_the_root_and_for_every_room(tmp_path: Path) -> None:
    async with front(page=a_page(tmp_path)) as served:
        for path, kind in (
            ("/", "text/html; charset=utf-8"),
            ("/hall", "text/html; charset=utf-8"),
            ("/page.js", "text/javascript; charset=utf-8"),
            ("/page.css", "text/css; charset=utf-8"),
            ("/common.css", "text/css; charset=utf-8"),
            ("/logo.svg", "image/svg+xml"),
        ):
            answer = await served.ask("GET", path)
            assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
            assert (await served.ask("HEAD", path)).status == 200
            assert (await served.refused("POST", path)).status == 405
        for path in ("/notes.txt", "/folder.js", "/api", "/whip", "/a.b", "/hall/"):
            assert (await served.refused("GET", path)).status == 404
        assert (await served.ask("GET", "/favicon.ico")).status == 204


async def test_without_a_page_there_is_a_sentence(tmp_path: Path) -> None:
    async with front(page=PageFiles(tmp_path / "none", shared=[])) as served:
        assert (await served.refused("GET", "/")).status == 404
        assert (await served.refused("GET", "/hall")).status == 404


async def test_the_page_of_the_package_is_served() -> None:
    async with front() as served:
        for path in PAGE.glob("*.js"):
            assert (await served.ask("GET", f"/{path.name}")).body == path.read_bytes()


async def test_headers_keep_others_out_of_the_page(tmp_path: Path) -> None:
    async with front(page=a_page(tmp_path)) as served:
        for path in ("/", "/hall", "/none.x", "/api/rooms/hall/state"):
            headers = (await served.ask("GET", path)).headers
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'self'; connect-src 'self';")
            assert "unsafe" not in policy
            assert "script-src" not in policy  # so that default-src holds
            assert headers["Permissions-Policy"].startswith("camera=(self), microphone=(self)")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-store"
            assert headers["Server"] == "lipstream"
            assert "Strict-Transport-Security" not in headers  # this is no TLS


async def test_extra_routes_are_served_beside_the_rooms() -> None:
    async def healthy(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async with front(extra_routes=[web.get("/healthz", healthy)]) as served:
        assert (await served.ask("GET", "/healthz")).text == "ok"
        assert (await served.refused("GET", "/metrics")).status == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"])
@pytest.mark.parametrize("secret", [None, SECRET])
async def test_on_this_computer_another_host_name_is_refused(host: str, secret: str | None) -> None:
    async with front(secret=secret) as served:
        for path in ("/", "/api/config", "/whip/hall/anna"):
            assert (await served.refused("GET", path, headers={"Host": host})).status == 403


async def test_behind_a_proxy_or_at_another_address_the_host_may_be_any() -> None:
    for settings in (FrontSettings(trust_proxy=True), FrontSettings(host="0.0.0.0")):
        async with front(secret=SECRET, settings=settings) as served:
            headers = bearer("listen") | {"Host": "meet.example"}
            assert (await served.ask("GET", "/api/config", headers=headers)).status == 200


@pytest.mark.parametrize(
    "settings",
    [
        FrontSettings(host="0.0.0.0"),
        FrontSettings(host="::"),
        FrontSettings(host="meet.example"),
        FrontSettings(host="192.168.0.2"),
        FrontSettings(trust_proxy=True),
    ],
)
def test_a_relay_that_others_can_reach_needs_a_secret(settings: FrontSettings) -> None:
    with pytest.raises(ConfigError, match="needs a secret"):
        create_app(FakeRooms(), Access(None), settings)
    create_app(FakeRooms(), Access(SECRET), settings)


def test_names_of_this_computer() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "localhost.example", "10.0.0.1", "")))


# ICE servers


async def test_the_page_is_told_of_ice_servers() -> None:
    servers = IceServers(["stun:a.example", "turn:b.example"], "shared")
    async with front(secret=SECRET, ice_servers=servers) as served:
        assert (await served.refused("GET", "/api/config")).status == 401
        answer = await served.ask("GET", "/api/config", headers=bearer("listen"))
        config = json.loads(answer.body)
        assert config["auth"] is True
        assert config["ice_servers"][0] == {"urls": "stun:a.example"}
        assert {"urls", "username", "credential"} == config["ice_servers"][1].keys()
    async with front() as served:
        answer = await served.ask("GET", "/api/config")
        assert json.loads(answer.body) == {"auth": False, "ice_servers": []}


# The state


async def test_the_state_is_the_room_s_without_what_is_ours() -> None:
    async with front() as served:
        assert json.loads((await served.ask("GET", "/api/rooms/hall/state")).body) == NOBODY
        served.rooms.states["hall"] = NOBODY | {"loop_lag_ms": 3, "metrics": {"x": 1}}
        answer = await served.ask("GET", "/api/rooms/hall/state")
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert json.loads(answer.body) == NOBODY | {"loop_lag_ms": 3}


async def test_the_state_needs_a_token_of_the_room() -> None:
    async with front(secret=SECRET) as served:
        for path in ("/api/rooms/hall/state", "/api/rooms/hall/events"):
            assert (await served.refused("GET", path)).status == 401
            other = bearer("listen", room="other")
            assert (await served.refused("GET", path, headers=other)).status == 403
        assert (
            await served.ask("GET", "/api/rooms/hall/state", headers=bearer("publish-speaker"))
        ).status == 200
        for path in ("/api/rooms/a.b/state", "/api/rooms/metrics/state", "/api/rooms/hall/x"):
            answer = await served.refused("GET", path, headers=bearer("listen"))
            assert answer.status == 404


class Events:
    """Reads server-sent events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._lines = response.content

    async def next(self) -> tuple[str, str]:
        """Kind and data of the next one; empty at the end."""
        found = {"event": "message", "data": ""}
        async with asyncio.timeout(5):
            async for line in self._lines:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if not name:
                    return found["event"], found["data"]
                found[name] = value
        return "", ""


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "EVERY_S", 0.01)
    monkeypatch.setattr(api_module, "KEEP_S", 60.0)


@pytest.mark.usefixtures("hurry")
async def test_followers_are_told_the_state_and_what_changes() -> None:
    async with front() as served, served.client.get(served.url + "/api/rooms/hall/events") as got:
        assert got.headers["Content-Type"] == "text/event-stream"
        events = Events(got)
        assert json.loads((await events.next())[1]) == NOBODY
        for n in range(3):
            served.rooms.states["hall"] = NOBODY | {"loop_lag_ms": n, "metrics": {}}
            kind, data = await events.next()
            assert (kind, json.loads(data)) == ("message", NOBODY | {"loop_lag_ms": n})
        assert served.counts.followers == 1


async def test_a_room_in_which_nothing_happens_is_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api_module, "EVERY_S", 0.01)
    monkeypatch.setattr(api_module, "KEEP_S", 0.05)
    async with front() as served, served.client.get(served.url + "/api/rooms/hall/events") as got:
        events = Events(got)
        assert await events.next() == await events.next()


@pytest.mark.usefixtures("hurry")
async def test_a_page_that_is_closed_is_counted_no_more() -> None:
    async with front() as served:
        async with served.client.get(served.url + "/api/rooms/hall/events") as got:
            await Events(got).next()
            got.close()
        async with asyncio.timeout(5):
            while served.counts.followers:
                served.rooms.states["hall"] = dict(NOBODY, loop_lag_ms=id(object()))
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("hurry")
async def test_followers_are_told_when_the_host_ends_the_room() -> None:
    async with (
        front() as served,
        served.client.get(served.url + "/api/rooms/hall/events") as here,
        served.client.get(served.url + "/api/rooms/other/events") as there,
    ):
        events, others = Events(here), Events(there)
        await events.next()
        await others.next()
        assert (await served.ask("POST", ADMIN, json={"action": "end"})).status == 200
        assert await events.next() == ("ended", "The host has ended this room.")
        assert await events.next() == ("", "")
        assert served.counts.followers == 1


@pytest.mark.usefixtures("hurry")
async def test_nobody_follows_longer_than_his_token_allows() -> None:
    wall = [utc_now()]
    access = Access(SECRET, now=lambda: wall[0])
    token = access.mint("hall", ["listen"], lifetime=timedelta(hours=1))
    async with front(access=access) as served:
        path = f"/api/rooms/hall/events?token={token}"
        async with served.client.get(served.url + path) as got:
            events = Events(got)
            await events.next()
            wall[0] += timedelta(hours=1)
            assert await events.next() == ("", "")
        assert (await served.refused("GET", path)).status == 401


@pytest.mark.usefixtures("hurry")
async def test_the_end_of_the_relay_ends_the_streams() -> None:
    async with asyncio.timeout(5), aiohttp.ClientSession() as outside:
        async with front() as served:
            got = await outside.get(served.url + "/api/rooms/hall/events")
            events = Events(got)
            await events.next()
        assert await events.next() == ("", "")
        got.close()


# The host


async def test_a_host_s_wish_gets_to_the_room() -> None:
    async with front(secret=SECRET) as served:
        for wish, expected in (
            ({"action": "mute", "speaker": "anna"}, ("mute", "anna", None)),
            (
                {"action": "unmute", "speaker": "floor", "language": "pt-br"},
                ("unmute", "floor", "pt-BR"),
            ),
            ({"action": "end", "speaker": None, "language": None}, ("end", None, None)),
        ):
            answer = await served.ask("POST", ADMIN, json=wish, headers=bearer("admin"))
            assert (answer.status, answer.text) == (200, "{}")
            room, do, fields = served.rooms.asked[-1]
            assert (room, do) == ("hall", "admin")
            assert (fields["action"], fields["speaker"], fields["language"]) == expected
            assert "start" not in fields


async def test_only_a_host_may_wish() -> None:
    wish = {"action": "mute", "speaker": "anna"}
    async with front(secret=SECRET) as served:
        acts = ("listen", "publish-speaker", "publish-language")
        for headers, status in (
            ({}, 401),
            (bearer(*acts), 403),
            (bearer("admin", room="other"), 403),
            (bearer("admin", speaker="ben"), 403),
        ):
            answer = await served.refused("POST", ADMIN, json=wish, headers=headers)
            assert answer.status == status
        answer = await served.refused(
            "POST", ADMIN, json={"action": "end"}, headers=bearer("admin", speaker="anna")
        )
        assert answer.status == 403  # the host of one speaker can't end the room
        assert served.rooms.asked == []


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"json": {}}, 400),
        ({"json": []}, 400),
        ({"json": {"action": "explode"}}, 400),
        ({"json": {"action": ["mute"]}}, 400),
        ({"json": {"action": "mute", "speaker": 7}}, 400),
        ({"json": {"action": "mute", "speaker": "a b"}}, 400),
        ({"json": {"action": "mute", "speaker": "anna", "language": "?"}}, 400),
        ({"json": {"action": "mute", "speaker": "anna", "more": 1}}, 400),
        ({"data": b"{", "headers": JSON}, 400),
        ({"data": b"[" * 3000, "headers": JSON}, 400),
        ({"data": b"\xff\xfe", "headers": JSON}, 400),
        ({"data": b"", "headers": JSON}, 400),
        ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"json": {"action": "x" * 5000}}, 413),
    ],
)
async def test_a_malformed_wish_is_refused(options: dict[str, Any], status: int) -> None:
    async with front() as served:
        assert (await served.refused("POST", ADMIN, **options)).status == status
        assert served.rooms.asked == []


async def test_what_the_room_refuses_the_host_is_told() -> None:
    async with front() as served:
        served.rooms.refusal = Refusal(404, "There is no such speaker.")
        answer = await served.refused("POST", ADMIN, json={"action": "mute", "speaker": "anna"})
        assert (answer.status, answer.text) == (404, "There is no such speaker.")


async def test_another_site_can_change_nothing() -> None:
    async with front() as served:
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            answer = await served.refused(
                "POST", ADMIN, json={"action": "end"}, headers={"Origin": origin}
            )
            assert answer.status == 403
        own = {"Origin": served.url}
        assert (await served.ask("POST", ADMIN, json={"action": "end"}, headers=own)).status == 200
