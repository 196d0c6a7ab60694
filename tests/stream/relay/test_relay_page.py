"""The relay's page in a real browser, against a relay that is made up."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pytest_asyncio

from tests.stream.browser import chromium
from tests.stream.relay.fake_relay import LEVEL, FakeRelay, language, serving, speaker

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page

pytestmark = [pytest.mark.devices, pytest.mark.asyncio(loop_scope="module")]
expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect

FLAGS = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
WAIT_S = 20.0

PLAYING = """() => {
    const shown = [...document.querySelectorAll("#tiles .screen:not([hidden]) video")];
    return shown.length > 0 && shown.every((v) => v.videoWidth > 0 && v.currentTime > 0.2);
}"""
COLOUR = """(which) => {
    const video = document.querySelector(`#tiles .screen.${which} video`);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const [r, g, b] = context.getImageData(5, canvas.height - 5, 1, 1).data;
    return Math.max(r, g, b) - Math.min(r, g, b);
}"""
LEVELS = """async () => {
    const [{ app }, { levelOf }] = [await import("/main.js"), await import("/mixer.js")];
    const { main, under } = app.mixer.buses;
    return { main: levelOf(main.heard), under: levelOf(under.heard) };
}"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition here."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


async def until_page(page: Page, script: str, argument: Any = None) -> None:
    """Wait for a script to be true; the page's own policy forbids playwright's way."""
    async with asyncio.timeout(WAIT_S):
        while not await page.evaluate(script, argument):
            await asyncio.sleep(0.05)


Opened = Callable[..., AbstractAsyncContextManager["Page"]]
"""Opens a relay's page: ``(relay, path="demo", *, width=1280, allowed=())``."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened() -> AsyncIterator[Opened]:
    """One browser for all tests; each page has a context of its own."""
    async with chromium(*FLAGS) as browser:
        yield partial(_opened, browser)


@asynccontextmanager
async def _opened(
    browser: Browser,
    relay: FakeRelay,
    path: str = "demo",
    *,
    width: int = 1280,
    allowed: tuple[str, ...] = (),
) -> AsyncIterator[Page]:
    """A page in a browser; what it complains of, but for what is allowed, fails the test."""
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(a in message.text for a in allowed):
            complaints.append(message.text)

    async with serving(relay):
        page = await browser.new_page(viewport={"width": width, "height": 860})
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(relay.url + path)
        yield page
        await page.close()
        assert complaints == []


async def join(page: Page) -> None:
    """Press the button of the lobby, with consent where it is asked for."""
    await expect(page.locator("#join-button")).to_be_visible()
    consent = page.locator("#consent")
    if await consent.is_visible():
        await consent.check()
    await page.locator("#join-button").click()
    await expect(page.locator("#leave")).to_be_visible()


def meeting(**change: Any) -> FakeRelay:
    """A room with one speaker, who is interpreted into German."""
    return FakeRelay(speaker("Anna_Berg", language("de", **change)))


REFUSED = ("Failed to load resource",)  # what Chromium says of any answer above 399

# The pure parts


async def pure(opened: Opened, body: str) -> Any:
    """The result of an async function's body, with the page's modules at hand."""
    async with opened(FakeRelay(), "") as page:
        return await page.evaluate(f"async () => {{ {body} }}")


async def test_waiting_times_grow_within_their_bounds_and_obey_the_server(opened: Opened) -> None:
    found = await pure(
        opened,
        """
        const { Backoff, Hold, Pauses, Progress, afterStatus, gainOf, retryAfterMs } =
            await import("/policy.js");
        const run = (chance) => {
            const backoff = new Backoff(() => chance);
            return Array.from({ length: 6 }, () => backoff.take());
        };
        const progress = new Progress(0, { firstMs: 8000, laterMs: 4000 });
        const hold = new Hold(3000);
        const pauses = new Pauses(0);
        return {
            least: run(0), most: run(1),
            after: ["2", "0", "", "soon", "99999", "Thu, 01 Jan 1970 00:00:09 GMT"].map(
                (header) => retryAfterMs(header, 5000)),
            statuses: [401, 403, 410, 409, 404, 503, 500].map(afterStatus),
            frozen: [[0, 0], [7000, 0], [8100, 0], [8200, 5], [12000, 5], [12300, 5]].map(
                ([at, count]) => progress.frozen(at, count)),
            excused: progress.frozen(30000, 5, true) || progress.frozen(33000, 5),
            held: [hold.take(0, true), hold.take(2900, false), hold.take(3100, false)],
            pauses: [[100, 0.1], [1000, 0], [1400, 0], [1500, 0.1]].map(
                ([at, level]) => pauses.take(at, level)),
            gains: [gainOf(null), gainOf(0), gainOf(-20)],
        };
    """,
    )
    assert found["least"] == [500, 750, 1500, 3000, 3750, 3750]
    assert found["most"] == [625, 1250, 2500, 5000, 5000, 5000]
    assert found["after"] == [2000, 0, None, None, 60000, 4000]
    assert found["statuses"] == ["stop", "stop", "stop", "wait", "wait", "retry", "retry"]
    assert found["frozen"] == [False, False, True, False, False, True]
    assert found["excused"] is False
    assert found["held"] == [True, True, False]
    assert found["pauses"] == [False, False, True, False]
    assert found["gains"] == pytest.approx([0, 1, 0.1])


async def test_names_languages_and_keys_are_understood(opened: Opened) -> None:
    claims = {"room": "demo", "act": ["listen", "publish-language"], "language": "de", "exp": 5}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    found = await pure(
        opened,
        f"""
        const text = await import("/text.js");
        const token = await import("/token.js");
        const key = "e30.{payload}.x";
        return {{
            names: ["José María", "  Ann  ", "王小明", "floor", "-x", "a".repeat(80)].map(
                text.addressName),
            languages: ["German", "deutsch", "pt-br", "German · Deutsch", "x", "no such one"].map(
                text.readLanguage),
            label: text.languageLabel("de"),
            rooms: ["demo", "a b", "whep", "-a", ""].map(text.isRoom),
            rights: [...token.rightsOf(key)],
            unreadable: token.rightsOf("abc"),
            expired: [token.isExpired(key, 6000), token.isExpired(key, 4000)],
            bound: [token.boundTo(key, "language"), token.boundTo(key, "speaker")],
            found: token.tokenIn("#token=abc.d-e"),
        }};
    """,
    )
    assert found["names"] == ["Jose_Maria", "Ann", "", "", "x", "a" * 64]
    assert found["languages"] == ["de", "de", "pt-BR", "de", None, None]
    assert found["label"] == "German · Deutsch"
    assert found["rooms"] == [True, False, False, False, False]
    assert found["rights"] == ["publish-language", "listen"]
    assert found["unreadable"] is None
    assert found["expired"] == [True, False]
    assert found["bound"] == ["de", ""]
    assert found["found"] == "abc.d-e"


async def test_ice_servers_and_candidates_are_read_and_written(opened: Opened) -> None:
    found = await pure(
        opened,
        r"""
        const { iceServersIn, isTellable, sdpFragment } = await import("/ice.js");
        const link = '<stun:a.example:3478>; rel="ice-server", ' +
            '<turn:a.example:3478?transport=udp>; rel="ice-server"; username="1:me"; ' +
            'credential="p\\"q,r"; credential-type="password", <https://b.example>; rel="next"';
        const offer = "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\nm=audio 9 X 0\r\na=mid:0\r\n";
        return {
            servers: iceServersIn(link), none: iceServersIn(null),
            tellable: ["candidate:1 1 udp 5 10.0.0.2 5000 typ host",
                "candidate:1 1 udp 5 0a-b.local 5000 typ host",
                "candidate:1 1 udp 5 fe80::1 5000 typ host", ""].map(isTellable),
            fragment: sdpFragment(offer, [{ candidate: "candidate:1", sdpMid: "0" }]),
        };
    """,
    )
    assert found["servers"] == [
        {"urls": "stun:a.example:3478"},
        {
            "urls": "turn:a.example:3478?transport=udp",
            "username": "1:me",
            "credential": 'p"q,r',
        },
    ]
    assert found["none"] == []
    assert found["tellable"] == [True, False, False, False]
    lines = ["a=ice-ufrag:u", "a=ice-pwd:p", "m=audio 9 X 0", "a=mid:0", "a=candidate:1", ""]
    assert found["fragment"] == "\r\n".join(lines)


async def test_a_tile_receives_what_its_listener_wants(opened: Opened) -> None:
    state = json.dumps(speaker("Anna", language("de")))
    found = await pure(
        opened,
        f"""
        const {{ planFor }} = await import("/plan.js");
        const plan = (view, underOn, live, language = "de") =>
            planFor({state}, {{ language, view, underOn }}, live);
        return {{
            synced: plan("synced", true, true), silent: plan("synced", false, true),
            both: plan("both", false, true), gone: plan("synced", true, false),
            original: plan("synced", true, true, ""),
        }};
    """,
    )
    assert found["synced"]["screens"] == ["synced"]
    assert found["synced"]["original"] == {"video": False, "bus": "under"}
    assert found["silent"]["original"] is None
    assert found["both"]["screens"] == ["original", "synced"]
    assert found["both"]["original"] == {"video": True, "bus": "under"}
    assert found["gone"]["synced"] is None
    assert found["gone"]["original"] == {"video": True, "bus": "main"}
    assert "German" in found["gone"]["note"]
    assert found["original"] == {**found["gone"], "note": ""}


async def test_measurements_are_rates_of_what_the_browser_counts(opened: Opened) -> None:
    found = await pure(
        opened,
        """
        const { Readings, readStats } = await import("/meters.js");
        const at = (ms, frames, packets, lost) => readStats(new Map(Object.entries({
            c: { type: "codec", id: "c", mimeType: "video/VP8" },
            v: { type: "inbound-rtp", kind: "video", timestamp: ms, codecId: "c",
                framesDecoded: frames, packetsReceived: packets, packetsLost: lost,
                bytesReceived: 1000 * packets, frameWidth: 640, frameHeight: 480 },
            p: { type: "candidate-pair", nominated: true, state: "succeeded",
                currentRoundTripTime: 0.025 },
        })));
        const readings = new Readings();
        const first = readings.rates();
        readings.take(at(1000, 10, 100, 0));
        readings.take(at(3000, 60, 190, 10));
        return { first, later: readings.rates() };
    """,
    )
    assert found["first"] is None
    assert found["later"] == {
        "fps": 25,
        "kbps": 360,
        "lossPercent": 10,
        "rttMs": 25,
        "size": "640\u00d7480",
        "codec": "VP8",
        "limit": "none",
    }


# Joining


async def test_a_listener_sees_the_lips_changed_and_is_told_so(opened: Opened) -> None:
    relay = meeting()
    async with opened(relay, "demo?as=listener&lang=de") as page:
        await join(page)
        await until_page(page, PLAYING)
        assert await page.evaluate(COLOUR, "synced") > 60  # the fake original is grey
        await expect(page.get_by_text("Lips changed to match the interpretation")).to_be_visible()
        await expect(page.get_by_text("AI lip-sync").first).to_be_visible()
        relay.find("Anna_Berg")["languages"][0]["modified"] = False
        await expect(page.get_by_text("Lips changed to match the interpretation")).to_be_hidden()

        await page.get_by_role("radio", name="Original").check()
        await expect(page.locator("#tiles .screen.synced")).to_be_hidden()
        await until_page(page, PLAYING)
        assert await page.evaluate(COLOUR, "original") < 12
        await page.get_by_role("radio", name="Both").check()
        await expect(page.locator("#tiles .screen.synced")).to_be_visible()
        await until_page(page, PLAYING)


async def test_a_speaker_sends_camera_and_voice_and_sees_who_listens(opened: Opened) -> None:
    relay = meeting()
    async with opened(relay, "demo?as=speaker") as page:
        await page.get_by_label("Your name").fill("José")
        await join(page)
        await until(lambda: (peer := relay.peer("whip/Jose")) and peer.frames["video"] > 10)
        peer = relay.peer("whip/Jose")
        assert peer is not None
        await until(lambda: peer.loudest > 0.01)  # the fake microphone beeps
        me = speaker("Jose", language("fr", listeners=7), original={"listeners": 1})
        relay.speakers.append(me)
        await expect(page.locator("#audience")).to_contain_text("7 listeners")
        await expect(page.locator("#on-air")).to_have_text("On air")
        await expect(page.locator("#tiles .tile")).to_have_count(1)  # the others only
        me["muted"] = True
        await expect(page.get_by_text("The host has muted you")).to_be_visible()

        await page.get_by_role("button", name="Mute", exact=True).click()
        await asyncio.sleep(0.5)
        peer.loudest = 0.0
        await asyncio.sleep(1.5)  # the fake microphone beeps once a second
        assert peer.loudest < 0.001
        await page.get_by_role("button", name="Camera off").click()
        assert await page.evaluate("async () => !(await import('/main.js')).app.media.tracks.video")
        before = peer.frames["video"]
        await page.get_by_role("button", name="Camera on").click()
        await until(lambda: peer.frames["video"] > before + 5)


async def test_an_interpreter_hears_the_floor_and_talks_by_the_space_bar(opened: Opened) -> None:
    relay = meeting()
    async with opened(relay, "demo?as=interpreter&lang=es") as page:
        await join(page)
        await until(lambda: (peer := relay.peer("whip/floor/es")) and peer.loudest > 0.01)
        await until_page(page, PLAYING)
        assert await page.evaluate(COLOUR, "original") < 12
        await expect(page.locator("#interpreter-panel")).to_contain_text("Wear headphones")

        peer = relay.peer("whip/floor/es")
        assert peer is not None
        assert peer.sections == ["audio"]
        await page.get_by_role("radio", name="Push to talk").check()
        await expect(page.locator("#interpreter-on-air")).to_have_text("Muted")
        await asyncio.sleep(0.5)
        peer.loudest = 0.0
        await asyncio.sleep(1.5)
        assert peer.loudest < 0.001
        await page.locator("#talk").focus()
        await page.keyboard.down("Space")
        await expect(page.locator("#interpreter-on-air")).to_have_text("On air")
        await until(lambda: peer.loudest > 0.01)
        await page.keyboard.up("Space")
        await expect(page.locator("#interpreter-on-air")).to_have_text("Muted")


async def test_trying_alone_sends_a_file_into_a_room_of_its_own(opened: Opened) -> None:
    relay = FakeRelay()
    async with opened(relay, "demo?as=tryout") as page:
        await join(page)
        relay.speakers.append(speaker("You", language("und")))
        await until(lambda: relay.peer("whip/You") and relay.peer("whip/You/und"))
        (room,) = relay.rooms - {"demo"}
        assert len(room) > 20
        await until_page(page, PLAYING)
        await expect(page.locator("#tiles .screen:not([hidden])")).to_have_count(2)
        await expect(page.locator("#meter-cards")).to_contain_text("412 ms")

        voice = relay.peer("whip/You/und")
        assert voice is not None
        await page.locator("#tryout-source input[type=file]").set_input_files(
            {"name": "voice.wav", "mimeType": "audio/wav", "buffer": wav(3.0)}
        )
        assert voice.loudest < 0.001
        await page.get_by_role("button", name="Play").click()
        await until(lambda: voice.loudest > 0.1)
        await page.get_by_role("button", name="Pause").click()
        await asyncio.sleep(0.5)
        voice.loudest = 0.0
        await asyncio.sleep(0.5)
        assert voice.loudest < 0.01


async def test_the_keyboard_is_enough_to_join_and_to_choose(opened: Opened) -> None:
    relay = meeting()
    async with opened(relay, "demo") as page:
        await expect(page.locator("#present")).to_contain_text("also in German")
        for _ in range(3):
            await page.keyboard.press("Tab")
            if await page.evaluate("() => document.activeElement.name === 'role'"):
                break
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#join [value=speaker]")).to_be_checked()
        await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Tab")
        await page.keyboard.type("German")
        await page.keyboard.press("Enter")
        await until_page(page, PLAYING)
        assert await page.evaluate("() => document.activeElement.id") == "room-title"
        await page.locator("#tiles input[value=synced]").focus()
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#tiles .screen.original")).to_be_visible()
        # Nothing that can be used is without a name.
        unnamed = await page.evaluate("""() => [...document.querySelectorAll(
            "button, input, select, [role]")].filter((node) => node.checkVisibility() &&
            !(node.labels?.length || node.getAttribute("aria-label") || node.textContent.trim()
              || node.getAttribute("aria-labelledby"))).map((node) => node.outerHTML)""")
        assert unnamed == []


async def test_what_is_missing_is_asked_for_before_joining(opened: Opened) -> None:
    async with opened(FakeRelay(), "demo?as=interpreter") as page:
        await expect(page.locator("#whom")).to_contain_text("The whole floor")
        await page.locator("#join-button").click()
        await expect(page.get_by_text("Choose the language that you speak in.")).to_be_visible()
        assert await page.evaluate("() => document.activeElement.id") == "wanted-language"
        await page.locator("#join [value=speaker]").check()
        await page.locator("#join-button").click()
        await expect(page.get_by_text("Write your name.")).to_be_visible()
        await page.get_by_label("Your name").fill("Anna")
        await page.locator("#join-button").click()
        await expect(page.get_by_text("Please agree first")).to_be_visible()
        assert not await page.locator("#leave").is_visible()


# Listening


async def test_the_volumes_change_what_is_heard(opened: Opened) -> None:
    relay = meeting()
    async with opened(relay, "demo?as=listener&lang=de") as page:
        await join(page)
        await until_page(page, PLAYING)
        slider = page.get_by_label("Original voice")
        assert await slider.get_attribute("aria-valuetext") == "\u221218 dB"

        async def heard(bus: str, level: float) -> None:
            async with asyncio.timeout(WAIT_S):
                while True:
                    found = (await page.evaluate(LEVELS))[bus]
                    if found == pytest.approx(level, rel=0.12, abs=0.001):
                        return
                    await asyncio.sleep(0.05)

        await heard("main", LEVEL)
        await heard("under", LEVEL * 10 ** (-18 / 20))
        await slider.focus()
        for _ in range(6):
            await page.keyboard.press("ArrowRight")
        await heard("under", LEVEL * 10 ** (-12 / 20))
        await page.keyboard.press("Home")
        assert await slider.get_attribute("aria-valuetext") == "off"
        await heard("under", 0.0)
        await until(lambda: relay.peer("whep/Anna_Berg") is None)  # not even received any more
        await page.get_by_label("Interpretation").fill("-6")
        await heard("main", LEVEL * 10 ** (-6 / 20))
        await page.get_by_role("button", name="Turn sound off").click()
        await heard("main", 0.0)


async def test_without_an_interpreter_the_original_is_heard_in_full(opened: Opened) -> None:
    relay = meeting()
    async with opened(relay, "demo?as=listener&lang=de") as page:
        await join(page)
        await until_page(page, PLAYING)
        relay.find("Anna_Berg")["languages"][0]["live"] = False
        await expect(page.get_by_text("Not interpreted into German now")).to_be_visible()
        await until_page(page, PLAYING)
        assert await page.evaluate(COLOUR, "original") < 12
        await until_page(page, f"async () => (await ({LEVELS})()).main > {0.8 * LEVEL}")
        relay.find("Anna_Berg")["languages"][0]["live"] = True
        await expect(page.locator("#tiles .screen.synced")).to_be_visible()

        await page.locator("#language").select_option("")
        await expect(page.locator("#tiles .screen.synced")).to_be_hidden()
        await expect(page.locator("#under-field")).to_be_hidden()


# The host


async def test_the_host_mutes_removes_switches_and_ends(opened: Opened) -> None:
    relay = meeting()
    relay.floor["languages"] = [{"code": "es", "live": True, "sounding": True, "muted": False}]
    async with opened(relay, "demo?as=listener&lang=de") as page:
        await join(page)
        await page.locator("#host summary").click()
        anna = page.locator("#host-rows li", has_text="Anna Berg").first
        await anna.get_by_role("button", name="Mute").click()
        await expect(anna.get_by_role("button", name="Unmute")).to_be_visible()
        await anna.get_by_role("button", name="Turn lip-sync off").click()
        await expect(page.get_by_text("Lip-sync is switched off")).to_be_visible()
        german = page.locator("#host-rows li.of-language", has_text="German")
        await german.get_by_role("button", name="Remove").click()
        await page.get_by_role("button", name="Cancel").click()
        await german.get_by_role("button", name="Remove").click()
        await page.locator("#confirm").get_by_role("button", name="Remove").click()
        spanish = page.locator("#host-rows li", has_text="interpreter of the floor")
        await spanish.get_by_role("button", name="Mute").click()
        await until(lambda: len(relay.admin) == 4)
        await page.get_by_role("button", name="End the room…").click()
        await page.locator("#confirm").get_by_role("button", name="End the room").click()
        await expect(page.get_by_text("The host has ended this room.")).to_be_visible()
        await expect(page.locator("#join-button")).to_be_visible()
        assert [(r["action"], r["speaker"], r["language"]) for r in relay.admin] == [
            ("mute", "Anna_Berg", None),
            ("lip_sync_off", "Anna_Berg", None),
            ("remove", "Anna_Berg", "de"),
            ("mute", "floor", "es"),
            ("end", None, None),
        ]


async def test_who_was_removed_is_told_so_and_does_not_come_back_alone(opened: Opened) -> None:
    relay = FakeRelay()
    async with opened(relay, "demo?as=speaker&name=Bo", allowed=REFUSED) as page:
        await join(page)
        await until(lambda: relay.peer("whip/Bo"))
        await expect(page.locator("#on-air")).to_have_text("On air")
        relay.refuse = (403, "The host of this meeting has removed you.", {})
        await relay.cut()
        await expect(page.get_by_text("The host of this meeting has removed you.")).to_be_visible(
            timeout=1000 * WAIT_S
        )
        tried = len(relay.offers)
        await asyncio.sleep(1.5)
        assert len(relay.offers) == tried
        relay.refuse = None
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator("#on-air")).to_have_text("On air")


async def test_of_two_with_one_name_the_earlier_gives_way(opened: Opened) -> None:
    relay = FakeRelay()
    async with opened(relay, "demo?as=speaker&name=Bo", allowed=REFUSED) as page:
        await join(page)
        await until(lambda: relay.peer("whip/Bo"))
        relay.speakers.append(speaker("Bo"))
        await expect(page.locator("#on-air")).to_have_text("On air")
        await relay.cut()  # as when another takes the place
        await expect(page.get_by_text("Somebody else, or you in another window")).to_be_visible(
            timeout=1000 * WAIT_S
        )
        assert len(relay.offers) == 1


# Coming back


async def test_a_cut_of_two_seconds_heals_by_itself(opened: Opened) -> None:
    relay = meeting()
    async with opened(relay, "demo?as=speaker&name=Bo&lang=de", allowed=REFUSED) as page:
        await join(page)
        await until_page(page, PLAYING)
        await until(lambda: relay.peer("whip/Bo"))
        relay.refuse = (503, "The room is too busy to answer.", {"Retry-After": "1"})
        await relay.cut()
        tried = len(relay.offers)
        await asyncio.sleep(2.0)
        relay.refuse = None
        await until(lambda: (peer := relay.peer("whip/Bo")) and peer.frames["video"] > 5)
        await until(lambda: relay.peer("whep/Anna_Berg/de"))
        await until_page(page, PLAYING)
        # Three connections, each at most once a second while the server asked for that.
        assert len(relay.offers) - tried <= 12


async def test_a_picture_that_stands_still_is_connected_anew(opened: Opened) -> None:
    relay = meeting()
    async with opened(relay, "demo?as=listener&lang=de") as page:
        await join(page)
        await until_page(page, PLAYING)
        before = relay.offers.count("whep/Anna_Berg/de")
        relay.frozen = True
        await until(lambda: relay.offers.count("whep/Anna_Berg/de") > before)
        relay.frozen = False
        await until_page(page, PLAYING)
        assert relay.offers.count("whep/Anna_Berg") == 1  # sound alone went on


async def test_a_reload_leads_back_into_the_room(opened: Opened) -> None:
    relay = meeting()
    async with opened(relay, "demo?as=listener&lang=de") as page:
        await join(page)
        await until_page(page, PLAYING)
        await page.reload()
        await until_page(page, PLAYING)
        await until(lambda: relay.deleted >= 2)  # the page hung up before
        await page.get_by_role("button", name="Leave").click()
        await until(lambda: not relay.peers)
        await expect(page.locator("#join-button")).to_be_visible()
        await page.reload()
        await expect(page.locator("#join-button")).to_be_visible()


async def test_a_source_that_is_not_there_yet_is_waited_for(opened: Opened) -> None:
    relay = meeting()
    relay.refuse = (409, "There is no picture yet; try again soon.", {"Retry-After": "1"})
    async with opened(relay, "demo?as=listener&lang=de", allowed=REFUSED) as page:
        await join(page)
        blank = page.locator("#tiles .screen.synced .blank")
        await expect(blank).to_have_text("There is no picture yet; try again soon.")
        relay.refuse = None
        await until_page(page, PLAYING)


async def test_a_microphone_that_is_unplugged_is_replaced(opened: Opened) -> None:
    relay = FakeRelay()
    async with opened(relay, "demo?as=speaker&name=Bo") as page:
        await join(page)
        await until(lambda: (peer := relay.peer("whip/Bo")) and peer.loudest > 0.01)
        await page.evaluate("""async () => {
            const { app } = await import("/main.js");
            const { audio } = app.media.tracks;
            audio.stop();
            audio.dispatchEvent(new Event("ended"));
        }""")
        await expect(page.get_by_text("The microphone is gone")).to_be_visible()
        peer = relay.peer("whip/Bo")
        assert peer is not None
        await page.locator("#device-choices summary").click()
        await page.locator("#microphone").select_option(index=1)
        await expect(page.get_by_text("The microphone is gone")).to_be_hidden()
        peer.loudest = 0.0
        await until(lambda: peer.loudest > 0.01)
        assert relay.offers == ["whip/Bo"]  # over the same connection


# Keys


async def test_a_key_is_taken_from_the_address_and_shown_to_the_server(opened: Opened) -> None:
    relay = meeting()
    relay.token = "e30.e30.x"
    async with opened(relay, "demo?as=listener&lang=de#token=e30.e30.x") as page:
        await join(page)
        await until_page(page, PLAYING)
        assert "token" not in page.url
        await page.reload()
        await until_page(page, PLAYING)


async def test_without_a_key_the_page_says_what_to_do(opened: Opened) -> None:
    relay = meeting()
    relay.token = "e30.e30.x"
    async with opened(relay, "demo?as=listener&lang=de", allowed=REFUSED) as page:
        await expect(page.get_by_text("This room needs a key").first).to_be_visible()
        await expect(page.locator("#join [value=listener]")).to_be_disabled()
        await page.get_by_label("Link or key").fill("https://x.example/demo#token=e30.e30.x")
        await page.get_by_role("button", name="Use it").click()
        await expect(page.locator("#join [value=listener]")).to_be_enabled()
        await join(page)
        await until_page(page, PLAYING)


async def test_the_page_offers_only_what_a_key_allows(opened: Opened) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"room": "demo", "act": ["listen"]}).encode())
    relay = meeting()
    relay.token = f"e30.{claims.decode().rstrip('=')}.x"
    async with opened(relay, f"demo?as=speaker#token={relay.token}") as page:
        await expect(page.locator("#join [value=speaker]")).to_be_disabled()
        await expect(page.locator("#join [value=listener]")).to_be_checked()
        await join(page)
        await until_page(page, PLAYING)
        await expect(page.locator("#host")).to_be_hidden()


# The looks


@pytest.mark.parametrize("width", [360, 1280])
async def test_every_view_fits_its_window(opened: Opened, width: int) -> None:
    relay = meeting()
    relay.speakers.append(speaker("Bo_with_a_rather_long_name_that_wants_to_be_wider_than_all"))
    async with opened(relay, "", width=width) as page:
        assert await page.evaluate(OVERFLOW) == 0
        for role in ("listener", "speaker", "interpreter", "tryout"):
            await page.goto(f"{relay.url}demo?as={role}&lang=de&name=Cleo")
            await expect(page.locator("#present li")).to_have_count(2)
            assert await page.evaluate(OVERFLOW) == 0, f"lobby of the {role}"
            await join(page)
            for name in ("host", "meters"):
                if await page.locator(f"#{name}:not([open]) > summary").is_visible():
                    await page.locator(f"#{name} > summary").click()
            await expect(page.locator("#meter-cards, #tiles").first).to_be_attached()
            if role != "tryout":
                await until_page(page, PLAYING)
            assert await page.evaluate(OVERFLOW) == 0, f"view of the {role}"
            small = await page.evaluate("""() => [...document.querySelectorAll(
                "button, select, input[type=range], summary, .segments label")].filter((node) =>
                node.checkVisibility() && node.getBoundingClientRect().height < 30)
                .map((node) => node.outerHTML)""")
            assert small == [], "too small for a finger"


def wav(seconds: float) -> bytes:
    """A tone as a WAV file, 48 kHz mono, RMS 0.2."""
    at = np.arange(round(48_000 * seconds)) / 48_000
    samples = LEVEL * math.sqrt(2) * np.sin(2 * math.pi * 300 * at)
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes((32767 * samples).astype("<i2").tobytes())
    return content.getvalue()
