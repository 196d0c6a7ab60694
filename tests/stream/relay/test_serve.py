"""The whole relay but its media: real HTTP, real processes that pretend to be rooms."""

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client.parser import text_string_to_metric_families

from engine.errors import BundleError, ConfigError
from stream.relay.config import RelaySettings
from stream.relay.front.serve import Relay
from stream.relay.front.tls import tls_context
from stream.relay.refusal import Refusal
from tests.stream.relay.room_mains import OBEDIENT

pytestmark = pytest.mark.unit


class FakeEngine:
    """An engine that only says that it lives."""

    address = "nowhere"
    authkey = b"key"
    restarts = 2

    def __init__(self, error: Exception | None = None) -> None:
        self.alive = False
        self.closed = False
        self.may_start = asyncio.Event()
        self.may_start.set()
        self._error = error

    def facts(self) -> dict[str, Any]:
        return {"capacity": 4, "load": 0.5, "refused": 1}

    async def start(self) -> None:
        await self.may_start.wait()
        if self._error is not None:
            raise self._error
        self.alive = True

    async def close(self) -> None:
        self.alive = False
        self.closed = True


class Served:
    """A relay that runs, and a client for it."""

    def __init__(self, relay: Relay, engine: FakeEngine, client: aiohttp.ClientSession) -> None:
        self.relay, self.engine, self.client = relay, engine, client
        self.rooms = relay._rooms
        self.said: list[str] = []

    async def get(self, path: str) -> tuple[int, Any, Any]:
        async with self.client.get(self.relay.url.rstrip("/") + path) as response:
            kind = response.content_type
            body = await (response.json() if kind == "application/json" else response.text())
            return response.status, body, response.headers

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.01)

    async def listen(self, room: str = "a") -> None:
        await self.rooms.ask(room, "publish", start=True, offer="x", resource="p")
        await self.rooms.ask(room, "listen", offer="x", resource="l")
        await self.until(lambda: self.rooms.listeners > 0)


@asynccontextmanager
async def serving(
    engine: FakeEngine | None = None, *, ready: bool = True, **settings: Any
) -> AsyncIterator[tuple[Served, asyncio.Task[None]]]:
    engine = engine or FakeEngine()
    said: list[str] = []
    given: dict[str, Any] = {"port": 0, "log_format": "json"} | settings
    chosen = RelaySettings(**given)
    relay = Relay(chosen, engine, said.append, room_main=OBEDIENT)
    running = asyncio.create_task(relay.run())
    connector = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(connector=connector) as client:
        served = Served(relay, engine, client)
        served.said = said
        try:
            await served.until(lambda: bool(relay.url) or running.done())
            if ready:
                await served.until(lambda: relay._rooms.open or running.done())
            yield served, running
        finally:
            relay.stopping.signal()
            relay.stopping.signal()
            await asyncio.wait([running], timeout=30)
            assert running.done()


async def test_it_says_where_the_page_is_and_how_to_stop_and_is_healthy() -> None:
    async with serving() as (served, _):
        assert f"The page: {served.relay.url}" in served.said
        assert any("Ctrl-C" in line for line in served.said)
        status, health, _ = await served.get("/healthz")
        assert status == 200
        assert health["status"] == "ok"
        assert health["rooms"] == 0
        assert health["engine"] == {"alive": True, "restarts": 2}
        assert (await served.get("/"))[0] == 200


async def test_the_port_is_open_while_it_starts_and_says_so() -> None:
    engine = FakeEngine()
    engine.may_start.clear()
    async with serving(engine, ready=False) as (served, _):
        status, health, headers = await served.get("/healthz")
        assert (status, health["status"]) == (503, "starting")
        assert int(headers["Retry-After"]) > 0
        with pytest.raises(Refusal, match="still starting"):
            await served.rooms.ask("a", "publish", start=True, offer="x", resource="p")
        assert served.said == []
        engine.may_start.set()
        await served.until(lambda: served.rooms.open)
        assert (await served.get("/healthz"))[0] == 200


async def test_a_bundle_that_is_wrong_ends_the_start() -> None:
    async with serving(FakeEngine(BundleError("The bundle is wrong."))) as (served, running):
        with pytest.raises(BundleError, match="is wrong"):
            await running
        assert served.engine.closed


async def test_it_can_be_stopped_while_it_starts() -> None:
    engine = FakeEngine()
    engine.may_start.clear()
    async with serving(engine, ready=False) as (served, running):
        served.relay.stopping.signal()
        await asyncio.wait_for(running, 10)
        assert engine.closed


async def test_metrics_count_rooms_and_their_measurements_even_after_their_end() -> None:
    async with serving() as (served, _):
        await served.listen()
        name = "lipstream_frames_total"

        async def value() -> float:
            _, text, headers = await served.get("/metrics")
            assert headers["Content-Type"].startswith("text/plain")
            families = text_string_to_metric_families(text)
            return sum(s.value for f in families for s in f.samples if s.name == name)

        async with asyncio.timeout(10):
            while await value() < 2:
                await asyncio.sleep(0.05)
        served.rooms.kill_all()
        await served.until(lambda: not len(served.rooms))
        assert await value() == 2
        text = (await served.get("/metrics"))[1]
        assert 'lipstream_room_ends_total{reason="died"} 1.0' in text


async def test_answers_to_offers_are_counted() -> None:
    async with serving() as (served, _):
        headers = {"Content-Type": "application/sdp"}
        url = f"{served.relay.url}whep/a/ann"
        async with served.client.post(url, data=b"nonsense", headers=headers) as response:
            assert response.status == 400
        text = (await served.get("/metrics"))[1]
        assert 'lipstream_session_admission_total{result="bad_sdp"} 1.0' in text


async def test_a_drain_admits_nobody_and_ends_when_the_last_listener_has_left() -> None:
    async with serving(drain_s=60.0) as (served, running):
        await served.listen()
        served.relay.stopping.signal()
        await served.until(lambda: served.rooms.draining)
        status, health, headers = await served.get("/healthz")
        assert (status, health["status"], health["listeners"]) == (503, "draining", 1)
        assert "Retry-After" in headers
        with pytest.raises(Refusal, match="about to stop"):
            await served.rooms.ask("b", "publish", start=True, offer="x", resource="q")
        assert any("Stopping when the last of 1 listeners" in line for line in served.said)
        assert not running.done()
        await served.rooms.ask("a", "end", resource="l")
        await asyncio.wait_for(running, 20)
        assert served.rooms.endings == {"closed": 1}
        assert served.engine.closed


async def test_a_drain_does_not_wait_longer_than_it_may() -> None:
    async with serving(drain_s=0.3) as (served, running):
        await served.listen()
        served.relay.stopping.signal()
        await asyncio.wait_for(running, 20)
        assert served.rooms.endings == {"closed": 1}


async def test_a_second_signal_ends_at_once() -> None:
    async with serving(drain_s=60.0) as (served, running):
        await served.listen()
        served.relay.stopping.signal()
        await served.until(lambda: served.rooms.draining)
        assert not running.done()
        served.relay.stopping.signal()
        await asyncio.wait_for(running, 10)


@pytest.mark.skipif(sys.platform == "win32", reason="a process there can't signal itself so")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_stop_it_and_are_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    async with serving() as (_, running):
        os.kill(os.getpid(), number)
        await asyncio.wait_for(running, 10)
    assert signal.getsignal(number) is before


async def test_a_port_that_is_taken_is_said() -> None:
    async with serving() as (served, _):
        port = int(served.relay.url.rsplit(":", 1)[1].rstrip("/"))
        second = Relay(
            RelaySettings(port=port, log_format="json"), FakeEngine(), served.said.append
        )
        with pytest.raises(ConfigError, match=f"Port {port} is taken"):
            await second.run()


async def test_rooms_are_told_what_they_read() -> None:
    from stream.relay.room.process import RoomOptions  # loads much

    translators = ("a/ann/de=ws://127.0.0.1:9/x",)
    settings = RelaySettings(
        translators=translators, delay_ms=500, badge=False, most_listeners_per_room=7
    )
    options = Relay(settings, FakeEngine(), print)._options("a")
    read = RoomOptions.from_json(options)
    assert read.to_json() == options
    assert (read.delay_s, read.badge, read.most_peers) == (0.5, False, 7)
    assert read.engine_key == FakeEngine.authkey
    assert read.translators[0].fits("a", "ann")


# TLS


def make_certificate(folder: Path, *, password: bytes | None = None) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption)
    )
    (folder / "key.pem").chmod(0o600)
    return folder / "cert.pem", folder / "key.pem"


async def test_it_serves_tls(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path / "a")
    async with serving(tls_cert=certificate, tls_key=key) as (served, _):
        assert served.relay.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(certificate))
        url = f"{served.relay.url}healthz"
        async with served.client.get(url, ssl=trusting) as response:
            assert response.status == 200


def test_a_certificate_that_can_not_be_used_is_said_in_a_sentence(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path / "a")
    _, other = make_certificate(tmp_path / "b")
    _, locked = make_certificate(tmp_path / "c", password=b"password")
    (tmp_path / "text").write_text("nothing of the kind")
    for pair, sentence in (
        ((certificate, other), "does not belong to the certificate"),
        ((certificate, locked), "has a password"),
        ((tmp_path / "nowhere", key), r"nowhere can't be read"),
        ((certificate, tmp_path / "nowhere"), r"nowhere can't be read"),
        ((tmp_path, key), "can't be read"),
        ((tmp_path / "text", key), "no certificate with its key"),
        ((certificate, None), "no certificate with its key"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            tls_context(*pair)
